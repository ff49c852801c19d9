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

/// The way of one message to a streamable-HTTP upstream and back, in one or more attempts: in a session of the caller's own,
/// in one that callers share, or in none.
///
/// The upstream's connection lives on the event loop of the caller's.
final class HTTPExchange: CallLeg, UpstreamReceiver {
    /// What a socket gives at once, beside an answer or an event that is as large as it may be.
    private static let readBurst = 1024 * 1024
    /// A body up to this size is copied behind its head: one buffer costs less than two.
    private static let inlineBody = 8 * 1024

    /// What the caller gets as the answer.
    enum Prepared {
        /// What is held, under the upstream's head.
        case held
        /// This, under the upstream's head; `sessionID`: of the session that it opens.
        case body(ByteBuffer, sessionID: String?)
        /// The last event; nil: it went out with those before it.
        case event(ByteBuffer?)
        /// The gateway's own.
        case own(ByteBuffer)
        /// That a message which nobody answers was taken.
        case taken
        /// That there is no place for a session.
        case noPlace
        /// That the session cannot be opened.
        case noSession
    }

    let call: Exchange
    let http: HTTPAccess
    /// Where the sessions are that it may go in; nil if it goes in none.
    let leg: (any SessionLeg)?
    private var connection: UpstreamConnection?

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
    /// Whether it wants a connection that was not kept.
    private var isFresh = false
    /// Where redirects led it.
    var redirection = Redirection()
    /// The ids that stand for the caller's in a session that callers share; nil where ids pass as they are.
    var sharedCall: SharedCall?

    // What came back.
    // Unchecked: its methods call nobody (decision 0014).
    /// Bytes of the answer that are held: until it is whole, or an event of it is.
    @exclusivity(unchecked) var collected: UnconsumedBytes
    var answer = AnswerHead()
    var eventDecoder: SSEDecoder
    /// Where the upstream's stream can be taken up again.
    var resumption = Resumption()
    var prepared = Prepared.held

    init(_ call: Exchange, _ http: HTTPAccess, _ leg: (any SessionLeg)?) {
        self.call = call
        self.http = http
        self.leg = leg
        self.outgoing = call.message.body
        let limits = call.loop.limits
        self.eventDecoder = SSEDecoder(maximumEventBytes: limits.eventBytes)
        self.collected = UnconsumedBytes(limit: max(call.responseBytes, limits.eventBytes) + Self.readBurst)
    }

    var calls: Calls { self.call.calls }
    var upstream: Upstream { self.call.upstream }
    var message: CallerMessage { self.call.message }
    var session: CallerSession? { self.call.session }
    var loop: LoopResources { self.call.loop }
    var jsonDepth: Int { self.loop.limits.jsonDepth }

    var bound: NIOLoopBound<HTTPExchange> { NIOLoopBound(self, eventLoop: self.loop.eventLoop) }

    var usedSlot: Int? { self.credentials?.position }
    /// What the attempt is sent with.
    var credential: RequestCredential? { self.http.credential(of: self.credentials) }
    var timeoutDetail: String { "" }

    // MARK: The machine

    func perform(_ action: CallMachine.Action) {
        switch action {
        case .choose: self.choose()
        case .open(let isFresh): self.open(isFresh: isFresh)
        case .accepted(let acceptance): self.accepted(acceptance)
        case .redirect: self.redirect()
        case .readBody:
            let (body, moment) = (self.readBody(), self.call.moment)
            self.tell { $0.bodyRead(body, at: moment) }
        case .readAnswer: self.readAnswer()
        case .judge(let status, let refusal): self.judge(status, refusal)
        case .reopen(let isCertain): self.reopen(isCertain: isCertain)
        case .connectForRest: self.loop.pool(of: self.upstream)?.connect(for: self, isFresh: true)
        default: break
        }
    }

    /// Tells the machine of an event, and does what it says.
    @inline(__always)
    func tell(_ event: (inout CallMachine.StateMachine) -> CallMachine.Action) {
        self.call.perform(event(&self.call.machine))
    }

    /// Ends the attempt for a reason that the machine has no word for.
    func failed(_ error: GatewayError) {
        self.call.report(error)
        self.tell { $0.opened(.failed(executed: error.executed)) }
    }

    // MARK: Attempts

    private func open(isFresh: Bool) {
        self.isFresh = isFresh
        self.abandon()
        if self.collected.count > 0 { self.forgetBody() }
        self.enterSession()
    }

    /// The session is open, or there is none to open.
    func connect() {
        self.loop.pool(of: self.upstream)?.connect(for: self, isFresh: self.isFresh)
    }

    func upstreamConnected(_ connection: UpstreamConnection) {
        let sessionID = self.upstreamSession?.id
        switch self.call.machine.connected(hasSession: sessionID != nil, hasOwnIDs: self.sharedCall != nil) {
        case .send:
            self.sentSessionID = sessionID
            self.send(on: connection)
        case .askForRest:
            self.askForRest(on: connection)
        case .release:
            connection.release()
        }
    }

    private func send(on connection: UpstreamConnection) {
        var head = self.loop.buffer(capacity: 1024)
        self.redirection.start(at: self.http.redirects.target)
        let target = self.redirection.target
        guard self.http.begin(.post, target: target, with: self.credential, on: connection, into: &head) else {
            connection.release()
            return self.failed(.noSuchSlot)
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
        let hasVersion = self.call.request.appendMessageFields(isInitialize: isInitialize, to: &head)
        self.call.request.appendForwarded(self.upstream.forwardHeaders, to: &head)
        guard let upstreamSession else { return }
        if let id = self.sentSessionID { head.writeString("Mcp-Session-Id: \(id)\r\n") }
        // Callers of the old transport have no such header, and in a shared session it is not theirs to say.
        if !hasVersion, let revision = upstreamSession.origin.revision { head.writeString(revision.headerLine) }
    }

    /// Asks for the rest of a stream that broke off.
    private func askForRest(on connection: UpstreamConnection) {
        var head = self.loop.buffer(capacity: 512)
        let target = self.redirection.target
        guard self.http.begin(.get, target: target, with: self.credential, on: connection, into: &head) else {
            connection.release()
            return self.failed(.noSuchSlot)
        }
        self.connection = connection
        self.eventDecoder = SSEDecoder(maximumEventBytes: self.eventDecoder.maximumEventBytes)
        if let id = self.sentSessionID { head.writeString("Mcp-Session-Id: \(id)\r\n") }
        if let revision = self.session?.revision { head.writeString(revision.headerLine) }
        self.call.request.appendForwarded(self.upstream.forwardHeaders, to: &head)
        self.resumption.appendField(to: &head)
        head.writeStaticString("\r\n")
        connection.send(head: head, body: nil, receiver: self)
    }

    func upstreamFailed(_ error: TransportError) {
        self.connection = nil
        let failure = GatewayError(error)
        if self.call.machine.isOpening {
            switch failure.reason {
            case .unreachable: self.upstream.conclude(.unreachable, because: failure)
            case .outboundProxy: self.doubtUpstream()
            default: break
            }
        }
        self.call.report(failure)
        let moment = self.call.moment
        self.tell { $0.failed(CallMachine.Failure(error, failure), at: moment) }
    }

    // MARK: The caller's half

    func withhold() -> Bool { self.connection == nil }

    func pause(_ isPaused: Bool) { self.connection?.isReadingPaused = isPaused }

    func forgetBody() {
        self.collected.consume(self.collected.count)
        self.call.buffered(0)
    }

    /// The answer is complete, and its connection is not ours any more.
    func connectionEnded() { self.connection = nil }

    /// Closes the connection, as far as there is one.
    func abandon() {
        self.connection?.cancel()
        self.connection = nil
    }

    func letGo(_ end: CallMachine.UpstreamEnd) {
        // Told to stop (protocol C25).
        if case .timedOut(isTold: true) = end, let id = self.sharedCall?.idBytes ?? self.message.idBytes {
            self.tellUpstream(ClientMessage.cancelled(id, reason: "timeout"))
        }
        self.abandon()
    }

    /// Sends a message of ours in the session of the attempt, whose fate changes nothing.
    func tellUpstream(_ body: ByteBuffer) {
        UpstreamCall.notify(
            self.http,
            of: self.upstream,
            slot: self.slot,
            with: self.credential,
            on: self.loop,
            body: body,
            session: self.sentSessionID,
            revision: self.session?.revision
        )
    }

    /// What came is not what a server says that is well: the next look at it shows.
    func doubtUpstream() { self.upstream.watch?.doubt() }

    func freeID(mayStillRun: Bool) {
        if mayStillRun { self.sharedCall?.withdraw() } else { self.sharedCall?.answered() }
    }

    func finish(releasesCredential: Bool) {
        if releasesCredential { self.http.credentials?.release(&self.credentials) }
        if self.hasRouting, let preparedSlot { self.session?.ended(self.message, at: preparedSlot) }
        self.collected.consume(self.collected.count)
        self.connection?.isReadingPaused = false
    }

    func close() { self.abandon() }
}

extension CallMachine.Failure {
    /// `failure` is the same in words.
    fileprivate init(_ error: TransportError, _ failure: GatewayError) {
        self.init(RetryRules.Ending(error), executed: failure.executed)
        self.isOfDialling = failure.reason == .unreachable || failure.reason == .outboundProxy
        // The time for a connection is spent, waiting does not cure what is wrong (faults F2, F45), or we have too much to do
        // already.
        self.isFinal =
            [.noDescriptors, .connectTimeout, .tlsHandshake, .tlsVerification].contains(error.code)
            || error.outboundProxy?.isSentAgain == false
        // An outbound proxy may say when.
        self.retryAfter = .milliseconds(failure.retryAfterMilliseconds ?? 0)
    }
}
