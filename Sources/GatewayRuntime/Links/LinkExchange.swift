// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// One message of a caller to an upstream that is reached through a stream of messages, and what comes for it.
///
/// Confined to the event loop of the caller's connection; the link may live on another one.
final class LinkExchange: CallerExchange {
    /// What a message is to the call that it came for.
    enum Arrival {
        /// The response, with which the exchange ends.
        case answer
        /// A sign that the upstream is at work on it.
        case progress
        /// A question or a notification that goes the same way.
        case message
    }

    private enum Phase {
        /// For a place, or for the link to be open.
        case waiting
        /// The message is with the link.
        case sent
        case over
    }

    private let link: LinkHandle
    /// The number of its caller in the link; nil for a request that stands alone.
    private let caller: Int?
    private var phase = Phase.waiting
    /// Taken by the link when it sends the message, or here when that is given up before.
    private let claim = SendClaim()
    /// Its number in the link, once it is on its way.
    private var call: Int64?
    /// The slot of the credential that the link uses for it.
    private var slot: Int?
    /// Whether others use the link as well.
    private let isShared: Bool
    private var isEstablished = false
    /// Told the answer to `initialize` before its caller sees it; nil: what is sent instead.
    private var onInitialized: ((ByteBuffer, Envelope) -> Reply)?

    /// What a caller gets for its `initialize`.
    enum Reply {
        /// The session is open; a caller of streamable HTTP is told its id.
        case established(ByteBuffer, CallerSession)
        /// There is none.
        case refused(ByteBuffer)
    }

    /// `caller` is its number in the link.
    init(
        _ call: Gateway.Call,
        _ link: LinkHandle,
        caller: Int?,
        isShared: Bool,
        gateway: Gateway,
        responder: any DownstreamResponder,
        onInitialized: ((ByteBuffer, Envelope) -> Reply)? = nil
    ) {
        self.link = link
        self.caller = caller
        self.isShared = isShared
        self.onInitialized = onInitialized
        super.init(call, gateway: gateway, responder: responder)
    }

    override var usedSlot: Int? { self.slot }

    override func giveUp() -> GatewayError.Executed {
        if case .waiting = self.phase { return .no }
        return self.claim.take() ? .no : .unknown
    }

    var settings: LinkSettings { self.upstream.linkSettings }

    // MARK: Sending

    override func attempt() {
        self.phase = .sent
        self.attempts += 1
        let exchange = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.link.execute { [message = self.message, caller = self.caller, claim = self.claim] link in
            link.send(message, of: caller, for: exchange, claim)
        }
    }

    /// The link sends it under this number.
    func became(_ call: Int64, with credential: LinkCredential?) {
        self.call = call
        self.slot = credential?.position
        // It may have been given up before it got that far.
        if case .over = self.phase { self.withdraw(reason: "cancelled") }
    }

    /// A notification or a response is with the upstream, or needed no sending.
    func taken() {
        self.reply(status: 202, body: nil) { _ in }
        self.finish(.ok)
    }

    /// The link has no answer and never will.
    func failed(_ error: GatewayError) {
        self.call = nil
        self.fail(error)
    }

    // MARK: What comes

    /// Returns whether the message is on its way to the caller.
    @discardableResult
    func received(_ message: ByteBuffer, as arrival: Arrival) -> Bool {
        guard !self.isGone else { return false }
        switch arrival {
        case .answer:
            self.call = nil
            self.answered(message)
            return true
        case .progress:
            self.progressed()
            return self.sendAlong(message)
        case .message:
            return self.sendAlong(message)
        }
    }

    private func sendAlong(_ message: ByteBuffer) -> Bool {
        guard self.takesMessages else { return false }
        // A caller that is gone finds what came since on the stream of its answer, if that had begun.
        guard self.responder != nil || self.hasOwnEventIDs else { return false }
        // What is held up for this caller alone is dropped after a while, so that the others go on (faults F88).
        if self.isShared, let blockedSince, .now() - blockedSince >= SlowCallers.patience { return false }
        self.beginEvents(fields: Self.eventFields)
        self.sendEvent(message)
        return true
    }

    private static func eventFields(_ head: inout ByteBuffer) {
        head.writeStaticString("Content-Type: text/event-stream\r\nCache-Control: no-store\r\n")
        head.writeStaticString("X-Accel-Buffering: no\r\n")
    }

    private func answered(_ message: ByteBuffer) {
        guard let envelope = AnswerReader.read(message, depth: self.loop.limits.jsonDepth) else {
            return self.fail(
                GatewayError(.upstreamProtocol, executed: .yes, "the answer cannot be read", cause: "bad_json")
            )
        }
        var answer = message
        var sessionID: SessionID?
        if let onInitialized {
            // Nobody would ever know the session.
            guard self.responder != nil else { return self.finish(.clientGone) }
            switch onInitialized(message, envelope) {
            case .established(let reply, let session):
                self.isEstablished = true
                answer = reply
                sessionID = session.isLegacy ? nil : session.id
                if self.isHalfClosed { self.gateway.sessions.closeUnlessUsed(session, on: self.loop) }
            case .refused(let reply):
                answer = reply
            }
        }
        if self.message.method == .toolsList {
            let depth = self.loop.limits.jsonDepth
            guard let filtered = self.upstream.filtered(answer, envelope, to: self.message, depth: depth) else {
                return self.fail(
                    GatewayError(
                        .upstreamProtocol,
                        executed: .yes,
                        "the list of tools cannot be read",
                        cause: "bad_json"
                    )
                )
            }
            answer = filtered
            if self.message.era == .stateless { self.upstream.parameters.learn(from: answer) }
        }
        if self.hasStarted || !self.isMessageWise && !self.request.accept.admitsJSON {
            self.beginEvents { head in
                Self.eventFields(&head)
                if let sessionID { head.writeString("Mcp-Session-Id: \(sessionID.text)\r\n") }
            }
            return self.finishEvents(with: answer)
        }
        self.reply(status: self.status(of: envelope), body: answer) { head in
            head.writeStaticString("Content-Type: application/json\r\n")
            if let sessionID { head.writeString("Mcp-Session-Id: \(sessionID.text)\r\n") }
        }
        self.finish(.ok)
    }

    /// The HTTP status of an answer, which on a stream of messages has none of its own (protocol §1.2).
    private func status(of envelope: Envelope) -> Int {
        guard self.message.era == .stateless, envelope.kind == .error else { return 200 }
        return switch envelope.errorCode {
        case -32_601: 404
        case -32_020, -32_021, -32_022, -32_600, -32_602, -32_700: 400
        default: 200
        }
    }

    // MARK: The caller's half

    override func pauseUpstream(_ isPaused: Bool) {
        guard let call else { return }
        self.link.execute { $0.isSlow(call, isPaused) }
    }

    override func abandonUpstream() { self.withdraw(reason: "cancelled") }

    override func cancelled() { self.withdraw(reason: "caller left") }

    private func withdraw(reason: StaticString) {
        let isTold = self.message.method != .initialize
        guard let call else {
            // What waits to be sent is not sent any more.
            _ = self.claim.take()
            self.phase = .over
            return
        }
        self.call = nil
        self.link.execute { $0.withdraw(call, reason: reason, isTold: isTold) }
    }

    override func done() {
        self.phase = .over
        super.done()
        // A link that was opened for a session that did not come to be is nobody's.
        if self.onInitialized != nil, !self.isEstablished { self.link.execute { $0.close() } }
    }

    override var isStreaming: Bool { self.message.isRequest }

    override func keepAlive() {
        guard self.takesMessages, self.onInitialized == nil else { return }
        self.beginEvents(fields: Self.eventFields)
        super.keepAlive()
    }

    override func drain() {
        guard self.message.isListening, let id = self.message.idBytes else { return }
        self.withdraw(reason: "the gateway ends the stream")
        self.beginEvents(fields: Self.eventFields)
        self.finishEvents(with: ClientMessage.listenCompleted(id))
    }

    /// The caller took the call back: the upstream has a moment to say so, since many do not answer any more.
    func wasCancelled() {
        self.isTakenBack = true
        self.deadline = min(self.deadline, .now() + .seconds(1))
    }

    override func timedOut() {
        if self.isTakenBack {
            if let call { self.link.execute { $0.withdraw(call, reason: "cancelled", isTold: false) } }
            self.call = nil
            return self.refuse(status: 200, code: -32_800, "cancelled", outcome: .clientGone)
        }
        // The link has it, and sends it even if the upstream reads nothing now.
        let executed = self.call == nil ? self.giveUp() : .unknown
        if let call {
            self.call = nil
            let isTold = self.message.method != .initialize
            self.link.execute { $0.timedOut(call, isTold: isTold) }
        }
        // The answer may be among what nobody could read.
        let fault = self.upstream.fault(since: self.startedAt).map { self.settings.text(of: $0) } ?? ""
        self.fail(
            GatewayError(
                .upstreamTimeout,
                executed: executed,
                "no complete answer within the timeout of this server" + fault,
                cause: "response_timeout"
            )
        )
    }
}
