// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Finds the events of an event stream in bytes that come in any pieces (WHATWG HTML, Server-sent events).
///
/// Made for a relay: it says how many bytes a complete block has, so that they can be forwarded as they are. The caller
/// keeps what is not consumed yet and shows all of it, with what has come since, at every call; the decoder remembers
/// how far it has looked, so that a stream that comes byte by byte costs no more than one that comes whole.
///
///     while true {
///         switch decoder.next(in: unconsumed) {
///         case .event(let event): consume event.length bytes
///         case .comment(let length), .ignored(let length): consume length bytes
///         case .needsMore: wait for bytes
///         case .tooLong: give the stream up
///         }
///     }
///
/// A line ends with LF, CR or CRLF. A CR ends its line at once; an LF that comes after it in a later piece is reported
/// as a blank line of its own, which changes nothing for whoever reads the forwarded bytes.
package struct SSEDecoder: Sendable {
    package enum Step: Hashable, Sendable {
        /// A block of fields with the blank line that ends it; comments between its fields are part of it.
        case event(SSEEvent)
        /// Complete comment lines and blank lines outside a block: may be forwarded as they are, or dropped.
        case comment(length: Int)
        /// Bytes that mean nothing and must not be forwarded: the byte order mark at the start of the stream.
        case ignored(length: Int)
        /// Nothing is complete yet.
        case needsMore
        /// A block, or a comment line outside one, is longer than ``SSEDecoder/maximumEventBytes``: every later call
        /// says the same.
        case tooLong
    }

    /// The bytes that a block may have, its last line end included (but not the LF of a CRLF at its very end).
    package let maximumEventBytes: Int

    private var isAtStreamStart = true
    /// Whether the byte before the next line was a CR, so that an LF there belongs to it.
    private var isAfterCR = false
    /// Whether a field of the current block was read; before that there are only comments and blank lines.
    private var isInBlock = false
    private var fields = SSEFields()
    /// Where the current line begins, and up to where it was looked at; offsets from the first unconsumed byte.
    private var lineStart = 0
    private var position = 0
    private var hasUnconsumedBytes = false
    private var isTooLong = false

    package init(maximumEventBytes: Int) {
        self.maximumEventBytes = maximumEventBytes
    }

    /// Takes one step in `bytes`: everything from the end of what the last step consumed.
    ///
    /// After a step that consumed nothing, `bytes` begins with the same bytes again.
    package mutating func next(in bytes: Span<UInt8>) -> Step {
        if self.isTooLong { return .tooLong }
        let step = self.isAtStreamStart ? self.firstStep(in: bytes) : self.step(in: bytes)
        self.hasUnconsumedBytes =
            switch step {
            case .event(let event): event.length < bytes.count
            case .comment(let length), .ignored(let length): length < bytes.count
            case .needsMore, .tooLong: bytes.count > 0
            }
        if case .tooLong = step { self.isTooLong = true }
        return step
    }

    /// At the end of the stream: whether bytes were left that are no complete block; they are to be dropped.
    package func finish() -> Bool { self.hasUnconsumedBytes }

    /// Steps over a byte order mark, once it is known whether there is one.
    private mutating func firstStep(in bytes: Span<UInt8>) -> Step {
        for (index, byte) in [0xef, 0xbb, 0xbf].enumerated() {
            guard index < bytes.count else { return .needsMore }
            guard bytes[index] == byte else {
                self.isAtStreamStart = false
                return self.step(in: bytes)
            }
        }
        self.isAtStreamStart = false
        return .ignored(length: 3)
    }

    private mutating func step(in bytes: Span<UInt8>) -> Step {
        while true {
            if self.isAfterCR, self.lineStart < bytes.count {
                self.isAfterCR = false
                if bytes[self.lineStart] == 0x0a { self.startLine(at: self.lineStart + 1) }
            }
            let end = SSELine.end(from: self.position, in: bytes)
            self.position = end
            guard end < bytes.count else {
                if !self.isInBlock, self.lineStart > 0 { return self.consumeComments() }
                return bytes.count > self.maximumEventBytes ? .tooLong : .needsMore
            }
            let isBlank = end == self.lineStart
            if !self.isInBlock, isBlank {
                self.endLine(at: end, in: bytes)
                continue
            }
            let isComment = !isBlank && bytes[self.lineStart] == UInt8(ascii: ":")
            if !self.isInBlock, self.lineStart > 0, !isComment || end - self.lineStart >= self.maximumEventBytes {
                return self.consumeComments()
            }
            if end + 1 - (self.isInBlock ? 0 : self.lineStart) > self.maximumEventBytes { return .tooLong }
            if isBlank {
                self.endLine(at: end, in: bytes)
                return .event(self.finishBlock())
            }
            if !isComment {
                self.isInBlock = true
                self.fields.take(self.lineStart..<end, in: bytes)
            }
            self.endLine(at: end, in: bytes)
        }
    }

    /// Begins the line after the line end at `end`, which may have two bytes.
    private mutating func endLine(at end: Int, in bytes: Span<UInt8>) {
        if bytes[end] == 0x0d {
            if end + 1 == bytes.count {
                self.isAfterCR = true
            } else if bytes[end + 1] == 0x0a {
                self.startLine(at: end + 2)
                return
            }
        }
        self.startLine(at: end + 1)
    }

    private mutating func startLine(at index: Int) {
        self.lineStart = index
        self.position = index
    }

    /// Gives out the complete comment and blank lines before the current line.
    private mutating func consumeComments() -> Step {
        let length = self.lineStart
        self.position -= length
        self.lineStart = 0
        return .comment(length: length)
    }

    private mutating func finishBlock() -> SSEEvent {
        let event = self.fields.event(length: self.lineStart)
        self.fields = SSEFields()
        self.isInBlock = false
        self.startLine(at: 0)
        return event
    }
}
