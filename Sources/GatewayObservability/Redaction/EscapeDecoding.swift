// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A text with its escapes undone, and where each byte came from.
///
/// What is no whole escape stays as it is. A secret is found in this form however much of it was escaped.
struct EscapeDecoding {
    /// Which escapes are undone: one kind at a time, since a secret may have in it what looks like the other.
    enum Kind: CaseIterable {
        /// Percent-encoding in any mixture of cases (RFC 3986 §2.1).
        case percent
        /// The escapes of a JSON string (RFC 8259 §7), and `\xHH`.
        case backslash

        fileprivate var first: UInt8 { self == .percent ? UInt8(ascii: "%") : UInt8(ascii: "\\") }
    }

    private(set) var bytes: [UInt8] = []
    /// The offset in the source of each byte, and at the end the length of the source.
    private(set) var origins: [Int] = []

    /// nil: the text has no escape of this kind.
    init?(_ text: Span<UInt8>, undoing kind: Kind) {
        let first = kind.first
        guard text.indices.contains(where: { text[$0] == first }) else { return nil }
        self.bytes.reserveCapacity(text.count)
        self.origins.reserveCapacity(text.count + 1)
        var hasEscape = false
        var index = 0
        while index < text.count {
            let length = text[index] == first ? self.appendEscape(in: text, at: index) : 0
            if length == 0 {
                self.append(text[index], from: index)
                index += 1
            } else {
                hasEscape = true
                index += length
            }
        }
        guard hasEscape else { return nil }
        self.origins.append(text.count)
    }

    /// The bytes in the source that became these.
    func source(of range: Range<Int>) -> Range<Int> {
        self.origins[range.lowerBound]..<self.origins[range.upperBound]
    }

    private mutating func append(_ byte: UInt8, from index: Int) {
        self.bytes.append(byte)
        self.origins.append(index)
    }

    /// Appends what an escape stands for and gives its length; 0: there is none.
    private mutating func appendEscape(in text: Span<UInt8>, at index: Int) -> Int {
        if text[index] == UInt8(ascii: "%") {
            guard let value = Self.hex(in: text, from: index + 1, digits: 2) else { return 0 }
            self.append(UInt8(truncatingIfNeeded: value), from: index)
            return 3
        }
        guard index + 1 < text.count else { return 0 }
        let plain: UInt8
        switch text[index + 1] {
        case UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "\""): plain = text[index + 1]
        case UInt8(ascii: "b"): plain = 0x08
        case UInt8(ascii: "t"): plain = 0x09
        case UInt8(ascii: "n"): plain = 0x0a
        case UInt8(ascii: "f"): plain = 0x0c
        case UInt8(ascii: "r"): plain = 0x0d
        case UInt8(ascii: "x"):
            guard let value = Self.hex(in: text, from: index + 2, digits: 2) else { return 0 }
            self.append(UInt8(truncatingIfNeeded: value), from: index)
            return 4
        case UInt8(ascii: "u"): return self.appendScalar(in: text, at: index)
        default: return 0
        }
        self.append(plain, from: index)
        return 2
    }

    /// Appends the UTF-8 of `\uHHHH`, or of a pair of surrogates; a lone surrogate is no escape.
    private mutating func appendScalar(in text: Span<UInt8>, at index: Int) -> Int {
        guard var value = Self.hex(in: text, from: index + 2, digits: 4) else { return 0 }
        var length = 6
        if (0xd800..<0xdc00).contains(value), index + 7 < text.count, text[index + 6] == UInt8(ascii: "\\"),
            text[index + 7] == UInt8(ascii: "u"), let low = Self.hex(in: text, from: index + 8, digits: 4),
            (0xdc00..<0xe000).contains(low)
        {
            value = 0x10000 + (value - 0xd800) << 10 + (low - 0xdc00)
            length = 12
        }
        guard let scalar = Unicode.Scalar(value) else { return 0 }
        for byte in UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter { self.append(byte, from: index) }
        return length
    }

    private static func hex(in text: Span<UInt8>, from start: Int, digits: Int) -> UInt32? {
        guard start + digits <= text.count else { return nil }
        var value: UInt32 = 0
        for index in start..<(start + digits) {
            let digit: UInt8
            switch text[index] {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = text[index] - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = text[index] - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = text[index] - UInt8(ascii: "A") + 10
            default: return nil
            }
            value = value << 4 | UInt32(digit)
        }
        return value
    }
}
