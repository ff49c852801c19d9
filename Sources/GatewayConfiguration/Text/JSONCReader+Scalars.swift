// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

extension JSONCReader {
    /// Reads a string; the opening quote is here.
    mutating func readString() throws(Failure) -> String {
        let start = self.position
        self.advance()
        var text: [UInt8] = []
        while let byte = self.peek {
            switch byte {
            case UInt8(ascii: "\""):
                self.advance()
                // The document is valid UTF-8 and escapes add whole scalars.
                return String(decoding: text, as: UTF8.self)
            case UInt8(ascii: "\\"):
                try self.readEscape(into: &text)
            case 0..<0x20:
                throw self.failure(
                    .syntax,
                    "found \(Self.name(of: byte)) inside a string; control characters are written as escapes (\\n, \\t)"
                )
            default:
                text.append(byte)
                self.advance()
            }
        }
        self.position = start
        throw self.failure(.syntax, "this string has no end; expected a closing double quote")
    }

    private mutating func readEscape(into text: inout [UInt8]) throws(Failure) {
        let simple: UInt8
        switch self.peek(at: 1) {
        case UInt8(ascii: "\""): simple = UInt8(ascii: "\"")
        case UInt8(ascii: "\\"): simple = UInt8(ascii: "\\")
        case UInt8(ascii: "/"): simple = UInt8(ascii: "/")
        case UInt8(ascii: "b"): simple = 0x08
        case UInt8(ascii: "f"): simple = 0x0c
        case UInt8(ascii: "n"): simple = 0x0a
        case UInt8(ascii: "r"): simple = 0x0d
        case UInt8(ascii: "t"): simple = 0x09
        case UInt8(ascii: "u"):
            text.append(contentsOf: String(try self.readUnicodeEscape()).utf8)
            return
        default:
            throw self.failure(
                .syntax,
                "found an unknown escape; accepted are \\\" \\\\ \\/ \\b \\f \\n \\r \\t and \\uXXXX"
            )
        }
        text.append(simple)
        self.advance(by: 2)
    }

    /// Reads `\uXXXX`, or two of them that make one scalar (RFC 8259 §7).
    private mutating func readUnicodeEscape() throws(Failure) -> Unicode.Scalar {
        guard let first = self.escapedUnit(at: 0) else {
            throw self.failure(.syntax, "found \\u without four hexadecimal digits")
        }
        if let scalar = Unicode.Scalar(first) {
            self.advance(by: 6)
            return scalar
        }
        guard first < 0xdc00, let second = self.escapedUnit(at: 6), (0xdc00..<0xe000).contains(second),
            let scalar = Unicode.Scalar(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
        else {
            throw self.failure(.syntax, "found half of a surrogate pair; characters beyond U+FFFF take two \\u escapes")
        }
        self.advance(by: 12)
        return scalar
    }

    /// The value of the `\uXXXX` that begins `distance` bytes from here.
    private func escapedUnit(at distance: Int) -> UInt32? {
        guard self.peek(at: distance) == UInt8(ascii: "\\"), self.peek(at: distance + 1) == UInt8(ascii: "u") else {
            return nil
        }
        var unit: UInt32 = 0
        for offset in 2..<6 {
            guard let byte = self.peek(at: distance + offset),
                let digit = Character(Unicode.Scalar(byte)).hexDigitValue, byte < 0x80
            else { return nil }
            unit = unit << 4 | UInt32(digit)
        }
        return unit
    }

    /// Reads a number and keeps its text.
    mutating func readNumber() throws(Failure) -> String {
        let start = self.index
        let place = self.position
        _ = self.consume(UInt8(ascii: "-"))
        let leading = self.peek
        let whole = self.skipDigits()
        var isSound = whole == 1 || (whole > 1 && leading != UInt8(ascii: "0"))
        if self.consume(UInt8(ascii: ".")) { isSound = self.skipDigits() > 0 && isSound }
        if self.consume(UInt8(ascii: "e")) || self.consume(UInt8(ascii: "E")) {
            if !self.consume(UInt8(ascii: "+")) { _ = self.consume(UInt8(ascii: "-")) }
            isSound = self.skipDigits() > 0 && isSound
        }
        if let byte = self.peek, Self.isWordByte(byte) || byte == UInt8(ascii: ".") { isSound = false }
        guard isSound else {
            self.position = place
            throw self.failure(
                .syntax,
                "this is no JSON number; accepted are decimal digits without leading zeros, with a fraction or exponent;"
                    + " text, sizes and durations stand in double quotes"
            )
        }
        return String(decoding: self.bytes[start..<self.index], as: UTF8.self)
    }

    private mutating func skipDigits() -> Int {
        var count = 0
        while let byte = self.peek, Self.isDigit(byte) {
            self.advance()
            count += 1
        }
        return count
    }

    /// Reads `true`, `false` or `null`.
    mutating func readWord() throws(Failure) -> Node.Value {
        let expected = "a string, a number, true, false, null, an array, an object or ${VAR}"
        var end = self.index
        while end < self.bytes.count, Self.isWordByte(self.bytes[end]) { end += 1 }
        let word = self.bytes[self.index..<end]
        let value: Node.Value
        switch String(decoding: word.prefix(6), as: UTF8.self) {
        case "true": value = .boolean(true)
        case "false": value = .boolean(false)
        case "null": value = .null
        // A word could be a secret without its quotes: only these are repeated.
        case "True", "TRUE", "yes", "on": throw self.unexpected(expected, suggestion: "true")
        case "False", "FALSE", "no", "off": throw self.unexpected(expected, suggestion: "false")
        case "None", "nil", "NULL", "Null": throw self.unexpected(expected, suggestion: "null")
        default: throw self.unexpected(expected)
        }
        self.advance(by: word.count)
        return value
    }

    static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

    static func isWordByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
            true
        default:
            false
        }
    }
}
