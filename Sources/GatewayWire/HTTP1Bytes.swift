// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Byte classes of RFC 9110 §5.5, §5.6 and comparisons on spans.
///
/// They are computed, not looked up in a table, so that nothing is initialised lazily on the way.
enum HTTP1Bytes {
    static let tab = UInt8(ascii: "\t")
    static let lineFeed = UInt8(ascii: "\n")
    static let carriageReturn = UInt8(ascii: "\r")
    static let space = UInt8(ascii: " ")

    /// Bytes 0x00...0x3f and 0x40...0x7f that may stand in a token: `!#$%&'*+-.0-9` and `A-Z^_` with the backtick,
    /// `a-z|~`.
    private static let lowTokenBytes: UInt64 = 0x03ff_6cfa_0000_0000
    private static let highTokenBytes: UInt64 = 0x57ff_ffff_c7ff_fffe

    /// `tchar` (RFC 9110 §5.6.2).
    @inline(__always)
    static func isToken(_ byte: UInt8) -> Bool {
        let bit = UInt64(1) &<< UInt64(byte & 0x3f)
        return switch byte >> 6 {
        case 0: Self.lowTokenBytes & bit != 0
        case 1: Self.highTokenBytes & bit != 0
        default: false
        }
    }

    /// What may stand in a field value: tab, space, visible ASCII and obs-text (RFC 9110 §5.5).
    @inline(__always)
    static func isFieldValue(_ byte: UInt8) -> Bool {
        (byte >= 0x20 && byte != 0x7f) || byte == Self.tab
    }

    @inline(__always)
    static func isOptionalWhitespace(_ byte: UInt8) -> Bool {
        byte == Self.space || byte == Self.tab
    }

    @inline(__always)
    static func isDigit(_ byte: UInt8) -> Bool {
        byte &- UInt8(ascii: "0") < 10
    }

    /// The value of a hexadecimal digit; nil for anything else.
    @inline(__always)
    static func hexadecimalValue(_ byte: UInt8) -> Int? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): Int(byte &- UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): Int(byte &- UInt8(ascii: "a") &+ 10)
        case UInt8(ascii: "A")...UInt8(ascii: "F"): Int(byte &- UInt8(ascii: "A") &+ 10)
        default: nil
        }
    }

    /// An ASCII letter in lower case; any other byte as it is.
    @inline(__always)
    static func lowercased(_ byte: UInt8) -> UInt8 {
        byte &- UInt8(ascii: "A") < 26 ? byte | 0x20 : byte
    }

    /// The first index from `start` whose byte is a control byte (tab included) or DEL; `end` if there is none.
    ///
    /// Looks at eight bytes at a time: this is where most of a head is passed over.
    @inline(__always)
    static func firstControl(_ bytes: Span<UInt8>, from start: Int, to end: Int) -> Int {
        let raw = bytes.bytes
        var index = start
        while index &+ 8 <= end {
            let word = Self.load(raw, at: index)
            let deletes = word ^ 0x7f7f_7f7f_7f7f_7f7f
            // A borrow runs only upwards from a real hit, so the lowest mark is always exact.
            let below = (word &- 0x2020_2020_2020_2020) & ~word
            let equal = (deletes &- 0x0101_0101_0101_0101) & ~deletes
            let marks = (below | equal) & 0x8080_8080_8080_8080
            if marks != 0 { return index &+ marks.trailingZeroBitCount / 8 }
            index &+= 8
        }
        while index < end {
            let byte = bytes[index]
            if byte < 0x20 || byte == 0x7f { return index }
            index &+= 1
        }
        return end
    }

    /// Eight bytes, the first one lowest.
    ///
    /// The load is bounds-checked.
    @inline(__always)
    static func load(_ bytes: RawSpan, at index: Int) -> UInt64 {
        UInt64(littleEndian: bytes.unsafeLoadUnaligned(fromByteOffset: index, as: UInt64.self))
    }

    /// Up to eight bytes as one number, the first one lowest; 0 for none and for more than eight.
    @inline(__always)
    static func word(_ bytes: Span<UInt8>) -> UInt64 {
        if bytes.count == 8 { return Self.load(bytes.bytes, at: 0) }
        guard bytes.count < 8 else { return 0 }
        var word: UInt64 = 0
        for index in bytes.indices {
            word |= UInt64(bytes[index]) &<< UInt64(8 &* index)
        }
        return word
    }

    /// At most eight ASCII bytes as ``word(_:)-(Span<UInt8>)`` gives them.
    @inline(__always)
    static func word(_ text: StaticString) -> UInt64 {
        text.withUTF8Buffer { bytes in
            var word: UInt64 = 0
            for index in 0..<min(bytes.count, 8) {
                word |= UInt64(bytes[index]) &<< UInt64(8 &* index)
            }
            return word
        }
    }

    /// The part of `range` without spaces and tabs at its ends.
    static func trimmed(_ range: Range<Int>, _ bytes: Span<UInt8>) -> Range<Int> {
        var start = range.lowerBound
        var end = range.upperBound
        while start < end, Self.isOptionalWhitespace(bytes[start]) { start &+= 1 }
        while end > start, Self.isOptionalWhitespace(bytes[end &- 1]) { end &-= 1 }
        return start..<end
    }

    /// Whether two spans are equal in any letter case.
    static func equalsIgnoringCase(_ bytes: Span<UInt8>, _ other: Span<UInt8>) -> Bool {
        guard bytes.count == other.count else { return false }
        for index in bytes.indices where Self.lowercased(bytes[index]) != Self.lowercased(other[index]) {
            return false
        }
        return true
    }

    /// Whether the bytes spell `text`, which is in lower case, in any letter case.
    static func equalsIgnoringCase(_ bytes: Span<UInt8>, _ text: StaticString) -> Bool {
        text.withUTF8Buffer { expected in
            guard bytes.count == expected.count else { return false }
            for index in bytes.indices where Self.lowercased(bytes[index]) != expected[index] { return false }
            return true
        }
    }
}
