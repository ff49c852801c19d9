// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayObservability
import GatewayPolicy
import GatewayWire
import NIOCore

/// A batch of a 2025-03-26 caller: each element is a message of its own, and all answers go back together (MCP
/// 2025-03-26, Transports).
///
/// As long as only answers come they are an array in the end; a message before that makes the answer a stream, on which
/// each answer goes out when it comes. All answers together are bounded like one: those for which there is no room become
/// errors. Confined to the event loop of the caller's connection.
final class BatchExchange: DownstreamExchange, MessageSink {
    private var responder: (any DownstreamResponder)?
    private var exchanges: [any DownstreamExchange] = []
    private var answers: [ByteBuffer] = []
    /// Elements that have not ended.
    private var left = 0
    private var hasBegun = false
    private let acceptsEvents: Bool
    private let upstream: Upstream
    private let limit: Int
    /// Bytes of answers that are held: here, by elements whose answer is not complete, or by a connection that takes no more.
    private var heldBytes = 0
    /// The answers among them that are complete and wait here for the others.
    private var held: HeldBytes

    /// `limit` is how many bytes of answers may be held.
    init(_ responder: any DownstreamResponder, acceptsEvents: Bool, limit: Int, upstream: Upstream) {
        self.responder = responder
        self.acceptsEvents = acceptsEvents
        self.limit = limit
        self.upstream = upstream
        self.held = HeldBytes(in: upstream.buffers)
    }

    /// Takes up every element; `make` gives an exchange for one that is not answered at once.
    ///
    /// `owed` says whether an answer is owed to each, and to which id. Returns whether anything is still to come.
    func start(
        _ owed: [(isOwed: Bool, id: [UInt8]?)],
        _ make: (Int, any DownstreamResponder) -> (any DownstreamExchange)?
    ) -> Bool {
        guard let loop = self.responder?.loop else { return false }
        // One more, so that nothing ends before everything began.
        self.left = owed.count + 1
        for (index, element) in owed.enumerated() {
            let responder = BatchElementResponder(self, isOwed: element.isOwed, id: element.id, loop: loop)
            if let exchange = make(index, responder) { self.exchanges.append(exchange) }
        }
        self.ended()
        return self.responder != nil
    }

    fileprivate func answered(_ answer: ByteBuffer?, id: [UInt8]?) {
        if var answer, self.responder != nil {
            if answer.readableBytes > self.room { answer = self.tooLarge(id) }
            if self.hasBegun {
                self.send(answer)
            } else {
                self.heldBytes += answer.readableBytes
                self.answers.append(answer)
                self.count(self.held.count + answer.readableBytes)
            }
        }
        self.ended()
    }

    private func count(_ bytes: Int) {
        guard let eventLoop = self.responder?.loop.eventLoop else { return }
        self.held.set(bytes) {
            let batch = NIOLoopBound(self, eventLoop: eventLoop)
            return { eventLoop.execute { batch.value.letGo() } }
        }
    }

    /// There is no room for the answers that wait: errors take their place.
    private func letGo() {
        guard self.responder != nil, !self.hasBegun else { return }
        self.answers = self.answers
            .map { answer in
                guard let envelope = AnswerReader.read(answer, depth: self.upstream.jsonDepth), let id = envelope.id
                else {
                    return ByteBuffer()
                }
                let error = GatewayError.noRoom(executed: .yes)
                return ByteBuffer(
                    bytes: ErrorAnswer.body(error, upstream: self.upstream.name, id: answer.bytes(id.range))
                )
            }
            .filter { $0.readableBytes > 0 }
        self.heldBytes -= self.held.count
        let left = self.answers.reduce(0) { $0 + $1.readableBytes }
        self.heldBytes += left
        self.count(left)
    }

    private func tooLarge(_ id: [UInt8]?) -> ByteBuffer {
        let error = GatewayError(
            .upstreamProtocol,
            executed: .yes,
            "the answers of this batch are larger than limits.responseBufferBytes",
            cause: "too_large"
        )
        return ByteBuffer(bytes: ErrorAnswer.body(error, upstream: self.upstream.name, id: id))
    }

    private func ended() {
        self.left -= 1
        guard self.left == 0, let responder else { return }
        self.responder = nil
        if self.hasBegun { return responder.finish() }
        guard !self.answers.isEmpty else { return responder.respond(status: 202, body: nil) { _ in } }
        let size = self.answers.reduce(1) { $0 + $1.readableBytes + 1 }
        var body = ByteBufferAllocator().buffer(capacity: size)
        body.writeStaticString("[")
        for (index, answer) in self.answers.enumerated() {
            if index > 0 { body.writeStaticString(",") }
            body.writeImmutableBuffer(answer)
        }
        body.writeStaticString("]")
        self.answers = []
        self.held.clear()
        responder.respond(status: 200, body: body) { $0.writeStaticString("Content-Type: application/json\r\n") }
    }

    // MARK: Messages before the answers

    var isWritable: Bool { self.responder?.isWritable ?? true }
    var takesMessages: Bool { self.acceptsEvents }

    /// Below zero where more is held than there may be: it is the next to take more that has too much then.
    var room: Int { self.limit - self.heldBytes }

    func holds(_ change: Int) { self.heldBytes += change }

    func send(_ message: ByteBuffer) {
        guard self.acceptsEvents, let responder else { return }
        if !self.hasBegun {
            self.hasBegun = true
            responder.begin(status: 200, length: nil, fields: EventText.appendFields)
            let answers = self.answers
            self.answers = []
            for answer in answers { self.sendEvent(answer) }
            self.heldBytes -= answers.reduce(0) { $0 + $1.readableBytes }
            self.held.clear()
        }
        self.sendEvent(message)
        responder.flush()
    }

    private func sendEvent(_ message: ByteBuffer) {
        guard let responder else { return }
        var event = responder.loop.buffer(capacity: message.readableBytes + 32)
        EventText.append(message, to: &event)
        responder.send(event)
        guard !responder.isWritable else { return }
        self.heldBytes += message.readableBytes
        self.unsentBytes += message.readableBytes
    }

    /// Of what is held, the part that the connection has not taken yet.
    private var unsentBytes = 0

    // MARK: Caller

    func downstreamLeft(isClosed: Bool) {
        if isClosed {
            self.responder = nil
            self.answers = []
            self.held.clear()
        }
        for exchange in self.exchanges { exchange.downstreamLeft(isClosed: isClosed) }
    }

    func downstreamIsSlow() {
        self.responder = nil
        self.answers = []
        self.held.clear()
        for exchange in self.exchanges { exchange.downstreamIsSlow() }
    }

    /// The elements look by themselves whether messages are taken.
    func downstreamBecameWritable() {
        self.heldBytes -= self.unsentBytes
        self.unsentBytes = 0
    }

    func drain() { for exchange in self.exchanges { exchange.drain() } }
}

/// Stands for the answer to one element.
private final class BatchElementResponder: DownstreamResponder {
    let loop: LoopResources
    private let batch: BatchExchange
    /// Whether the caller gets to see what is answered: not for a notification or a response, whatever became of it.
    private let isOwed: Bool
    private let id: [UInt8]?
    private var hasAnswered = false

    init(_ batch: BatchExchange, isOwed: Bool, id: [UInt8]?, loop: LoopResources) {
        self.batch = batch
        self.isOwed = isOwed
        self.id = id
        self.loop = loop
    }

    var messages: (any MessageSink)? { self.batch }
    var isWritable: Bool { self.batch.isWritable }

    func respond(status: Int, body: ByteBuffer?, fields: (inout ByteBuffer) -> Void) {
        guard !self.hasAnswered else { return }
        self.hasAnswered = true
        self.batch.answered(body.flatMap { self.isOwed && $0.readableBytes > 0 ? $0 : nil }, id: self.id)
    }

    // Answers come as messages only; one that broke off has none.
    func begin(status: Int, length: Int?, fields: (inout ByteBuffer) -> Void) {}
    func send(_ bytes: ByteBuffer) {}
    func flush() {}
    func finish() {}
    func reset() { self.respond(status: 200, body: nil) { _ in } }
}

extension EnvelopeScanner.BatchElement {
    /// Whether it is a request, or no message at all, which is answered under no id (JSON-RPC 2.0 §6).
    var isOwedAnswer: Bool {
        switch self.message {
        case .success(let envelope): envelope.kind == .request
        case .failure: true
        }
    }

    /// The id that an answer to it is owed to; nil for a notification, a response, and what is no message.
    func idBytes(in batch: ByteBuffer) -> [UInt8]? {
        guard case .success(let envelope) = self.message, envelope.kind == .request, let id = envelope.id else {
            return nil
        }
        return batch.bytes(id.range)
    }
}
