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
        /// The place for messages, with which a stream of the transport of 2024-11-05 begins.
        case endpoint(ByteBuffer)
        /// An event that readers of MCP skip (contract U7).
        case skipped
        /// More bytes have to come first.
        case needsMore
        /// A message, or the whole answer, is larger than the bound: the answer is given up.
        case tooLarge
    }

    /// What a socket gives at once, beside an event that is as large as it may be.
    private static let readBurst = 1024 * 1024

    /// Where a stream of events can be taken up again, which survives its end.
    private(set) var resumption: Resumption
    private let messageBytes: Int
    private let answerBytes: Int
    private var form = Form.events
    private var decoder: SSEDecoder
    private var bytes: UnconsumedBytes
    private var held: HeldBytes
    /// Told, on any thread, that there is no room for what is held; nil: it cannot let go.
    private let letGo: (@Sendable () -> Void)?
    /// All bytes of the answer that came.
    private var received = 0
    private var isOverflowing = false

    /// `messageBytes` bounds one message, and `answerBytes` an answer as a whole.
    init(
        messageBytes: Int,
        answerBytes: Int = .max,
        in ledger: BufferLedger,
        after resumption: Resumption = Resumption(),
        letGo: (@Sendable () -> Void)? = nil
    ) {
        self.messageBytes = messageBytes
        self.answerBytes = answerBytes
        self.resumption = resumption
        self.decoder = SSEDecoder(maximumEventBytes: messageBytes)
        self.bytes = UnconsumedBytes(limit: messageBytes + Self.readBurst)
        self.held = HeldBytes(in: ledger)
        self.letGo = letGo
    }

    /// Makes it ready for an answer.
    mutating func begin(_ form: Form) {
        self.form = form
        self.decoder = SSEDecoder(maximumEventBytes: self.messageBytes)
        let burst = form == .events ? Self.readBurst : 0
        self.bytes = UnconsumedBytes(limit: self.messageBytes + burst)
        self.held.clear()
        self.received = 0
        self.isOverflowing = false
    }

    /// Adds what arrived; after it `next` is called until there is nothing complete.
    mutating func append(_ arrived: ByteBuffer) {
        self.received += arrived.readableBytes
        if self.received > self.answerBytes || !self.bytes.append(arrived) { self.isOverflowing = true }
    }

    mutating func next() -> Next {
        while !self.isOverflowing, self.form == .events {
            let bytes = self.bytes.bytes
            switch self.decoder.next(in: bytes.readableBytesUInt8Span) {
            case .comment(let length), .ignored(let length):
                self.bytes.consume(length)
            case .event(let event):
                self.bytes.consume(event.length)
                self.resumption.take(event, in: bytes)
                if event.isEndpoint(in: bytes.readableBytesUInt8Span) {
                    return .endpoint(event.dataBytes(in: bytes) ?? ByteBuffer())
                }
                return event.messageBytes(in: bytes).map(Next.message) ?? .skipped
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
