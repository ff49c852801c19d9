// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The ASCII form of a label with other letters (RFC 3492 §6.3), without the mapping of IDNA.
enum Punycode {
    /// The label after `xn--`; nil for more than 63 letters, which no name has.
    static func encode(_ label: some StringProtocol) -> String? {
        let points = label.unicodeScalars.map(\.value)
        guard points.count <= 63 else { return nil }
        let basic = points.filter { $0 < 0x80 }
        var output = String(label.unicodeScalars.filter(\.isASCII).map(Character.init))
        if !basic.isEmpty { output += "-" }
        var next: UInt32 = 0x80
        var delta = 0
        var bias = 72
        var handled = basic.count
        while handled < points.count, let point = points.lazy.filter({ $0 >= next }).min() {
            // At most 63 letters below 0x110000 each: this stays far below what an Int holds.
            delta += Int(point - next) * (handled + 1)
            next = point
            for candidate in points {
                if candidate < next { delta += 1 }
                guard candidate == next else { continue }
                output += Self.variableLength(delta, bias: bias)
                bias = Self.adapted(delta, count: handled + 1, isFirst: handled == basic.count)
                delta = 0
                handled += 1
            }
            delta += 1
            next += 1
        }
        return output
    }

    private static func variableLength(_ number: Int, bias: Int) -> String {
        var text = ""
        var rest = number
        var position = 36
        while true {
            let threshold = min(max(position - bias, 1), 26)
            guard rest >= threshold else { return text + Self.digit(rest) }
            text += Self.digit(threshold + (rest - threshold) % (36 - threshold))
            rest = (rest - threshold) / (36 - threshold)
            position += 36
        }
    }

    private static func adapted(_ delta: Int, count: Int, isFirst: Bool) -> Int {
        var rest = isFirst ? delta / 700 : delta / 2
        rest += rest / count
        var bias = 0
        while rest > 455 {
            rest /= 35
            bias += 36
        }
        return bias + 36 * rest / (rest + 38)
    }

    /// `a` to `z` for 0 to 25, `0` to `9` for 26 to 35.
    private static func digit(_ value: Int) -> String {
        value < 26 ? String(value + 10, radix: 36) : String(value - 26)
    }
}
