// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Finds the data in a chunked body, wherever its bytes may be cut (RFC 9112 §7.1).
///
/// Strict: sizes are one to sixteen hexadecimal digits without anything around them, lines end in CRLF, trailers obey
/// the grammar of fields and are dropped. What is not data is bounded three times: 4 KiB per chunk, 8 KiB of trailers,
/// and, over the whole body, 16 KiB more than what sixteen bytes per chunk and twice the data excuse, so that a peer
/// cannot make us read much for little.
///
/// Usage: call ``next(_:)`` with the bytes that were not consumed yet, drop ``consumed`` bytes, repeat until it says
/// `.needsMore` or `.end`.
package struct HTTP1ChunkedDecoder: Sendable {
    /// What was found in the bytes given.
    package enum Step: Hashable, Sendable {
        /// Data of the body, never empty; ``HTTP1ChunkedDecoder/consumed`` is its upper bound.
        case data(Range<Int>)
        /// Everything given is consumed, and the body goes on.
        case needsMore
        /// The body ended; what is behind ``HTTP1ChunkedDecoder/consumed`` is not part of it.
        case end
    }

    private enum State: UInt8 {
        /// Before the first digit of a size.
        case sizeStart
        case size
        case chunkExtension
        case sizeLineEnd
        case data
        case dataCarriageReturn
        case dataLineFeed
        case trailerStart
        case trailerName
        case trailerValue
        case trailerLineEnd
        case bodyLineEnd
        case ended
    }

    /// Bytes of a chunk that are not data: size line and the line end behind the data.
    package static let overheadPerChunk = 4 * 1024
    /// Bytes of the trailer section, its empty line included.
    package static let trailerBytes = 8 * 1024
    /// Overhead of a whole body beyond what its chunks and data excuse.
    package static let excessOverhead = 16 * 1024

    /// How many of the bytes given to the last ``next(_:)`` are done with; 0 before the first and after an error.
    package private(set) var consumed = 0

    private var state = State.sizeStart
    private var digits = 0
    private var remaining = 0
    /// Bytes of this chunk, or of the trailer section, that are not data.
    private var overhead = 0
    private var excess = 0
    private var failure: HTTP1Error?

    package init() {}

    /// Whether the end of the body was found.
    package var hasEnded: Bool { self.state == .ended }

    /// Makes ready for another body.
    package mutating func reset() { self = HTTP1ChunkedDecoder() }

    /// Reads on, up to the next piece of data or the end of what is there.
    ///
    /// - Throws: an ``HTTP1Error``, and the same again until ``reset()``; the connection has to be closed.
    package mutating func next(_ bytes: Span<UInt8>) throws(HTTP1Error) -> Step {
        self.consumed = 0
        if let failure = self.failure { throw failure }
        do throws(HTTP1Error) {
            return try self.step(bytes)
        } catch {
            self.failure = error
            throw error
        }
    }

    private mutating func step(_ bytes: Span<UInt8>) throws(HTTP1Error) -> Step {
        var index = 0
        while self.state != .ended {
            guard index < bytes.count else {
                self.consumed = index
                return .needsMore
            }
            if self.state == .data {
                let end = index &+ min(self.remaining, bytes.count &- index)
                self.remaining &-= end &- index
                if self.remaining == 0 { self.state = .dataCarriageReturn }
                self.consumed = end
                return .data(index..<end)
            }
            try self.take(bytes[index])
            index &+= 1
        }
        self.consumed = index
        return .end
    }

    /// Takes one byte that is not data.
    private mutating func take(_ byte: UInt8) throws(HTTP1Error) {
        self.overhead &+= 1
        if self.state.rawValue < State.trailerStart.rawValue {
            guard self.overhead <= Self.overheadPerChunk else { throw HTTP1Error(.chunkOverhead) }
            try self.takeChunkByte(byte)
        } else {
            guard self.overhead <= Self.trailerBytes else { throw HTTP1Error(.trailerTooLarge) }
            try self.takeTrailerByte(byte)
        }
    }

    private mutating func takeChunkByte(_ byte: UInt8) throws(HTTP1Error) {
        switch self.state {
        case .sizeStart:
            self.remaining = 0
            self.digits = 0
            self.state = .size
            try self.takeSizeByte(byte)
        case .size:
            try self.takeSizeByte(byte)
        case .chunkExtension:
            if byte == HTTP1Bytes.carriageReturn {
                self.state = .sizeLineEnd
            } else if !HTTP1Bytes.isFieldValue(byte) {
                throw HTTP1Error(byte == HTTP1Bytes.lineFeed ? .bareLF : .chunkExtension)
            }
        case .sizeLineEnd:
            guard byte == HTTP1Bytes.lineFeed else { throw HTTP1Error(.bareCR) }
            try self.beginData()
        case .dataCarriageReturn:
            guard byte == HTTP1Bytes.carriageReturn else { throw HTTP1Error(.chunkEnd) }
            self.state = .dataLineFeed
        case .dataLineFeed:
            guard byte == HTTP1Bytes.lineFeed else { throw HTTP1Error(.chunkEnd) }
            self.overhead = 0
            self.state = .sizeStart
        default:
            break
        }
    }

    private mutating func takeSizeByte(_ byte: UInt8) throws(HTTP1Error) {
        if let digit = HTTP1Bytes.hexadecimalValue(byte) {
            // Sixteen digits could still be more than an `Int` holds.
            guard self.digits < 16, self.remaining <= Int.max >> 4 else { throw HTTP1Error(.chunkSize) }
            self.digits &+= 1
            self.remaining = self.remaining << 4 | digit
            return
        }
        guard self.digits > 0 else { throw HTTP1Error(.chunkSize) }
        switch byte {
        case HTTP1Bytes.carriageReturn: self.state = .sizeLineEnd
        case UInt8(ascii: ";"): self.state = .chunkExtension
        case HTTP1Bytes.lineFeed: throw HTTP1Error(.bareLF)
        default: throw HTTP1Error(.chunkSize)
        }
    }

    private mutating func beginData() throws(HTTP1Error) {
        let excused = self.remaining > Int.max / 4 ? Int.max / 2 : 16 &+ 2 &* self.remaining
        self.excess = max(0, self.excess &+ self.overhead &- excused)
        guard self.excess <= Self.excessOverhead else { throw HTTP1Error(.chunkOverhead) }
        if self.remaining == 0 {
            self.overhead = 0
            self.state = .trailerStart
        } else {
            self.state = .data
        }
    }

    private mutating func takeTrailerByte(_ byte: UInt8) throws(HTTP1Error) {
        switch self.state {
        case .trailerStart:
            switch byte {
            case HTTP1Bytes.carriageReturn: self.state = .bodyLineEnd
            case HTTP1Bytes.space, HTTP1Bytes.tab: throw HTTP1Error(.obsFold)
            default:
                guard HTTP1Bytes.isToken(byte) else { throw Self.trailerError(byte, .fieldName) }
                self.state = .trailerName
            }
        case .trailerName:
            if byte == UInt8(ascii: ":") {
                self.state = .trailerValue
            } else if !HTTP1Bytes.isToken(byte) {
                throw Self.trailerError(
                    byte,
                    HTTP1Bytes.isOptionalWhitespace(byte) ? .spaceBeforeColon : .fieldName
                )
            }
        case .trailerValue:
            if byte == HTTP1Bytes.carriageReturn {
                self.state = .trailerLineEnd
            } else if !HTTP1Bytes.isFieldValue(byte) {
                throw Self.trailerError(byte, .fieldValue)
            }
        case .trailerLineEnd:
            guard byte == HTTP1Bytes.lineFeed else { throw HTTP1Error(.bareCR) }
            self.state = .trailerStart
        case .bodyLineEnd:
            guard byte == HTTP1Bytes.lineFeed else { throw HTTP1Error(.bareCR) }
            self.state = .ended
        default:
            break
        }
    }

    private static func trailerError(_ byte: UInt8, _ reason: HTTP1Error.Reason) -> HTTP1Error {
        HTTP1Error(byte == HTTP1Bytes.lineFeed ? .bareLF : reason)
    }
}
