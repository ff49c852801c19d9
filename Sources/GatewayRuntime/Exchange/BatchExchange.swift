// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// A batch of a 2025-03-26 caller: each element is a message of its own, and all answers go back together (MCP
/// 2025-03-26, Transports).
///
/// As long as only answers come they are an array in the end; a message before that makes the answer a stream, on which
/// each answer goes out when it comes. Confined to the event loop of the caller's connection.
final class BatchExchange: DownstreamExchange, MessageSink {
    private var responder: (any DownstreamResponder)?
    private var exchanges: [any DownstreamExchange] = []
    private var answers: [ByteBuffer] = []
    /// Elements that have not ended.
    private var left = 0
    private var hasBegun = false
    private let acceptsEvents: Bool

    init(_ responder: any DownstreamResponder, acceptsEvents: Bool) {
        self.responder = responder
        self.acceptsEvents = acceptsEvents
    }

    /// Takes up every element; `make` gives an exchange for one that is not answered at once.
    ///
    /// Returns whether anything is still to come.
    func start(count: Int, _ make: (Int, any DownstreamResponder) -> (any DownstreamExchange)?) -> Bool {
        guard let loop = self.responder?.loop else { return false }
        // One more, so that nothing ends before everything began.
        self.left = count + 1
        for index in 0..<count {
            if let exchange = make(index, BatchElementResponder(self, loop: loop)) { self.exchanges.append(exchange) }
        }
        self.ended()
        return self.responder != nil
    }

    fileprivate func answered(_ answer: ByteBuffer?) {
        if let answer {
            if self.hasBegun { self.send(answer) } else { self.answers.append(answer) }
        }
        self.ended()
    }

    private func ended() {
        self.left -= 1
        guard self.left == 0, let responder else { return }
        self.responder = nil
        if self.hasBegun { return responder.finish() }
        guard !self.answers.isEmpty else { return responder.respond(status: 202, body: nil) { _ in } }
        var body = ByteBuffer(staticString: "[")
        for (index, answer) in self.answers.enumerated() {
            if index > 0 { body.writeStaticString(",") }
            body.writeImmutableBuffer(answer)
        }
        body.writeStaticString("]")
        responder.respond(status: 200, body: body) { $0.writeStaticString("Content-Type: application/json\r\n") }
    }

    // MARK: Messages before the answers

    var isWritable: Bool { self.responder?.isWritable ?? true }

    func send(_ message: ByteBuffer) {
        guard self.acceptsEvents, let responder else { return }
        if !self.hasBegun {
            self.hasBegun = true
            responder.begin(status: 200, length: nil) { head in
                head.writeStaticString("Content-Type: text/event-stream\r\nCache-Control: no-store\r\n")
                head.writeStaticString("X-Accel-Buffering: no\r\n")
            }
            let answers = self.answers
            self.answers = []
            for answer in answers { self.send(answer) }
        }
        var event = responder.loop.buffer(capacity: message.readableBytes + 32)
        EventText.append(message, to: &event)
        responder.send(event)
        responder.flush()
    }

    // MARK: Caller

    func downstreamLeft(isClosed: Bool) {
        if isClosed { self.responder = nil }
        for exchange in self.exchanges { exchange.downstreamLeft(isClosed: isClosed) }
    }

    /// The elements look by themselves whether messages are taken.
    func downstreamBecameWritable() {}

    /// The elements are swept by their loop.
    func sweep(now: NIODeadline) {}

    func drain() { for exchange in self.exchanges { exchange.drain() } }
}

/// Stands for the answer to one element.
private final class BatchElementResponder: DownstreamResponder {
    let loop: GatewayLoop
    private let batch: BatchExchange
    private var hasAnswered = false

    init(_ batch: BatchExchange, loop: GatewayLoop) {
        self.batch = batch
        self.loop = loop
    }

    var messages: (any MessageSink)? { self.batch }
    var isWritable: Bool { self.batch.isWritable }

    func respond(status: Int, body: ByteBuffer?, fields: (inout ByteBuffer) -> Void) {
        guard !self.hasAnswered else { return }
        self.hasAnswered = true
        self.batch.answered(body.flatMap { $0.readableBytes > 0 ? $0 : nil })
    }

    // Answers come as messages only; one that broke off has none.
    func begin(status: Int, length: Int?, fields: (inout ByteBuffer) -> Void) {}
    func send(_ bytes: ByteBuffer) {}
    func flush() {}
    func finish() {}
    func reset() { self.respond(status: 200, body: nil) { _ in } }
}
