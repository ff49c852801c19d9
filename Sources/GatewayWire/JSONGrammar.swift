// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The pieces of the JSON grammar (RFC 8259): each function is told where a piece begins, checks it, and says where it
/// ends.
///
/// They read eight bytes at a time where that pays, through loads that are checked like any other subscript.
enum JSONGrammar {
    /// A string; `position` should be its opening quote.
    @inline(__always)
    static func afterString(
        at position: Int,
        in bytes: Span<UInt8>
    ) throws(JSONError) -> (position: Int, isEscaped: Bool) {
        guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else {
            throw self.unexpected(at: position, in: bytes)
        }
        var position = position + 1
        var isEscaped = false
        let raw = bytes.bytes
        while true {
            while position + 8 <= raw.byteCount {
                let hits = self.special(in: raw.unsafeLoadUnaligned(fromByteOffset: position, as: UInt64.self))
                if hits != 0 {
                    position += hits.trailingZeroBitCount / 8
                    break
                }
                position += 8
            }
            guard position < bytes.count else { throw JSONError(.unexpectedEnd, at: bytes.count) }
            let byte = bytes[position]
            if byte == UInt8(ascii: "\"") { return (position + 1, isEscaped) }
            if byte == UInt8(ascii: "\\") {
                isEscaped = true
                position = try self.afterEscape(at: position, in: bytes)
            } else if byte >= 0x80 {
                position = try self.afterMultibyte(at: position, in: bytes)
            } else if byte >= 0x20 {
                position += 1
            } else {
                throw JSONError(.controlCharacter, at: position)
            }
        }
    }

    /// Marks, of eight bytes, the first that is a quote, a backslash, a control character or not ASCII.
    ///
    /// The mark is the highest bit of a byte's lane, and the first byte of the text has the lowest lane; 0 if there is
    /// no such byte. Bit tricks: a subtraction borrows from the lanes above it, so that marks above the first may be
    /// wrong, but never the first.
    @inline(__always)
    private static func special(in word: UInt64) -> UInt64 {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let text = UInt64(littleEndian: word)
        let quote = text ^ (ones &* UInt64(UInt8(ascii: "\"")))
        let backslash = text ^ (ones &* UInt64(UInt8(ascii: "\\")))
        return (((quote &- ones) & ~quote) | ((backslash &- ones) & ~backslash) | (text &- (ones &* 0x20)) | text)
            & (ones &* 0x80)
    }

    /// A key with its colon and the white space around that.
    @inline(__always)
    static func afterKey(at position: Int, in bytes: Span<UInt8>) throws(JSONError) -> Int {
        try self.afterColon(at: try self.afterString(at: position, in: bytes).position, in: bytes)
    }

    /// A colon with the white space around it.
    @inline(__always)
    static func afterColon(at position: Int, in bytes: Span<UInt8>) throws(JSONError) -> Int {
        let colon = self.afterWhiteSpace(at: position, in: bytes)
        guard colon < bytes.count, bytes[colon] == UInt8(ascii: ":") else {
            throw self.unexpected(at: colon, in: bytes)
        }
        return self.afterWhiteSpace(at: colon + 1, in: bytes)
    }

    /// White space, which may be none.
    @inline(__always)
    static func afterWhiteSpace(at position: Int, in bytes: Span<UInt8>) -> Int {
        var position = position
        while position < bytes.count {
            let byte = bytes[position]
            if byte > 0x20 || (byte != 0x20 && byte != 0x0a && byte != 0x0d && byte != 0x09) { break }
            position += 1
        }
        return position
    }

    /// A number (RFC 8259 §6).
    @inline(__always)
    static func afterNumber(
        at position: Int,
        in bytes: Span<UInt8>
    ) throws(JSONError) -> (position: Int, isInteger: Bool) {
        var position = position
        if bytes[position] == UInt8(ascii: "-") { position += 1 }
        if position < bytes.count, bytes[position] == UInt8(ascii: "0") {
            position += 1
        } else {
            position = try self.afterDigits(at: position, in: bytes)
        }
        guard position < bytes.count else { return (position, true) }
        let byte = bytes[position]
        if byte != UInt8(ascii: "."), byte | 0x20 != UInt8(ascii: "e") { return (position, true) }
        return (try self.afterFraction(at: position, in: bytes), false)
    }

    /// One of `true`, `false` and `null`.
    static func afterWord(at position: Int, in bytes: Span<UInt8>) throws(JSONError) -> Int {
        guard position < bytes.count else { throw self.unexpected(at: position, in: bytes) }
        let word: StaticString
        switch bytes[position] {
        case UInt8(ascii: "n"): word = "null"
        case UInt8(ascii: "t"): word = "true"
        case UInt8(ascii: "f"): word = "false"
        default: throw self.unexpected(at: position, in: bytes)
        }
        for offset in 0..<word.utf8CodeUnitCount {
            // The pointer of a static string is valid for the life of the process and `offset` is below its count.
            guard position + offset < bytes.count, bytes[position + offset] == word.utf8Start[offset] else {
                throw self.unexpected(at: position + offset, in: bytes)
            }
        }
        return position + word.utf8CodeUnitCount
    }

    /// Says what is wrong with the byte at `position`, which fits no rule.
    @inline(never)
    static func unexpected(at position: Int, in bytes: Span<UInt8>) -> JSONError {
        guard position < bytes.count else { return JSONError(.unexpectedEnd, at: bytes.count) }
        if position == 0, bytes.count >= 3, bytes[0] == 0xef, bytes[1] == 0xbb, bytes[2] == 0xbf {
            return JSONError(.byteOrderMark, at: 0)
        }
        return JSONError(.unexpectedByte, at: position)
    }

    /// Fraction and exponent of a number, of which there is at least one.
    private static func afterFraction(at position: Int, in bytes: Span<UInt8>) throws(JSONError) -> Int {
        var position = position
        if bytes[position] == UInt8(ascii: ".") { position = try self.afterDigits(at: position + 1, in: bytes) }
        guard position < bytes.count, bytes[position] | 0x20 == UInt8(ascii: "e") else { return position }
        position += 1
        if position < bytes.count, bytes[position] == UInt8(ascii: "+") || bytes[position] == UInt8(ascii: "-") {
            position += 1
        }
        return try self.afterDigits(at: position, in: bytes)
    }

    /// One digit or more.
    @inline(__always)
    private static func afterDigits(at start: Int, in bytes: Span<UInt8>) throws(JSONError) -> Int {
        var position = start
        while position < bytes.count, bytes[position] &- UInt8(ascii: "0") < 10 { position += 1 }
        guard position > start else { throw self.unexpected(at: position, in: bytes) }
        return position
    }

    /// An escape (RFC 8259 §7); `position` is its backslash.
    @inline(__always)
    private static func afterEscape(at position: Int, in bytes: Span<UInt8>) throws(JSONError) -> Int {
        guard position + 1 < bytes.count else { throw JSONError(.unexpectedEnd, at: bytes.count) }
        switch bytes[position + 1] {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
            UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
            return position + 2
        case UInt8(ascii: "u"):
            guard position + 6 <= bytes.count else { throw JSONError(.unexpectedEnd, at: bytes.count) }
            for index in position + 2..<position + 6 where hexDigitValue(bytes[index]) == nil {
                throw JSONError(.brokenEscape, at: index)
            }
            return position + 6
        default:
            throw JSONError(.brokenEscape, at: position + 1)
        }
    }

    /// Scalars beyond ASCII in UTF-8 (RFC 3629 §4), one or more.
    private static func afterMultibyte(at position: Int, in bytes: Span<UInt8>) throws(JSONError) -> Int {
        var position = position
        while position < bytes.count, bytes[position] >= 0x80 {
            let length: Int
            // The range of the second byte keeps out overlong forms, surrogates and what lies beyond U+10FFFF.
            var second: ClosedRange<UInt8> = 0x80...0xbf
            switch bytes[position] {
            case 0xc2...0xdf:
                length = 2
            case 0xe0...0xef:
                length = 3
                if bytes[position] == 0xe0 { second = 0xa0...0xbf }
                if bytes[position] == 0xed { second = 0x80...0x9f }
            case 0xf0...0xf4:
                length = 4
                if bytes[position] == 0xf0 { second = 0x90...0xbf }
                if bytes[position] == 0xf4 { second = 0x80...0x8f }
            default:
                throw JSONError(.notUTF8, at: position)
            }
            guard position + length <= bytes.count else { throw JSONError(.unexpectedEnd, at: bytes.count) }
            guard second.contains(bytes[position + 1]),
                length < 3 || bytes[position + 2] & 0xc0 == 0x80,
                length < 4 || bytes[position + 3] & 0xc0 == 0x80
            else { throw JSONError(.notUTF8, at: position) }
            position += length
        }
        return position
    }
}
