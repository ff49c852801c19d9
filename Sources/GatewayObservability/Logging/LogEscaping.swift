// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Makes any bytes harmless to whoever reads a log, a program or a person at a terminal (faults S13.1).
///
/// Escaped are all control characters (C0, DEL, C1), the line and paragraph separators, everything that changes the
/// direction of text, the byte order mark, and every byte that is not part of well-formed UTF-8.
enum LogEscaping {
    /// What the text is put into.
    enum Style {
        /// A JSON string: quotes and backslashes are escaped (RFC 8259 §7). A bad byte is `\\xHH`.
        case json
        /// A quoted value for people: the same, but a bad byte is `\xHH`.
        case quoted
        /// No quotes around it: quotes and backslashes are as they are.
        case bare
    }

    private static let hexDigits = Array("0123456789abcdef".utf8)

    /// Appends as much of the text as fits, never a part of a character or of an escape.
    ///
    /// - Parameters:
    ///   - text: any bytes.
    ///   - output: gets the escaped text.
    ///   - limit: what `output` must not grow beyond.
    ///   - style: what the text is put into.
    /// - Returns: whether all of it fitted.
    static func append(_ text: Span<UInt8>, to output: inout [UInt8], limit: Int, style: Style) -> Bool {
        var index = 0
        while index < text.count {
            // Nearly every text is one run of bytes that stay as they are.
            let run = Self.plainRun(in: text, from: index, atMost: limit - output.count)
            if run > 0 {
                text.extracting(index..<(index + run)).withUnsafeBufferPointer { output.append(contentsOf: $0) }
                index += run
                continue
            }
            let byte = text[index]
            let before = output.count
            var length = 1
            if byte < 0x80 {
                Self.append(ascii: byte, to: &output, style)
            } else {
                let (scalar, count) = Self.scalar(in: text, at: index)
                length = count
                if let scalar {
                    if Self.isHidden(scalar) {
                        Self.append(escape: scalar, to: &output)
                    } else {
                        for offset in 0..<count { output.append(text[index + offset]) }
                    }
                } else {
                    output.append(contentsOf: style == .json ? "\\\\x".utf8 : "\\x".utf8)
                    Self.append(hex: UInt32(byte), digits: 2, to: &output)
                }
            }
            if output.count > limit {
                output.removeLast(output.count - before)
                return false
            }
            index += length
        }
        return true
    }

    /// Whether a value needs no quotes around it: not empty, and nothing in it that separates or is escaped.
    static func isBare(_ text: Span<UInt8>) -> Bool {
        guard !text.isEmpty else { return false }
        return text.indices.allSatisfy { index in
            switch text[index] {
            case 0x21...0x7e:
                text[index] != UInt8(ascii: "\"") && text[index] != UInt8(ascii: "=")
                    && text[index] != UInt8(ascii: "\\")
            default:
                false
            }
        }
    }

    private static func plainRun(in text: Span<UInt8>, from start: Int, atMost limit: Int) -> Int {
        var index = start
        let end = min(text.count, limit > text.count - start ? text.count : start + max(0, limit))
        while index < end {
            let byte = text[index]
            if byte < 0x20 || byte > 0x7e || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { break }
            index += 1
        }
        return index - start
    }

    private static func append(ascii byte: UInt8, to output: inout [UInt8], _ style: Style) {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"):
            if style != .bare { output.append(UInt8(ascii: "\\")) }
            output.append(byte)
        case 0x20...0x7e: output.append(byte)
        case UInt8(ascii: "\n"): output.append(contentsOf: "\\n".utf8)
        case UInt8(ascii: "\r"): output.append(contentsOf: "\\r".utf8)
        case UInt8(ascii: "\t"): output.append(contentsOf: "\\t".utf8)
        default: Self.append(escape: UInt32(byte), to: &output)
        }
    }

    /// `\uHHHH`; what is hidden lies below U+10000.
    private static func append(escape scalar: UInt32, to output: inout [UInt8]) {
        output.append(contentsOf: "\\u".utf8)
        Self.append(hex: scalar, digits: 4, to: &output)
    }

    private static func append(hex value: UInt32, digits: Int, to output: inout [UInt8]) {
        for digit in (0..<digits).reversed() {
            output.append(Self.hexDigits[Int(value >> UInt32(digit * 4)) & 15])
        }
    }

    private static func isHidden(_ scalar: UInt32) -> Bool {
        switch scalar {
        case 0x80...0x9f, 0x61c, 0x200e, 0x200f, 0x2028...0x202e, 0x2066...0x2069, 0xfeff: true
        default: false
        }
    }

    /// The scalar that begins at `index` and its bytes; nil and one byte if it is not well formed (Unicode, table 3-7).
    private static func scalar(in text: Span<UInt8>, at index: Int) -> (UInt32?, Int) {
        let first = text[index]
        let count: Int
        var second: ClosedRange<UInt8> = 0x80...0xbf
        switch first {
        case 0xc2...0xdf: count = 2
        case 0xe0: (count, second) = (3, 0xa0...0xbf)
        case 0xed: (count, second) = (3, 0x80...0x9f)
        case 0xe1...0xef: count = 3
        case 0xf0: (count, second) = (4, 0x90...0xbf)
        case 0xf4: (count, second) = (4, 0x80...0x8f)
        case 0xf1...0xf3: count = 4
        default: return (nil, 1)
        }
        guard index + count <= text.count, second.contains(text[index + 1]) else { return (nil, 1) }
        var scalar = (UInt32(first) & (0x7f >> UInt32(count))) << 6 | UInt32(text[index + 1] & 0x3f)
        for offset in 2..<max(2, count) {
            guard text[index + offset] & 0xc0 == 0x80 else { return (nil, 1) }
            scalar = scalar << 6 | UInt32(text[index + offset] & 0x3f)
        }
        return (scalar, count)
    }
}
