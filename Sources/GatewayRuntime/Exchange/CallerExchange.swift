// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore

/// The caller's half of an exchange: one message of a caller, its place and deadlines, and the one answer that it gets,
/// whole or as events.
///
/// What the message is given to is the other half, in a subclass: an upstream that answers each HTTP request
/// (`Exchange`), or a stream of messages that many share (`LinkExchange`). Confined to the event loop of the caller's
/// connection.
class CallerExchange: DownstreamExchange, Sweepable, StreamSource {
    final let gateway: Gateway
    final let upstream: Upstream
    final let request: InboundRequest
    final let message: CallerMessage
    final let loop: LoopResources
    final let startedAt: NIODeadline
    /// How much of its answer may be held: as it was allowed when it began.
    final let responseBytes: Int
    /// Where the answer goes; nil once the caller has left.
    final var responder: (any DownstreamResponder)?
    final var session: CallerSession?
    /// What carries messages of the session upstream, whatever does by now.
    final let binding: CallerSession.Binding
    final let principal: Principal

    final var deadline: NIODeadline
    /// Not even progress moves the deadline past this.
    private let lastDeadline: NIODeadline
    final var attempts = 0
    /// Whether the upstream can have run the message because of what came before the attempt that is under way: that one
    /// may fail in a way that says `no` of itself, and the caller is told `unknown`.
    final var mayHaveRun = false
    final private(set) var sentStatus = 0
    final private(set) var sentBytes = 0
    private var hasPlace = false
    /// Whether it counts among the calls, or the streams, that are under way.
    private var isUnderWay = true
    private(set) final var isGone = false

    // Unchecked, here and below: what changes such a value calls nobody meanwhile (decision 0014).
    @exclusivity(unchecked) final var sweepIndex = -1

    /// Whether the head of an answer went out, and whether events follow it.
    final private(set) var hasStarted = false
    private var hasEvents = false
    /// The answer as a stream that its caller can take up again; nil for other answers.
    private var stream: CallerStream?
    @exclusivity(unchecked) private var held: HeldBytes
    /// Since when the caller has taken nothing although bytes wait for it.
    final private(set) var blockedSince: NIODeadline?
    private var lastSent: NIODeadline
    final var outcome = CallOutcome.ok

    init(_ call: Gateway.Call, gateway: Gateway, responder: any DownstreamResponder) {
        self.gateway = gateway
        self.upstream = call.upstream
        self.request = call.request
        self.message = call.message
        self.loop = responder.loop
        self.responseBytes = responder.loop.limits.responseBufferBytes
        self.principal = call.principal
        self.session = call.session
        self.binding = call.binding
        self.responder = responder
        self.startedAt = call.request.receivedAt
        self.lastSent = call.request.receivedAt
        let timeout = TimeAmount(responder.loop.settings(of: call.upstream).timeout)
        let isEndless = call.message.isListening
        self.deadline = isEndless ? .distantFuture : self.startedAt + timeout
        self.lastDeadline = isEndless ? .distantFuture : self.startedAt + max(timeout, .minutes(15))
        self.held = HeldBytes(in: gateway.buffers)
    }

    // MARK: For the other half

    /// Sends the message on: there is a place for it at the upstream.
    func attempt() { preconditionFailure("a subclass sends") }

    /// The caller cannot take more, or can again.
    func pauseUpstream(_ isPaused: Bool) {}

    /// Lets go of the upstream at once: nothing of it is wanted any more.
    func abandonUpstream() {}

    /// The caller has its answer: what the upstream still sends is read and dropped.
    ///
    /// Returns whether anything is still to come.
    func drainUpstream() -> Bool { false }

    /// The deadline is over.
    func timedOut() { preconditionFailure("a subclass knows what was sent") }

    /// Gives the message up; returns whether the upstream can have run it, if nothing more is heard of it.
    func giveUp() -> GatewayError.Executed { preconditionFailure("a subclass knows what was sent") }

    /// The slot of the last attempt; nil at an upstream without a pool.
    var usedSlot: Int? { nil }

    /// Whether messages that come meanwhile make the answer a stream of events.
    var isStreaming: Bool { false }

    // MARK: A place

    /// Takes a place at the upstream, or gets in line for one.
    ///
    /// From here until `done` the loop looks at the deadlines, whatever becomes of the caller's connection.
    final func start() {
        self.upstream.countRequest()
        self.loop.began(self)
        self.buffered(0)
        // A stream of its own makes has no end and is bounded by `limits.streams` instead.
        if self.message.isListening || self.upstream.admission.enter() {
            self.hasPlace = !self.message.isListening
            self.attempt()
            return
        }
        let exchange = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        let upstream = self.upstream
        self.ticket = upstream.admission.wait(on: self.loop.eventLoop) { isAdmitted in
            exchange.value.leftQueue(isAdmitted)
        }
        if self.ticket == nil { self.leftQueue(false) }
    }

    /// Its place in the line of those who wait for a place.
    private var ticket: UInt64?

    private func leftQueue(_ isAdmitted: Bool) {
        self.ticket = nil
        guard !self.isGone else {
            if isAdmitted { self.upstream.admission.leave() }
            return
        }
        guard isAdmitted else {
            self.fail(
                GatewayError(.overloaded, executed: .no, "too many calls run at this server; try again", cause: "queue")
            )
            return
        }
        self.hasPlace = true
        self.attempt()
    }

    // MARK: Ends

    /// Ends the exchange with an error of the gateway.
    final func fail(_ error: GatewayError) {
        guard !self.isGone else { return }
        var error = error
        if self.mayHaveRun, error.executed == .no { error.executed = .unknown }
        if error.statuses.isEmpty { error.attempts = max(self.attempts, 1) }
        self.outcome = CallOutcome(error.reason)
        self.gateway.report(error, upstream: self.upstream, method: self.message.method)
        self.abandonUpstream()
        self.freeID(mayStillRun: error.executed != .no)
        self.endReply(ErrorAnswer.body(error, upstream: self.upstream.name, id: self.message.idBytes)) { responder in
            self.sentStatus = ErrorAnswer.send(error, to: responder, upstream: self.upstream, message: self.message)
        }
        self.finish()
    }

    /// Ends the answer with an error: by `send` if nothing of it went out; as the last event of a stream; or by breaking it,
    /// where it is something else.
    private func endReply(_ error: [UInt8], _ send: (any DownstreamResponder) -> Void) {
        self.leavePlaces()
        if !self.hasStarted || self.isMessageWise {
            if let responder { send(responder) }
        } else if self.hasEvents {
            self.sendEvent(ByteBuffer(bytes: error))
            self.finishReply()
        } else {
            self.resetReply()
        }
    }

    /// Ends the exchange with an answer of ours that is not about the upstream.
    final func refuse(status: Int, code: Int, _ text: String, outcome: CallOutcome) {
        guard !self.isGone else { return }
        self.outcome = outcome
        self.abandonUpstream()
        self.freeID(mayStillRun: true)
        let body = ErrorAnswer.body(code: code, message: text, id: self.message.idBytes)
        self.endReply(body) { _ in self.reply(status: status, json: body) }
        self.finish()
    }

    /// The caller has all it gets; everything that was taken is given back.
    ///
    /// Does nothing the second time.
    final func finish() {
        guard !self.isGone else { return }
        self.isGone = true
        if self.blockedSince != nil {
            self.blockedSince = nil
            self.gateway.capacity.suspended(-1)
        }
        if self.drainUpstream() {
            self.deadline = min(self.deadline, .now() + Self.drainTime)
        } else {
            self.done()
        }
        self.reportHeld(0)
        self.held.clear()
        self.responder = nil
        self.leavePlaces()
        if let session { self.gateway.sessions.end(session) }
        self.gateway.finished(self, outcome: self.outcome)
    }

    /// Gives back its places, before its caller can know that the call is over: the next one may come at once, on another
    /// event loop.
    private func leavePlaces() {
        guard self.isUnderWay else { return }
        self.isUnderWay = false
        if self.message.isListening { self.gateway.capacity.streamEnded() } else { self.gateway.capacity.leavePlace() }
        if self.hasPlace { self.upstream.admission.leave() }
        if let ticket { self.upstream.admission.leaveLine(ticket) }
    }

    final func finish(_ outcome: CallOutcome) {
        self.outcome = outcome
        self.finish()
    }

    /// How long an upstream may go on after its answer was complete before it is cut off (faults F24).
    private static let drainTime = TimeAmount.seconds(1)

    /// Nothing more happens.
    func done() {
        self.loop.ended(self)
    }

    /// So many bytes of the answer are held, beside the message itself.
    final func buffered(_ count: Int) {
        guard !self.isGone else { return }
        self.reportHeld(count)
        self.held.set(self.message.body.readableBytes + count) {
            let exchange = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
            return { exchange.eventLoop.execute { exchange.value.letGo() } }
        }
    }

    /// Bytes of the answer that are held, as whoever answers several messages together knows them.
    private var reportedBytes = 0

    private func reportHeld(_ count: Int) {
        guard count != self.reportedBytes, let messages = self.responder?.messages else { return }
        messages.holds(count - self.reportedBytes)
        self.reportedBytes = count
    }

    /// How much of the answer may be held.
    final var holdLimit: Int {
        guard let messages = self.responder?.messages else { return self.responseBytes }
        return min(self.responseBytes, messages.room + self.reportedBytes)
    }

    /// There is no room for what is held: `limits.bufferedBytes`.
    private func letGo() {
        guard !self.isGone else { return }
        self.fail(.noRoom(executed: self.giveUp()))
    }

    // MARK: Whole answers

    final func reply(status: Int, body: ByteBuffer?, fields: (inout ByteBuffer) -> Void) {
        // Whoever answers several messages together holds it from now on.
        self.reportHeld(0)
        self.leavePlaces()
        self.sentStatus = status
        self.sentBytes += body?.readableBytes ?? 0
        self.responder?.respond(status: status, body: body, fields: fields)
    }

    final func reply(status: Int, json: [UInt8], fields: (inout ByteBuffer) -> Void = { _ in }) {
        self.leavePlaces()
        self.sentStatus = status
        self.sentBytes += json.count
        self.responder?.respond(status: status, json: json, fields: fields)
    }

    // MARK: Answers in parts

    /// Whether the answer must come message by message, since other messages of its caller go the same way.
    final var isMessageWise: Bool { self.responder?.messages != nil }

    /// Whether messages that come before the answer can go to the caller: one that takes JSON alone gets the answer alone
    /// (contract U14).
    final var takesMessages: Bool { self.responder?.messages?.takesMessages ?? self.request.accept.admitsEventStream }

    /// Sends the head of an answer that follows in parts.
    final func beginReply(status: Int, length: Int?, fields: (inout ByteBuffer) -> Void) {
        self.sentStatus = status
        self.hasStarted = true
        self.responder?.begin(status: status, length: length, fields: fields)
    }

    /// Sends the head of a stream of events.
    ///
    /// A handshake session can take it up again: its events get ids of ours (protocol §1.1).
    final func beginEvents(fields: (inout ByteBuffer) -> Void) {
        guard !self.hasStarted else { return }
        guard !self.isMessageWise else {
            self.hasStarted = true
            return
        }
        self.hasEvents = true
        self.beginReply(status: 200, length: nil, fields: fields)
        guard self.message.era == .handshake, let session, let responder else { return }
        let stream = session.makeAnswerStream(
            on: self.loop,
            source: self,
            overdueLimit: CallerStream.overdueLimit(self.loop.limits)
        )
        self.stream = stream
        stream.attach(responder)
    }

    /// Whether events carry ids of ours, so that they are written anew.
    final var hasOwnEventIDs: Bool { self.stream != nil }

    /// Sends one message as an event, or by itself where messages go their own way.
    final func sendEvent(_ message: ByteBuffer) {
        self.sentBytes += message.readableBytes
        if let stream {
            stream.send(message)
            return self.sent(isWritable: stream.isWritable)
        }
        if let messages = self.responder?.messages {
            messages.send(message)
            return self.sent(isWritable: messages.isWritable)
        }
        var event = self.loop.buffer(capacity: message.readableBytes + 32)
        EventText.append(message, to: &event)
        self.relay(event)
    }

    /// The caller is about to have its answer, and may use the id again at once, on whatever event loop.
    ///
    /// `mayStillRun`: unless the upstream answered, it may go on with the call.
    func freeID(mayStillRun: Bool) {}

    /// Sends the last message of a stream and ends it; where nothing went before it, it is the whole answer.
    final func finishEvents(with message: ByteBuffer) {
        self.freeID(mayStillRun: true)
        if self.isMessageWise || !self.hasStarted {
            self.reply(status: 200, body: message) { $0.writeStaticString("Content-Type: application/json\r\n") }
        } else {
            self.sendEvent(message)
            self.finishReply()
        }
        self.finish(.ok)
    }

    /// Sends bytes as they are.
    final func relay(_ bytes: ByteBuffer) {
        let isWritable: Bool
        if let stream {
            stream.send(raw: bytes)
            isWritable = stream.isWritable
        } else if let responder {
            responder.send(bytes)
            isWritable = responder.isWritable
        } else {
            return
        }
        self.sentBytes += bytes.readableBytes
        self.sent(isWritable: isWritable)
    }

    private func sent(isWritable: Bool) {
        self.lastSent = .now()
        guard !isWritable, self.blockedSince == nil, !self.isGone else { return }
        self.blockedSince = self.lastSent
        self.gateway.capacity.suspended(1)
        self.pauseUpstream(true)
    }

    final func flush() {
        if let stream { stream.flush() } else { self.responder?.flush() }
    }

    /// Ends an answer in parts.
    final func finishReply() {
        self.leavePlaces()
        if let stream { stream.finish() } else { self.responder?.finish() }
    }

    /// Breaks an answer in parts, so that nobody takes it for complete.
    final func resetReply() {
        if let stream { stream.reset() } else { self.responder?.reset() }
    }

    // MARK: Streams

    final func streamBecameWritable() { self.unblock() }

    /// The caller reads the answer on another connection: the one that brought the call is free for others.
    final func streamMoved() { self.responder = nil }

    /// Nobody came back for the answer: it is dropped when it comes.
    final func streamExpired() { self.stream = nil }

    private func unblock() {
        guard self.blockedSince != nil else { return }
        self.blockedSince = nil
        self.gateway.capacity.suspended(-1)
        self.pauseUpstream(false)
    }

    // MARK: Caller

    /// Whether the caller shut down its side: it waits for its answer, or is gone; nobody can tell.
    final private(set) var isHalfClosed = false

    final func downstreamLeft(isClosed: Bool) {
        // What is left of an answer that is out concerns the upstream only.
        guard !self.isGone else { return }
        let responder = self.responder
        if isClosed { self.responder = nil } else { self.isHalfClosed = true }
        // A handshake caller that closes its sending side may still read, and one that is gone did not cancel: the
        // call goes on, and its answer waits for the caller where it has a stream. For the stateless era going away is
        // cancelling (protocol S6).
        guard self.message.era == .stateless else {
            guard isClosed else { return }
            // The rest of an answer that is no stream of events is for nobody: it is not read to its end.
            if self.hasStarted, !self.hasEvents, responder?.messages == nil { return self.finish(.clientGone) }
            if let stream, let responder { stream.detach(responder) }
            self.unblock()
            return
        }
        self.cancelled()
        self.responder?.reset()
        self.finish(.clientGone)
    }

    final func downstreamIsSlow() {
        guard !self.isGone else { return }
        self.abandonUpstream()
        self.resetReply()
        self.finish(.slowReader)
    }

    /// The caller does not want its answer any more.
    func cancelled() { self.abandonUpstream() }

    final func downstreamBecameWritable() { self.unblock() }

    final func sweep(now: NIODeadline) {
        // What many calls share tells none of them that it takes messages again.
        if self.blockedSince != nil, self.responder?.messages?.isWritable == true { self.unblock() }
        if self.isStreaming, self.responder != nil, !self.isMessageWise, self.blockedSince == nil,
            now - self.lastSent >= Self.keepAliveInterval
        {
            self.keepAlive()
        }
        guard now >= self.deadline else { return }
        self.timedOut()
    }

    /// Shows the caller, and what is between, that the stream is alive.
    func keepAlive() {
        guard self.hasStarted else { return }
        self.relay(Self.keepAlive)
        self.flush()
    }

    func drain() {}

    /// Below the idle limits of common balancers (faults F23).
    static let keepAliveInterval = TimeAmount.seconds(15)
    static let keepAlive = ByteBuffer(staticString: ": keep-alive\n\n")

    /// Whether the caller took the call back: nothing gives it more time.
    final var isTakenBack = false

    /// A sign of life of this call: the clock starts again, up to a point (contract §2, `timeout`).
    final func progressed() {
        guard !self.message.isListening, !self.isTakenBack else { return }
        self.deadline = min(.now() + TimeAmount(self.loop.settings(of: self.upstream).timeout), self.lastDeadline)
    }
}
