// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Finds the lines of a stdio transport in bytes that come in any pieces (MCP, Transports, stdio).
///
/// The caller keeps what is not consumed yet and shows all of it, with what has come since, at every call; the decoder
/// remembers how far it has looked, so that a long line that comes in small pieces costs no more than one that comes
/// whole.
///
///     while true {
///         switch decoder.next(in: unconsumed) {
///         case .line(let range, let length): take the bytes in range, consume length bytes
///         case .ignored(let length): consume length bytes
///         case .needsMore: wait for bytes; at their end `finish` tells of a last line without its end
///         case .tooLong: give the stream up
///         }
///     }
///
/// A line ends with LF and with nothing else: inside a JSON text U+2028, U+0085 and a lone CR are data. A CR right
/// before the LF is not part of the line. Lines of white space only are skipped.
package struct LineDecoder: Sendable {
    package enum Step: Hashable, Sendable {
        /// A line without its end, never empty; `length` bytes are to be consumed for it.
        case line(Range<Int>, length: Int)
        /// Bytes that mean nothing: blank lines, or the byte order mark at the start of the stream.
        case ignored(length: Int)
        /// No line is complete yet.
        case needsMore
        /// A line is longer than ``LineDecoder/maximumLineBytes``: every later call says the same.
        case tooLong
    }

    /// The bytes that a line may have, without its end.
    package let maximumLineBytes: Int

    private var isAtStreamStart = true
    /// Up to where the current line was looked at, from the first unconsumed byte.
    private var position = 0
    private var isTooLong = false

    package init(maximumLineBytes: Int) {
        self.maximumLineBytes = maximumLineBytes
    }

    /// Takes one step in `bytes`: everything from the end of what the last step consumed.
    ///
    /// After a step that consumed nothing, `bytes` begins with the same bytes again.
    package mutating func next(in bytes: Span<UInt8>) -> Step {
        if self.isTooLong { return .tooLong }
        if self.isAtStreamStart, let step = self.firstStep(in: bytes) { return step }
        var start = 0
        while true {
            let end = Self.lineFeed(from: self.position, in: bytes)
            self.position = end
            guard end < bytes.count else {
                if start > 0 { return self.ignore(start) }
                // A CR at the end may belong to the line end.
                let isWithinLimit = Self.content(0..<end, in: bytes).count <= self.maximumLineBytes
                return isWithinLimit ? .needsMore : self.giveUp()
            }
            let line = Self.content(start..<end, in: bytes)
            if line.count > self.maximumLineBytes { return start > 0 ? self.ignore(start) : self.giveUp() }
            self.position = end + 1
            guard Self.isBlank(line, in: bytes) else {
                self.position = 0
                return .line(line, length: end + 1)
            }
            start = end + 1
        }
    }

    /// At the end of the stream: the line in `bytes`, all that is not consumed, that has no end; nil: there is none.
    package func finish(in bytes: Span<UInt8>) -> Range<Int>? {
        guard !self.isTooLong else { return nil }
        let line = Self.content(0..<bytes.count, in: bytes)
        return Self.isBlank(line, in: bytes) ? nil : line
    }

    /// Steps over a byte order mark, once it is known whether there is one; nil: there is none.
    private mutating func firstStep(in bytes: Span<UInt8>) -> Step? {
        for (index, byte) in [0xef, 0xbb, 0xbf].enumerated() {
            guard index < bytes.count else { return .needsMore }
            guard bytes[index] == byte else {
                self.isAtStreamStart = false
                return nil
            }
        }
        self.isAtStreamStart = false
        return .ignored(length: 3)
    }

    private mutating func ignore(_ length: Int) -> Step {
        self.position -= length
        return .ignored(length: length)
    }

    private mutating func giveUp() -> Step {
        self.isTooLong = true
        return .tooLong
    }

    /// The line without a CR at its end.
    private static func content(_ line: Range<Int>, in bytes: Span<UInt8>) -> Range<Int> {
        guard let last = line.last, bytes[last] == 0x0d else { return line }
        return line.lowerBound..<last
    }

    private static func isBlank(_ line: Range<Int>, in bytes: Span<UInt8>) -> Bool {
        for index in line where bytes[index] != 0x20 && bytes[index] != 0x09 && bytes[index] != 0x0d { return false }
        return true
    }

    /// The first LF from `start` on; the end of `bytes` if there is none.
    private static func lineFeed(from start: Int, in bytes: Span<UInt8>) -> Int {
        var position = start
        let raw = bytes.bytes
        let ones: UInt64 = 0x0101_0101_0101_0101
        while position + 8 <= raw.byteCount {
            let text = UInt64(littleEndian: raw.unsafeLoadUnaligned(fromByteOffset: position, as: UInt64.self))
            let difference = text ^ (ones &* 0x0a)
            // Marks above the first may be wrong, as a subtraction borrows, but never the first.
            let hits = (difference &- ones) & ~difference & (ones &* 0x80)
            if hits != 0 { return position + hits.trailingZeroBitCount / 8 }
            position += 8
        }
        while position < bytes.count, bytes[position] != 0x0a { position += 1 }
        return position
    }
}
