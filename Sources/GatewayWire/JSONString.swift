// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Where a JSON string literal stands in a message: checked, not decoded (RFC 8259 §7).
///
/// All functions take the bytes that the string was found in; with other bytes the answer means nothing, but a range
/// that does not fit stops the process as any subscript out of bounds does.
package struct JSONString: Hashable, Sendable {
    // 32 bits keep envelopes small; the scanner takes no longer texts.
    private let start: UInt32
    private let end: UInt32
    /// Whether ``content`` has a backslash, so that it must be decoded before it is compared or shown.
    package let isEscaped: Bool

    @inline(__always)
    package init(content: Range<Int>, isEscaped: Bool) {
        self.start = UInt32(clamping: content.lowerBound)
        self.end = UInt32(clamping: content.upperBound)
        self.isEscaped = isEscaped
    }

    /// The bytes between the quotes, as written.
    package var content: Range<Int> { Int(self.start)..<max(Int(self.start), Int(self.end)) }

    /// The literal with its quotes.
    package var literal: Range<Int> { self.content.lowerBound - 1..<self.content.upperBound + 1 }

    /// Whether the decoded string is exactly `plain`, byte for byte; allocates nothing.
    @inline(__always)
    package func equals(_ plain: StaticString, in bytes: Span<UInt8>) -> Bool {
        if self.isEscaped { return self.decodedEquals(plain, in: bytes) }
        return self.end &- self.start == UInt32(truncatingIfNeeded: plain.utf8CodeUnitCount)
            && self.rawEquals(plain, in: bytes)
    }

    /// Whether the decoded string is exactly `plain`, byte for byte; allocates nothing.
    package func equals(_ plain: Span<UInt8>, in bytes: Span<UInt8>) -> Bool {
        if !self.isEscaped { return equalBytes(bytes.extracting(self.content), plain) }
        var reader = JSONStringReader(self)
        var index = 0
        while let byte = reader.next(in: bytes) {
            guard index < plain.count, plain[index] == byte else { return false }
            index += 1
        }
        return index == plain.count
    }

    /// Whether two strings, each in its own bytes, decode to the same; allocates nothing.
    package func equals(_ other: JSONString, in otherBytes: Span<UInt8>, own bytes: Span<UInt8>) -> Bool {
        if !self.isEscaped, !other.isEscaped {
            return equalBytes(bytes.extracting(self.content), otherBytes.extracting(other.content))
        }
        var own = JSONStringReader(self)
        var theirs = JSONStringReader(other)
        while true {
            let byte = own.next(in: bytes)
            if byte != theirs.next(in: otherBytes) { return false }
            if byte == nil { return true }
        }
    }

    /// The decoded string; an escaped lone surrogate becomes U+FFFD.
    ///
    /// Swift compares strings by canonical equivalence, so that two of different bytes can be equal: where that
    /// matters, compare with ``equals(_:in:)`` or by ``decodedBytes(in:)``.
    package func decoded(in bytes: Span<UInt8>) -> String {
        if !self.isEscaped {
            return bytes.extracting(self.content).withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) }
        }
        return String(decoding: self.decodedBytes(in: bytes), as: UTF8.self)
    }

    /// The decoded string as UTF-8; an escaped lone surrogate keeps its own three bytes (`ED A0 80` and on), which no
    /// other string has.
    package func decodedBytes(in bytes: Span<UInt8>) -> [UInt8] {
        var decoded: [UInt8] = []
        decoded.reserveCapacity(self.content.count)
        var reader = JSONStringReader(self)
        while let byte = reader.next(in: bytes) { decoded.append(byte) }
        return decoded
    }

    /// Compares the content as written with a text of the same length.
    private func rawEquals(_ plain: StaticString, in bytes: Span<UInt8>) -> Bool {
        // The pointer of a static string is valid for the life of the process, and the span has its count.
        let text = UnsafeBufferPointer(start: plain.utf8Start, count: plain.utf8CodeUnitCount)
        return equalBytes(bytes.extracting(self.content), text.span)
    }

    private func decodedEquals(_ plain: StaticString, in bytes: Span<UInt8>) -> Bool {
        var reader = JSONStringReader(self)
        var index = 0
        while let byte = reader.next(in: bytes) {
            guard index < plain.utf8CodeUnitCount, plain.utf8Start[index] == byte else { return false }
            index += 1
        }
        return index == plain.utf8CodeUnitCount
    }

    /// Whether the only escapes are `\/`, which PHP's encoder writes for every slash.
    func hasOnlyEscapedSlashes(in bytes: Span<UInt8>) -> Bool {
        var index = self.content.lowerBound
        while index < self.content.upperBound {
            if bytes[index] == UInt8(ascii: "\\") {
                index += 1
                guard index < self.content.upperBound, bytes[index] == UInt8(ascii: "/") else { return false }
            }
            index += 1
        }
        return true
    }
}

/// Whether two pieces of text are the same, byte for byte; by words, of which the last two may overlap.
@inline(__always)
func equalBytes(_ left: Span<UInt8>, _ right: Span<UInt8>) -> Bool {
    let count = left.count
    guard count == right.count else { return false }
    if count >= 8 { return equalWords(left.bytes, right.bytes, UInt64.self) }
    if count >= 4 { return equalWords(left.bytes, right.bytes, UInt32.self) }
    for index in 0..<count where left[index] != right[index] { return false }
    return true
}

@inline(__always)
private func equalWords<Word: FixedWidthInteger & BitwiseCopyable>(
    _ left: RawSpan,
    _ right: RawSpan,
    _ type: Word.Type
) -> Bool {
    let last = left.byteCount - MemoryLayout<Word>.size
    var index = 0
    while index < last {
        if left.unsafeLoadUnaligned(fromByteOffset: index, as: type)
            != right.unsafeLoadUnaligned(fromByteOffset: index, as: type)
        {
            return false
        }
        index += MemoryLayout<Word>.size
    }
    return left.unsafeLoadUnaligned(fromByteOffset: last, as: type)
        == right.unsafeLoadUnaligned(fromByteOffset: last, as: type)
}

/// Reads the decoded bytes of a checked JSON string one after the other.
struct JSONStringReader {
    private var index: Int
    private let end: Int
    /// Bytes of a scalar that an escape stood for and that are still to be given out, the next one lowest.
    private var pending: UInt32 = 0

    init(_ string: JSONString) {
        self.index = string.content.lowerBound
        self.end = string.content.upperBound
    }

    /// The next byte; nil at the end.
    @inline(__always)
    mutating func next(in bytes: Span<UInt8>) -> UInt8? {
        if self.pending != 0 {
            let byte = UInt8(truncatingIfNeeded: self.pending)
            self.pending >>= 8
            return byte
        }
        guard self.index < self.end else { return nil }
        let byte = bytes[self.index]
        self.index += 1
        return byte == UInt8(ascii: "\\") ? self.escaped(in: bytes) : byte
    }

    /// Decodes the escape whose backslash was just read; a broken one, which a checked string has not, stands for
    /// itself.
    private mutating func escaped(in bytes: Span<UInt8>) -> UInt8 {
        guard self.index < self.end else { return UInt8(ascii: "\\") }
        let letter = bytes[self.index]
        self.index += 1
        switch letter {
        case UInt8(ascii: "b"): return 0x08
        case UInt8(ascii: "f"): return 0x0c
        case UInt8(ascii: "n"): return 0x0a
        case UInt8(ascii: "r"): return 0x0d
        case UInt8(ascii: "t"): return 0x09
        case UInt8(ascii: "u"): break
        default: return letter
        }
        guard let unit = self.hexUnit(at: self.index, in: bytes) else { return letter }
        self.index += 4
        var scalar = unit
        if (0xd800..<0xdc00).contains(unit), self.index + 1 < self.end, bytes[self.index] == UInt8(ascii: "\\"),
            bytes[self.index + 1] == UInt8(ascii: "u"), let low = self.hexUnit(at: self.index + 2, in: bytes),
            (0xdc00..<0xe000).contains(low)
        {
            self.index += 6
            scalar = 0x10000 + (unit - 0xd800) << 10 + (low - 0xdc00)
        }
        return self.begin(scalar)
    }

    /// The first byte of the UTF-8 form of `scalar` (a lone surrogate included); the others become pending.
    private mutating func begin(_ scalar: UInt32) -> UInt8 {
        func trailing(_ shift: UInt32) -> UInt32 { 0x80 | (scalar >> shift) & 0x3f }
        switch scalar {
        case ..<0x80:
            return UInt8(truncatingIfNeeded: scalar)
        case ..<0x800:
            self.pending = trailing(0)
            return UInt8(truncatingIfNeeded: 0xc0 | scalar >> 6)
        case ..<0x10000:
            self.pending = trailing(6) | trailing(0) << 8
            return UInt8(truncatingIfNeeded: 0xe0 | scalar >> 12)
        default:
            self.pending = trailing(12) | trailing(6) << 8 | trailing(0) << 16
            return UInt8(truncatingIfNeeded: 0xf0 | scalar >> 18)
        }
    }

    private func hexUnit(at start: Int, in bytes: Span<UInt8>) -> UInt32? {
        guard start + 4 <= self.end else { return nil }
        var unit: UInt32 = 0
        for offset in 0..<4 {
            guard let digit = hexDigitValue(bytes[start + offset]) else { return nil }
            unit = unit << 4 | UInt32(digit)
        }
        return unit
    }
}

/// The value of a hexadecimal digit in either case; nil for any other byte.
func hexDigitValue(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
}
