// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore

/// One message of a caller on its way to an upstream and back: one downstream request, one or more attempts.
///
/// Confined to one event loop, that of the caller's connection, on which the upstream's connection lives too. It is
/// driven by three sides: the upstream's connection (`UpstreamReceiver`), the caller's (`DownstreamExchange`) and the
/// clock (`sweep`). `phase` says which of them it waits for.
///
///     waiting ─► attempting ─► holding ──► done        a whole answer in one piece
///        ▲            │  │        └─► relaying ─► done a long answer, part by part
///        └── again ───┘  └─► events ─────────► done    server-sent events, event by event
final class Exchange: UpstreamReceiver, Sweepable {
    enum Phase {
        /// For a place at the upstream, the upstream's era, a session, or the time of a retry.
        case waiting
        /// A connection is being set up, or the request is out and no head came back.
        case attempting
        /// The answer is collected before anything of it goes out.
        case holding(Hold)
        /// The head went out; bytes follow as they come.
        case relaying
        /// The answer is a stream of events.
        case events
        /// The caller has its answer; what the upstream still sends is read to keep the connection.
        case draining
        case done
    }

    /// Why an answer is collected.
    enum Hold {
        /// Short answers go out whole, so that a truncated one never looks complete (contract §4).
        case upToThreshold
        /// Something in it must be read before the caller may see it.
        case whole
        /// An HTTP status of 400 and above, which may carry an answer to this request.
        case failure(status: Int)
    }

    /// An answer up to this size is held until it is whole (contract §4).
    static let holdThreshold = 64 * 1024
    /// Bytes of an answer nobody reads that are taken to keep a connection.
    static let drainLimit = 64 * 1024

    let gateway: Gateway
    let upstream: Upstream
    let request: InboundRequest
    let message: CallerMessage
    let loop: GatewayLoop
    let startedAt: NIODeadline
    /// Where the answer goes; nil once the caller has left.
    var responder: (any DownstreamResponder)?
    var session: CallerSession?
    let principal: Principal

    var phase = Phase.waiting
    var connection: UpstreamConnection?
    var deadline: NIODeadline
    /// Not even progress moves the deadline past this.
    let lastDeadline: NIODeadline
    var attempts = 0
    private var retries = 0
    private(set) var sentStatus = 0
    private(set) var sentBytes = 0
    private var hasPlace = false
    private var isGone = false

    /// Set while no connection of a caller looks at the deadlines, so that the loop's sweeper does.
    var sweepIndex = -1

    // What the attempt carried.
    var sentSessionID: String?
    var isSessionRenewed = false
    var redirectTarget: String?
    var redirects = 0

    // What came back.
    var held = ByteBuffer()
    var answer = AnswerHead()
    var eventDecoder: SSEDecoder
    var hasStarted = false
    var hasEventID = false
    var isAnswered = false
    var drained = 0
    private var bufferedBytes = 0
    /// Since when the caller has taken nothing although bytes wait for it.
    private var blockedSince: NIODeadline?
    private var lastSent: NIODeadline
    private var outcome = CallOutcome.ok

    init(
        gateway: Gateway,
        upstream: Upstream,
        request: InboundRequest,
        message: CallerMessage,
        principal: Principal,
        session: CallerSession?,
        responder: any DownstreamResponder
    ) {
        self.gateway = gateway
        self.upstream = upstream
        self.request = request
        self.message = message
        self.loop = responder.loop
        self.principal = principal
        self.session = session
        self.responder = responder
        self.startedAt = request.receivedAt
        self.lastSent = request.receivedAt
        let timeout = TimeAmount(upstream.configuration.timeout)
        self.deadline = message.isListening ? .distantFuture : self.startedAt + timeout
        self.lastDeadline = message.isListening ? .distantFuture : self.startedAt + max(timeout, .minutes(15))
        self.eventDecoder = SSEDecoder(maximumEventBytes: gateway.limits.eventBytes)
    }

    // MARK: Attempts

    /// Takes a place at the upstream, or gets in line for one.
    func start() {
        self.upstream.countRequest()
        // A stream of its own makes has no end and is bounded by `limits.streams` instead.
        if self.message.isListening || self.upstream.admission.enter() {
            self.hasPlace = !self.message.isListening
            self.attempt()
            return
        }
        let exchange = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        let upstream = self.upstream
        let isQueued = upstream.admission.wait(on: self.loop.eventLoop) { isAdmitted in
            exchange.value.leftQueue(isAdmitted)
        }
        if !isQueued { self.leftQueue(false) }
    }

    /// Starts once it is known what the upstream speaks.
    func startWhenProbed() {
        let exchange = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.gateway.supervisor(of: self.upstream).probeNow(on: self.loop.eventLoop) { exchange.value.probed() }
    }

    private func probed() {
        guard case .waiting = self.phase else { return }
        let eras = self.upstream.eras
        if eras.stateless == true { return self.start() }
        if eras.refusesStateless {
            // The ordinary way, now that the answer is known: nothing is sent.
            let rejection = EraRejection.handshakeOnly(self.message.envelope)
            let body = ErrorAnswer.body(rejection, eras: eras, envelope: self.message.envelope, in: self.message.body)
            self.reply(status: rejection.status, json: body)
            return self.finish(.refused)
        }
        self.fail(
            GatewayError(
                .unreachable,
                executed: .no,
                "the server is not up, so what it speaks is not known; try again",
                cause: "not_probed"
            )
        )
    }

    private func leftQueue(_ isAdmitted: Bool) {
        guard case .waiting = self.phase else {
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

    func attempt(isFresh: Bool = false) {
        self.phase = .attempting
        self.attempts += 1
        self.loop.pool(of: self.upstream).connect(for: self, isFresh: isFresh)
    }

    func upstreamConnected(_ connection: UpstreamConnection) {
        guard case .attempting = self.phase else { return connection.release() }
        self.connection = connection
        var head = self.loop.buffer(capacity: 1024)
        self.upstream.heads.begin(.post, target: self.redirectTarget, into: &head)
        self.request.appendMessageFields(isInitialize: self.message.method == .initialize, to: &head)
        self.request.appendForwarded(self.upstream.configuration.forwardHeaders, to: &head)
        self.sentSessionID = self.session?.upstreamID
        if let id = self.sentSessionID { head.writeString("Mcp-Session-Id: \(id)\r\n") }
        let body = self.message.body
        head.writeString("Content-Length: \(body.readableBytes)\r\n\r\n")
        if body.readableBytes <= Self.inlineBody {
            head.writeImmutableBuffer(body)
            connection.send(head: head, body: nil, receiver: self)
        } else {
            connection.send(head: head, body: body, receiver: self)
        }
    }

    /// A body up to this size is copied behind its head: one buffer costs less than two.
    private static let inlineBody = 8 * 1024

    func upstreamFailed(_ error: TransportError) {
        self.connection = nil
        switch self.phase {
        case .draining, .done, .waiting: return
        case .relaying:
            self.outcome = CallOutcome(.upstreamClosed)
            self.upstream.metrics.failures.increment(.upstreamClosed)
            self.responder?.reset()
            self.finish()
        case .events:
            self.eventsFailed(error)
        case .attempting, .holding:
            let failure = GatewayError(error)
            if failure.reason == .unreachable { self.upstream.conclude(.unreachable) }
            // The time for a connection is spent, or waiting does not cure what is wrong (faults F2, F45).
            if [.connectTimeout, .tlsHandshake, .tlsVerification].contains(error.code) { return self.fail(failure) }
            self.retryOrFail(RetryRules.Ending(error), failure, isDialFailure: failure.reason == .unreachable)
        }
    }

    /// Sends the message once more if that is safe, else answers with `failure`.
    func retryOrFail(_ ending: RetryRules.Ending, _ failure: GatewayError, isDialFailure: Bool = false) {
        let now = NIODeadline.now()
        let decision = RetryRules.decide(
            ending,
            message: self.message.messageClass,
            retries: self.retries,
            timeLeft: Duration(self.deadline - now),
            timeout: self.upstream.configuration.timeout
        )
        guard decision.resend, self.responder != nil, self.upstream.takeRetry() else { return self.fail(failure) }
        self.retries += 1
        self.held = ByteBuffer()
        guard isDialFailure else { return self.attempt(isFresh: true) }
        // Whatever refuses connections may be starting; a moment later it may not (faults §4.3).
        self.phase = .waiting
        self.again(in: .milliseconds(Int64.random(in: 50...250)))
    }

    private func again(in delay: TimeAmount) {
        let exchange = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.loop.eventLoop.scheduleTask(in: delay) { exchange.value.resume() }
    }

    /// Goes on after a wait that had nothing to do with a place at the upstream.
    func resume(isFresh: Bool = false) {
        guard case .waiting = self.phase else { return }
        self.attempt(isFresh: isFresh)
    }

    // MARK: Ends

    /// Ends the exchange with an error of the gateway.
    func fail(_ error: GatewayError) {
        var error = error
        error.attempts = max(self.attempts, 1)
        self.outcome = CallOutcome(error.reason)
        self.gateway.report(error, upstream: self.upstream, method: self.message.method)
        self.connection?.cancel()
        self.connection = nil
        if self.hasStarted {
            let body = ErrorAnswer.body(error, upstream: self.upstream.name, id: self.message.idBytes)
            self.sendEvent(body)
            self.responder?.finish()
        } else if let responder {
            self.sentStatus = ErrorAnswer.send(error, to: responder, upstream: self.upstream, message: self.message)
        }
        self.finish()
    }

    /// Ends the exchange with an answer of ours that is not about the upstream.
    func refuse(status: Int, code: Int, _ text: String, outcome: CallOutcome) {
        self.outcome = outcome
        self.connection?.cancel()
        self.connection = nil
        self.reply(
            status: status,
            json: ErrorAnswer.body(code: code, message: text, id: self.message.idBytes)
        )
        self.finish()
    }

    /// The caller has all it gets; everything that was taken is given back.
    ///
    /// Does nothing the second time.
    func finish() {
        guard !self.isGone else { return }
        self.isGone = true
        if self.connection == nil {
            self.done()
        } else {
            self.phase = .draining
            self.connection?.isReadingPaused = false
            self.deadline = min(self.deadline, .now() + Self.drainTime)
            self.detach()
        }
        self.responder = nil
        if self.hasPlace { self.upstream.admission.leave() }
        if let session { self.gateway.sessions.end(session) }
        self.buffered(0)
        self.gateway.finished(self, outcome: self.outcome)
    }

    func finish(_ outcome: CallOutcome) {
        self.outcome = outcome
        self.finish()
    }

    /// How long an upstream may go on after its answer was complete before it is cut off (faults F24).
    private static let drainTime = TimeAmount.seconds(1)

    /// Keeps the gauge of buffered bytes at what is held of the answer.
    func buffered(_ count: Int) {
        guard count != self.bufferedBytes else { return }
        self.gateway.bufferedBytes.add(count - self.bufferedBytes)
        self.bufferedBytes = count
    }

    private func detach() {
        if self.sweepIndex < 0 { self.loop.sweeper.add(self) }
    }

    func done() {
        self.phase = .done
        if self.sweepIndex >= 0 { self.loop.sweeper.remove(self) }
    }

    // MARK: Sending on

    /// Sends a whole answer.
    func reply(status: Int, body: ByteBuffer?, fields: (inout ByteBuffer) -> Void) {
        self.sentStatus = status
        self.sentBytes += body?.readableBytes ?? 0
        self.responder?.respond(status: status, body: body, fields: fields)
    }

    func reply(status: Int, json: [UInt8], fields: (inout ByteBuffer) -> Void = { _ in }) {
        self.sentStatus = status
        self.sentBytes += json.count
        self.responder?.respond(status: status, json: json, fields: fields)
    }

    /// Sends the head of an answer that follows in parts.
    func beginReply(status: Int, length: Int?, fields: (inout ByteBuffer) -> Void) {
        self.sentStatus = status
        self.hasStarted = true
        self.responder?.begin(status: status, length: length, fields: fields)
    }

    /// Sends bytes to the caller and stops reading the upstream while they pile up.
    func relay(_ bytes: ByteBuffer) {
        guard let responder else { return }
        responder.send(bytes)
        self.sentBytes += bytes.readableBytes
        self.lastSent = .now()
        if !responder.isWritable, self.blockedSince == nil {
            self.blockedSince = self.lastSent
            self.connection?.isReadingPaused = true
        }
    }
}

extension Exchange: DownstreamExchange {
    func downstreamLeft(isClosed: Bool) {
        if isClosed { self.responder = nil }
        // A handshake caller that closes its sending side may still read, and one that is gone did not cancel: the
        // call goes on and its answer is dropped. For the stateless era going away is cancelling (protocol §2 S6).
        guard self.message.era == .stateless else {
            self.blockedSince = nil
            self.connection?.isReadingPaused = false
            if isClosed { self.detach() }
            return
        }
        self.connection?.cancel()
        self.connection = nil
        self.responder?.reset()
        self.finish(.clientGone)
    }

    func downstreamBecameWritable() {
        self.blockedSince = nil
        self.connection?.isReadingPaused = false
    }

    func sweep(now: NIODeadline) {
        if let blockedSince, now - blockedSince >= TimeAmount(self.gateway.limits.slowReader) {
            self.connection?.cancel()
            self.connection = nil
            self.responder?.reset()
            return self.finish(.slowReader)
        }
        if case .events = self.phase, self.hasStarted, now - self.lastSent >= Self.keepAliveInterval,
            self.blockedSince == nil
        {
            self.relay(Self.keepAlive)
            self.responder?.flush()
        }
        guard now >= self.deadline else { return }
        self.timedOut()
    }

    func drain() {
        guard self.message.isListening else { return }
        self.finishListening()
    }

    /// Below the idle limits of common balancers (faults F23, users 10).
    static let keepAliveInterval = TimeAmount.seconds(15)
    static let keepAlive = ByteBuffer(staticString: ": keep-alive\n\n")

    private func timedOut() {
        switch self.phase {
        case .done:
            return
        case .draining:
            self.connection?.cancel()
            self.connection = nil
            self.done()
        case .waiting, .attempting, .holding, .relaying, .events:
            let isSent = self.connection != nil
            if isSent, self.message.era == .handshake { self.cancelUpstream() }
            if case .relaying = self.phase {
                self.connection?.cancel()
                self.connection = nil
                self.responder?.reset()
                return self.finish(CallOutcome(.upstreamTimeout))
            }
            self.fail(
                GatewayError(
                    .upstreamTimeout,
                    executed: isSent ? .unknown : .no,
                    "no complete answer within the timeout of this server",
                    cause: "response_timeout"
                )
            )
        }
    }

    /// Tells a handshake upstream to stop (protocol §2 C25); never for `initialize`.
    private func cancelUpstream() {
        guard self.message.method != .initialize, let id = self.message.idBytes else { return }
        var body = Array(#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"#.utf8)
        body += id
        body += #","reason":"timeout"}}"#.utf8
        UpstreamCall.notify(
            self.upstream,
            on: self.loop,
            body: ByteBuffer(bytes: body),
            session: self.sentSessionID,
            revision: self.session?.revision
        )
    }
}
