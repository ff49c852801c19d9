// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// The caller's half of an exchange: where its one answer goes, whole or in parts or as events, and how much of it went.
///
/// It knows nothing of the upstream, and calls nobody but what it answers through. Confined to the event loop of the
/// caller's connection.
final class CallerReply {
    /// Below the idle limits of common balancers (faults F23).
    static let keepAliveInterval = TimeAmount.seconds(15)
    static let keepAlive = ByteBuffer(staticString: ": keep-alive\n\n")

    private let loop: LoopResources
    /// Where the answer goes; nil once the caller has left, or has all that it gets.
    private var responder: (any DownstreamResponder)?
    /// The answer as a stream that its caller can take up again; nil for other answers.
    private var stream: CallerStream?
    /// Whether the answer must come message by message, since other messages of its caller go the same way.
    let isMessageWise: Bool
    /// Whether the head of an answer went out, and whether events follow it.
    private(set) var hasStarted = false
    private var hasEvents = false
    private(set) var sentStatus = 0
    private(set) var sentBytes = 0
    private(set) var lastSent: NIODeadline
    /// Bytes of the answer that are held, as whoever answers several messages together knows them.
    private var reportedBytes = 0

    init(_ responder: any DownstreamResponder, now: NIODeadline) {
        self.loop = responder.loop
        self.responder = responder
        self.isMessageWise = responder.messages != nil
        self.lastSent = now
    }

    /// Whether the caller is on the connection on which it sent the message.
    var hasCaller: Bool { self.responder != nil }
    /// Whether what is sent reaches the caller, now or when it comes back.
    var reachesCaller: Bool { self.responder != nil || self.stream != nil }
    /// Whether events carry ids of ours, so that they are written anew.
    var hasOwnEventIDs: Bool { self.stream != nil }
    /// What takes messages one by one, where the answer goes that way.
    var messages: (any MessageSink)? { self.responder?.messages }

    /// So many bytes of the answer are held.
    func holds(_ count: Int) {
        guard self.isMessageWise, count != self.reportedBytes, let messages else { return }
        messages.holds(count - self.reportedBytes)
        self.reportedBytes = count
    }

    /// How much of the answer may be held, where `limit` is the most.
    func holdLimit(_ limit: Int) -> Int {
        guard self.isMessageWise, let messages else { return limit }
        return min(limit, messages.room + self.reportedBytes)
    }

    // MARK: Whole answers

    func respond(status: Int, body: ByteBuffer?, fields: (inout ByteBuffer) -> Void) {
        // Whoever answers several messages together holds it from now on.
        self.holds(0)
        self.sentStatus = status
        self.sentBytes += body?.readableBytes ?? 0
        self.responder?.respond(status: status, body: body, fields: fields)
    }

    func respond(status: Int, json: [UInt8], fields: (inout ByteBuffer) -> Void = { _ in }) {
        self.sentStatus = status
        self.sentBytes += json.count
        self.responder?.respond(status: status, json: json, fields: fields)
    }

    /// Ends the answer with an error: by `send`, which returns its status, if nothing of it went out; as the last event of a
    /// stream; or by breaking it, where it is something else.
    func end(with error: [UInt8], _ send: (any DownstreamResponder) -> Int) {
        if !self.hasStarted || self.isMessageWise {
            if let responder { self.sentStatus = send(responder) }
        } else if self.hasEvents {
            self.send(event: ByteBuffer(bytes: error))
            self.finish()
        } else {
            self.reset()
        }
    }

    // MARK: Answers in parts

    /// Sends the head of an answer that follows in parts.
    func begin(status: Int, length: Int?, fields: (inout ByteBuffer) -> Void) {
        self.sentStatus = status
        self.hasStarted = true
        self.responder?.begin(status: status, length: length, fields: fields)
    }

    /// Sends the head of a stream of events, which goes through `makeStream` if that makes one.
    func beginEvents(fields: (inout ByteBuffer) -> Void, through makeStream: () -> CallerStream?) {
        guard !self.hasStarted else { return }
        guard !self.isMessageWise else {
            self.hasStarted = true
            return
        }
        self.hasEvents = true
        self.begin(status: 200, length: nil, fields: fields)
        guard let responder, let stream = makeStream() else { return }
        self.stream = stream
        stream.attach(responder)
    }

    /// Sends one message as an event, or by itself where messages go their own way; returns whether the caller takes more.
    @discardableResult
    func send(event message: ByteBuffer) -> Bool {
        if let stream {
            self.sentBytes += message.readableBytes
            stream.send(message)
            return self.sent(stream.isWritable)
        }
        if self.isMessageWise {
            guard let messages else { return true }
            self.sentBytes += message.readableBytes
            messages.send(message)
            return self.sent(messages.isWritable)
        }
        var event = self.loop.buffer(capacity: message.readableBytes + 32)
        EventText.append(message, to: &event)
        return self.send(event)
    }

    /// Sends bytes as they are; returns whether the caller takes more.
    func send(_ bytes: ByteBuffer) -> Bool {
        if let stream {
            stream.send(raw: bytes)
            self.sentBytes += bytes.readableBytes
            return self.sent(stream.isWritable)
        }
        guard let responder else { return true }
        responder.send(bytes)
        self.sentBytes += bytes.readableBytes
        return self.sent(responder.isWritable)
    }

    private func sent(_ isWritable: Bool) -> Bool {
        self.lastSent = .now()
        return isWritable
    }

    func flush() {
        if let stream { stream.flush() } else { self.responder?.flush() }
    }

    /// Ends an answer in parts.
    func finish() {
        if let stream { stream.finish() } else { self.responder?.finish() }
    }

    /// Sends the last message: it ends the stream, or is the whole answer where nothing went before it.
    func finish(with message: ByteBuffer) {
        guard self.hasStarted, !self.isMessageWise else {
            return self.respond(status: 200, body: message) {
                $0.writeStaticString("Content-Type: application/json\r\n")
            }
        }
        self.send(event: message)
        self.finish()
    }

    /// Breaks an answer in parts, so that nobody takes it for complete.
    func reset() {
        if let stream { stream.reset() } else { self.responder?.reset() }
    }

    // MARK: Caller

    /// The caller is gone; it may come back for its stream, if it has one.
    func callerLeft(_ left: (any DownstreamResponder)?) {
        if let stream, let left { stream.detach(left) }
    }

    /// Takes away the connection, on which nothing more is said; returns what it was.
    func takeResponder() -> (any DownstreamResponder)? {
        defer { self.responder = nil }
        return self.responder
    }

    /// Nobody came back for the stream: what is sent from now on goes nowhere.
    func streamExpired() { self.stream = nil }

    /// Nothing more is sent.
    func close() {
        self.holds(0)
        self.responder = nil
    }
}
