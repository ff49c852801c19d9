// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Durations as the configuration writes them: Go's grammar (`"30s"`, `"250ms"`, `"1h30m"`), or a bare whole number.
package enum DurationText {
    /// The longest duration accepted, a year, in nanoseconds.
    static let longest: Int128 = 365 * 24 * 60 * 60 * 1_000_000_000
    /// From here on a bare number is the Go program's nanoseconds, below it is milliseconds (contract §2).
    static let firstNanoseconds = 10_000_000

    /// Reads Go's grammar: a sign, then numbers with a unit each (`ns`, `us`, `µs`, `ms`, `s`, `m`, `h`), or `0`.
    ///
    /// Gives nanoseconds, possibly negative; nil if the text is none.
    package static func nanoseconds(_ text: String) -> Int128? {
        var rest = Substring(text)
        let isNegative = rest.hasPrefix("-")
        if isNegative || rest.hasPrefix("+") { rest = rest.dropFirst() }
        if rest == "0" { return 0 }
        guard !rest.isEmpty else { return nil }
        var total: Int128 = 0
        while !rest.isEmpty {
            let digits = rest.prefix { Self.isDigit($0) }
            rest = rest.dropFirst(digits.count)
            var fraction = Substring("")
            if rest.hasPrefix(".") {
                rest = rest.dropFirst()
                fraction = rest.prefix { Self.isDigit($0) }
                rest = rest.dropFirst(fraction.count)
            }
            guard !(digits.isEmpty && fraction.isEmpty), digits.count <= 18 else { return nil }
            let name = rest.prefix { $0 != "." && !Self.isDigit($0) }
            guard let unit = Self.units[String(name)] else { return nil }
            rest = rest.dropFirst(name.count)
            total += (Int128(digits) ?? 0) * unit
            // More digits than these are less than a nanosecond.
            let significant = fraction.prefix(15)
            total += (Int128(significant) ?? 0) * unit / Self.power(of: significant.count)
        }
        return isNegative ? -total : total
    }

    /// Writes a duration the way the configuration reads it, such as `1m30s`; exact to the millisecond.
    static func describe(_ duration: Duration) -> String {
        let (seconds, attoseconds) = duration.components
        let milliseconds = attoseconds / 1_000_000_000_000_000
        guard seconds > 0 || milliseconds > 0 else { return "0s" }
        guard seconds > 0 else { return "\(milliseconds)ms" }
        var text = ""
        if seconds >= 3_600 { text += "\(seconds / 3_600)h" }
        if seconds % 3_600 >= 60 { text += "\(seconds % 3_600 / 60)m" }
        if seconds % 60 > 0 { text += "\(seconds % 60)s" }
        if milliseconds > 0 { text += "\(milliseconds)ms" }
        return text
    }

    private static let units: [String: Int128] = [
        "ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000,
        "h": 3_600_000_000_000,
    ]

    private static func isDigit(_ character: Character) -> Bool { ("0"..."9").contains(character) && character.isASCII }

    private static func power(of digits: Int) -> Int128 {
        (0..<digits).reduce(1) { power, _ in power * 10 }
    }
}
