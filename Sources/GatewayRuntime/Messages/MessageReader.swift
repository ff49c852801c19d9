// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayObservability
import GatewayWire
import NIOCore

/// Reads the messages of an upstream's answer as its bytes come, be they one body or a stream of events, and holds no more
/// than one of them that is not complete.
///
/// What is a message for JSON-RPC, `AnswerReader` says; here is what an answer carries.
struct MessageReader: ~Copyable {
    /// What an answer is.
    enum Form {
        /// One body, which is complete when the answer ends.
        case whole
        /// A stream of events.
        case events
    }

    /// What is next in the answer.
    enum Next {
        /// An event that carries this.
        case message(ByteBuffer)
        /// The place for messages, with which a stream of the transport of 2024-11-05 begins; empty if it has none.
        case endpoint(ByteBuffer)
        /// An event that readers of MCP skip (contract U7).
        case skipped
        /// More bytes have to come first.
        case needsMore
        /// An event, or the whole answer, is larger than its bound: the answer is given up.
        case tooLarge
    }

    /// How large what it reads may be.
    struct Bounds {
        var event: Int
        var body = 0
        /// All events of one answer.
        var stream = Int.max
    }

    /// What a socket gives at once, beside an event that is as large as it may be.
    private static let readBurst = 1024 * 1024

    /// Where a stream can be taken up again, which survives its end; nil: nobody asks for the rest of it.
    private(set) var resumption: Resumption?
    private var bounds: Bounds
    private var form = Form.events
    private var decoder: SSEDecoder
    private var bytes: UnconsumedBytes
    private var held: HeldBytes
    /// Told, on any thread, that there is no room for what is held; nil: it cannot let go.
    private let letGo: (@Sendable () -> Void)?
    /// How many bytes of the answer may still come.
    private var remaining: Int
    private var isOverflowing = false

    init(
        _ bounds: Bounds,
        in ledger: BufferLedger,
        after resumption: Resumption? = nil,
        letGo: (@Sendable () -> Void)? = nil
    ) {
        self.bounds = bounds
        self.resumption = resumption
        self.decoder = SSEDecoder(maximumEventBytes: bounds.event)
        self.bytes = UnconsumedBytes(limit: bounds.event + Self.readBurst)
        self.held = HeldBytes(in: ledger)
        self.letGo = letGo
        self.remaining = bounds.stream
    }

    /// Makes it ready for an answer, whose events may be so large; nil: as large as before.
    mutating func begin(_ form: Form, eventBytes: Int? = nil) {
        self.form = form
        if let eventBytes { self.bounds.event = eventBytes }
        self.decoder = SSEDecoder(maximumEventBytes: self.bounds.event)
        switch form {
        case .whole: self.bytes = UnconsumedBytes(limit: self.bounds.body)
        case .events: self.bytes = UnconsumedBytes(limit: self.bounds.event + Self.readBurst)
        }
        self.held.clear()
        self.remaining = form == .events ? self.bounds.stream : self.bounds.body
        self.isOverflowing = false
    }

    /// Adds what arrived; after it `next` is called until there is nothing complete.
    mutating func append(_ arrived: ByteBuffer) {
        guard !self.isOverflowing, arrived.readableBytes <= self.remaining, self.bytes.append(arrived) else {
            self.isOverflowing = true
            return
        }
        self.remaining -= arrived.readableBytes
    }

    mutating func next() -> Next {
        while !self.isOverflowing, self.form == .events {
            let bytes = self.bytes.bytes
            switch self.decoder.next(in: bytes.readableBytesUInt8Span) {
            case .comment(let length), .ignored(let length):
                self.bytes.consume(length)
            case .event(let event):
                self.bytes.consume(event.length)
                self.resumption?.take(event, in: bytes)
                if let message = event.messageBytes(in: bytes) { return .message(message) }
                let isEndpoint = event.isEndpoint(in: bytes.readableBytesUInt8Span)
                return isEndpoint ? .endpoint(event.dataBytes(in: bytes) ?? ByteBuffer()) : .skipped
            case .needsMore:
                self.bytes.settle()
                self.held.set(self.bytes.count) { self.letGo }
                return .needsMore
            case .tooLong:
                return .tooLarge
            }
        }
        return self.isOverflowing ? .tooLarge : .needsMore
    }

    /// The answer is over; the body that it was, and nothing of a stream of events, whose last one is not complete.
    mutating func end() -> ByteBuffer {
        defer { self.begin(self.form) }
        return self.form == .whole ? self.bytes.bytes : ByteBuffer()
    }
}
