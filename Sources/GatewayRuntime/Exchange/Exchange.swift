// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore

/// One message of a caller on its way to a streamable-HTTP upstream and back: one or more attempts.
///
/// The upstream's connection lives on the event loop of the caller's. The exchange is driven by three sides: the
/// upstream's connection (`UpstreamReceiver`), the caller's (`DownstreamExchange`) and the clock (`sweep`). `phase` says
/// which of them it waits for.
///
///     waiting ─► attempting ─► holding ──► done        a whole answer in one piece
///        ▲            │  │        └─► relaying ─► done a long answer, part by part
///        └── again ───┘  └─► events ─────────► done    server-sent events, event by event
///                              ▲ └─► resuming          … taken up again where they broke off
///                              └──────┘
final class Exchange: CallerExchange, UpstreamReceiver {
    enum Phase {
        /// For a place at the upstream, a session, or the time of a retry.
        case waiting
        /// A connection is being set up, or the request is out and no head came back.
        case attempting
        /// The answer is collected before anything of it goes out.
        case holding(Hold)
        /// The head went out; bytes follow as they come.
        case relaying
        /// The answer is a stream of events.
        case events
        /// The stream broke off and is asked for again.
        case resuming
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
        /// 401 or 403: read to keep the connection, and for what it says of itself, but not for long.
        case refusal

        /// Whether the answer need not be JSON.
        var isFailure: Bool {
            switch self {
            case .failure, .refusal: true
            case .upToThreshold, .whole: false
            }
        }
    }

    /// An answer up to this size is held until it is whole (contract §4).
    private static let holdThreshold = 64 * 1024
    /// The same where it may hold something that only its credential can be asked for again.
    private static let pinnedThreshold = 1024 * 1024
    var holdThreshold: Int {
        self.message.canBePinned && self.http.slotCount > 1 ? Self.pinnedThreshold : Self.holdThreshold
    }
    /// What a socket gives at once, beside an answer or an event that is as large as it may be.
    private static let readBurst = 1024 * 1024
    /// Bytes of an answer nobody reads that are taken to keep a connection.
    static let drainLimit = 64 * 1024

    let http: HTTPAccess
    var phase = Phase.waiting
    var connection: UpstreamConnection?
    private var retries = 0

    /// Which credentials it tried; nil at an upstream without a pool.
    var credentials: CredentialUse?
    /// The slot of the attempt.
    var slot = CredentialID.none
    /// Whether messages of the session have slots to choose from.
    var hasRouting = false

    // What the attempt carried.
    /// The session that it went in; nil without one.
    var upstreamSession: HTTPUpstreamSession?
    var sentSessionID: String?
    /// The message as the upstream gets it, made for the session of `preparedSlot`.
    var outgoing: ByteBuffer
    /// nil until it is.
    var preparedSlot: CredentialID?
    private var isFresh = false
    /// The session that was opened again for the message; with another credential it comes to another one.
    var renewedSession: HTTPUpstreamSession?
    /// Whether the session is looked at since an upstream refused the message in it: what was refused may have been the
    /// message itself.
    var isSessionInDoubt = false
    /// Where redirects led it.
    var redirection = Redirection()
    /// The ids that stand for the caller's in a session that callers share; nil where ids pass as they are.
    var sharedCall: SharedCall?
    /// Whether the upstream answered the last attempt, or refused it, so that it does nothing for the call any more.
    var isOverUpstream = false

    // What came back.
    // Unchecked: its methods call nobody (decision 0014).
    /// Bytes of the answer that are held: until it is whole, or an event of it is.
    @exclusivity(unchecked) var collected: UnconsumedBytes
    var answer = AnswerHead()
    var eventDecoder: SSEDecoder
    var drained = 0
    /// Where the upstream's stream can be taken up again.
    var resumption = Resumption()
    /// Questions of the server that could not go beside the answer.
    var questionsElsewhere = 0

    init(_ call: Gateway.Call, _ http: HTTPAccess, gateway: Gateway, responder: any DownstreamResponder) {
        self.http = http
        self.outgoing = call.message.body
        let loop = responder.loop
        self.eventDecoder = SSEDecoder(maximumEventBytes: loop.limits.eventBytes)
        self.collected = UnconsumedBytes(
            limit: max(loop.limits.responseBufferBytes, loop.limits.eventBytes) + Self.readBurst
        )
        super.init(call, gateway: gateway, responder: responder)
    }

    // MARK: Attempts

    override func attempt() { self.attempt(isFresh: false) }

    func attempt(isFresh: Bool) {
        self.attempts += 1
        self.isFresh = isFresh
        // A retry, a redirect or a renewed session keeps its credential.
        if self.credentials?.isUnderWay != true, !self.takeSlot() { return }
        self.enterSession()
    }

    /// The session is open, or there is none to open.
    func connect() {
        self.phase = .attempting
        self.isOverUpstream = false
        self.loop.pool(of: self.upstream)?.connect(for: self, isFresh: self.isFresh)
    }

    func upstreamConnected(_ connection: UpstreamConnection) {
        switch self.phase {
        case .attempting: break
        case .resuming: return self.resume(on: connection)
        default: return connection.release()
        }
        var head = self.loop.buffer(capacity: 1024)
        self.redirection.start(at: self.http.redirects.target)
        let target = self.redirection.target
        let credential = self.http.credential(of: self.credentials)
        guard self.http.begin(.post, target: target, with: credential, on: connection, into: &head) else {
            connection.release()
            return self.fail(.noSuchSlot)
        }
        self.connection = connection
        self.appendFields(to: &head)
        let body = self.outgoing
        head.writeStaticString("Content-Length: ")
        head.writeString("\(body.readableBytes)\r\n\r\n")
        if body.readableBytes <= Self.inlineBody {
            head.writeImmutableBuffer(body)
            connection.send(head: head, body: nil, receiver: self)
        } else {
            connection.send(head: head, body: body, receiver: self)
        }
    }

    /// The fields that say for whom the message is: revision, session, what the configuration passes on.
    private func appendFields(to head: inout ByteBuffer) {
        let isInitialize = self.message.method == .initialize
        let hasVersion = self.request.appendMessageFields(isInitialize: isInitialize, to: &head)
        self.request.appendForwarded(self.upstream.forwardHeaders, to: &head)
        guard let upstreamSession else { return }
        self.sentSessionID = upstreamSession.id
        if let id = self.sentSessionID { head.writeString("Mcp-Session-Id: \(id)\r\n") }
        // Callers of the old transport have no such header, and in a shared session it is not theirs to say.
        if !hasVersion, let revision = upstreamSession.origin.revision { head.writeString(revision.headerLine) }
    }

    /// A body above this may be refused before it is read.
    static let largeBody = 16 * 1024

    /// A body up to this size is copied behind its head: one buffer costs less than two.
    private static let inlineBody = 8 * 1024

    func upstreamFailed(_ error: TransportError) {
        self.connection = nil
        switch self.phase {
        case .draining, .done, .waiting: return
        case .relaying:
            self.upstream.metrics.failures.increment(.upstreamClosed)
            self.resetReply()
            self.finish(CallOutcome(.upstreamClosed))
        case .events:
            self.eventsBroke(cause: "sse_truncated")
        case .resuming:
            self.resumeLater()
        case .holding(.refusal):
            // Its status was read, and that is what counts.
            self.refused()
        case .holding(.failure(let status)) where self.mayBeOfSession(status):
            self.failed(status, .foreign)
        case .attempting, .holding:
            let failure = GatewayError(error)
            switch failure.reason {
            case .unreachable: self.upstream.conclude(.unreachable, because: failure)
            case .outboundProxy: self.doubtUpstream()
            default: break
            }
            // The time for a connection is spent, waiting does not cure what is wrong (faults F2, F45), or we have too much
            // to do already.
            if [.noDescriptors, .connectTimeout, .tlsHandshake, .tlsVerification].contains(error.code)
                || error.outboundProxy?.isSentAgain == false
            {
                return self.fail(failure)
            }
            let isDialFailure = failure.reason == .unreachable || failure.reason == .outboundProxy
            self.retryOrFail(RetryRules.Ending(error), failure, isDialFailure: isDialFailure)
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
            timeout: self.loop.settings(of: self.upstream).timeout
        )
        guard decision.resend, self.responder != nil, self.upstream.takeRetry() else { return self.fail(failure) }
        self.retries += 1
        if decision.executed != .no { self.mayHaveRun = true }
        self.forgetCollected()
        guard isDialFailure else { return self.attempt(isFresh: true) }
        // Whatever refuses connections may be starting; a moment later it may not (faults §4.3).
        self.phase = .waiting
        // An outbound proxy may say when.
        let wait = Int64(failure.retryAfterMilliseconds ?? 0) + Int64.random(in: 50...250)
        self.wait(.milliseconds(wait)) { $0.goOn() }
    }

    /// What it waits for; only ever one thing.
    private var timer: Scheduled<Void>?

    /// Does something in a while, unless it is over by then.
    func wait(_ time: TimeAmount, _ body: @escaping @Sendable (Exchange) -> Void) {
        self.timer?.cancel()
        let exchange = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.timer = self.loop.eventLoop.scheduleTask(in: time) {
            exchange.value.timer = nil
            body(exchange.value)
        }
    }

    /// Goes on after a wait that had nothing to do with a place at the upstream.
    func goOn() {
        guard case .waiting = self.phase, !self.isGone else { return }
        self.attempt(isFresh: false)
    }

    // MARK: The caller's half

    override func pauseUpstream(_ isPaused: Bool) { self.connection?.isReadingPaused = isPaused }

    override func abandonUpstream() {
        self.connection?.cancel()
        self.connection = nil
    }

    override func drainUpstream() -> Bool {
        self.endAttempts()
        self.timer?.cancel()
        self.timer = nil
        self.collected.consume(self.collected.count)
        guard self.connection != nil else { return false }
        self.phase = .draining
        self.connection?.isReadingPaused = false
        return true
    }

    /// What was collected of an answer is of no use.
    func forgetCollected() {
        self.collected.consume(self.collected.count)
        self.buffered(0)
    }

    override func giveUp() -> GatewayError.Executed {
        switch self.phase {
        case .holding(.refusal): .no
        case .holding(.failure(let status)): self.executed(status)
        case .holding, .relaying, .draining, .done: .yes
        case .waiting: self.isSessionInDoubt ? self.executed(self.answer.status) : .no
        case .attempting: self.connection == nil ? .no : .unknown
        case .events, .resuming: .unknown
        }
    }

    override func freeID(mayStillRun: Bool) {
        if mayStillRun, !self.isOverUpstream { self.sharedCall?.withdraw() } else { self.sharedCall?.answered() }
    }

    override func done() {
        self.phase = .done
        self.collected.consume(self.collected.count)
        super.done()
    }

    override var usedSlot: Int? { self.credentials?.position }

    override var isStreaming: Bool {
        switch self.phase {
        case .events, .resuming: true
        default: false
        }
    }

    override func drain() {
        guard self.message.isListening else { return }
        self.finishListening()
    }

    override func timedOut() {
        switch self.phase {
        case .done:
            return
        case .draining:
            self.abandonUpstream()
            self.done()
        case .relaying:
            self.cancelUpstream()
            self.abandonUpstream()
            self.resetReply()
            self.finish(CallOutcome(.upstreamTimeout))
        case .waiting, .attempting, .holding, .events, .resuming:
            // Even one that began to answer may not be through with it.
            let executed: GatewayError.Executed = self.giveUp() == .no ? .no : .unknown
            if self.connection != nil { self.cancelUpstream() }
            self.fail(
                GatewayError(
                    .upstreamTimeout,
                    executed: executed,
                    "no complete answer within the timeout of this server",
                    cause: "response_timeout"
                )
            )
        }
    }

    /// Tells a handshake upstream to stop (protocol C25); never for `initialize`.
    private func cancelUpstream() {
        guard self.message.era == .handshake, self.message.method != .initialize,
            let id = self.sharedCall?.idBytes ?? self.message.idBytes
        else { return }
        self.tellUpstream(ClientMessage.cancelled(id, reason: "timeout"))
    }

    /// Sends a message of ours in the session of the attempt, whose fate changes nothing.
    func tellUpstream(_ body: ByteBuffer) {
        UpstreamCall.notify(
            self.http,
            of: self.upstream,
            slot: self.slot,
            with: self.http.credential(of: self.credentials),
            on: self.loop,
            body: body,
            session: self.sentSessionID,
            revision: self.session?.revision
        )
    }
}
