// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// The way of one message to an upstream that is reached through a stream of messages, and what comes for it.
///
/// Confined to the event loop of the caller's connection; the link may live on another one.
final class LinkExchange: CallLeg, CallSink {
    /// What a caller gets for its `initialize`.
    enum Reply {
        /// The session is open; a caller of streamable HTTP is told its id.
        case established(ByteBuffer, CallerSession)
        /// There is none.
        case refused(ByteBuffer)
    }

    private let call: Exchange
    private let link: LinkHandle
    private let kind: any LinkKind
    /// The number of its caller in the link; nil for a request that stands alone.
    private let caller: Int?
    /// Taken by the link when it sends the message, or here when that is given up before.
    private let claim = SendClaim()
    /// Its number in the link, while it is on its way.
    private var number: Int64?
    private var isOver = false
    private(set) var usedSlot: Int?
    /// Whether others use the link as well.
    private let isShared: Bool
    private var isEstablished = false
    /// Told the answer to `initialize` before its caller sees it; nil: what is sent instead.
    private let onInitialized: ((ByteBuffer, Envelope) -> Reply)?
    /// What the caller gets as the answer, with which HTTP status, and the session that it opens.
    private var prepared: (answer: ByteBuffer, status: Int, sessionID: SessionID?)?

    /// `caller` is its number in the link.
    init(
        _ call: Exchange,
        _ link: LinkHandle,
        _ settings: LinkSettings,
        caller: Int?,
        isShared: Bool,
        onInitialized: ((ByteBuffer, Envelope) -> Reply)? = nil
    ) {
        self.call = call
        self.link = link
        self.kind = settings.kind
        self.caller = caller
        self.isShared = isShared
        self.onInitialized = onInitialized
    }

    private var message: CallerMessage { self.call.message }
    private var upstream: Upstream { self.call.upstream }

    // MARK: Sending

    func perform(_ action: CallMachine.Action) {
        guard case .open = action else { return }
        let exchange = NIOLoopBound<any CallSink>(self, eventLoop: self.call.loop.eventLoop)
        self.link.execute { [message = self.message, caller = self.caller, claim = self.claim] link in
            link.send(message, of: caller, for: exchange, claim)
        }
    }

    /// The link sends it under this number.
    func became(_ number: Int64, with credential: LinkCredential?) {
        self.number = number
        self.usedSlot = credential?.position
        // It may have been given up before it got that far.
        if self.isOver { return self.withdraw(reason: "cancelled", isTold: self.message.method != .initialize) }
        self.call.machine.isSent()
    }

    /// The link sends it once more: its session was unknown to the upstream, so that it did not run.
    func isSentAgain() { self.call.machine.isSentAgain() }

    /// A notification or a response is with the upstream, or needed no sending.
    func taken() { self.call.perform(self.call.machine.taken()) }

    /// The link has no answer and never will.
    func failed(_ error: GatewayError) {
        self.number = nil
        self.call.report(error)
        self.call.perform(
            self.call.machine.failed(CallMachine.Failure(.lost, executed: error.executed), at: self.call.moment)
        )
    }

    // MARK: What comes

    /// Returns whether the message is on its way to the caller.
    @discardableResult
    func received(_ message: ByteBuffer, as arrival: CallArrival) -> Bool {
        // What the link answers by itself is never on its way.
        if case .answer = arrival { self.call.machine.isSent() }
        let event: CallMachine.Event =
            switch arrival {
            case .answer: .answer
            case .progress: .progress
            case .message: .notification
            }
        switch self.call.machine.event(event, at: self.call.moment) {
        case .answer:
            self.number = nil
            self.answered(message)
            return true
        case .deliver:
            return self.sendAlong(message)
        case .act(let action):
            self.call.perform(action)
            return false
        case .drop, .elsewhere:
            return false
        }
    }

    func flush() { self.call.reply.flush() }

    private func sendAlong(_ message: ByteBuffer) -> Bool {
        // A caller that is gone finds what came since on the stream of its answer, if that had begun.
        guard self.call.reply.reachesCaller else { return false }
        // What is held up for this caller alone is dropped after a while, so that the others go on (faults F88).
        if self.isShared, let since = self.call.machine.blockedSince,
            self.call.now - since >= Duration(SlowCallers.patience)
        {
            return false
        }
        self.call.beginEvents(fields: EventText.appendFields)
        self.call.send(event: message)
        return true
    }

    private func answered(_ message: ByteBuffer) {
        guard let envelope = AnswerReader.read(message, depth: self.call.loop.limits.jsonDepth) else {
            return self.call.perform(self.call.machine.flawed(.message))
        }
        var answer = message
        var sessionID: SessionID?
        if let onInitialized {
            // Nobody would ever know the session.
            guard self.call.reply.hasCaller else { return self.call.perform(self.call.machine.nobodyWaits()) }
            switch onInitialized(message, envelope) {
            case .established(let reply, let session):
                self.isEstablished = true
                answer = reply
                sessionID = session.isLegacy ? nil : session.id
                if self.call.isHalfClosed { self.call.calls.sessions.closeUnlessUsed(session, on: self.call.loop) }
            case .refused(let reply):
                answer = reply
            }
        }
        if self.message.method == .toolsList {
            let depth = self.call.loop.limits.jsonDepth
            guard let filtered = self.upstream.filtered(answer, envelope, to: self.message, depth: depth) else {
                return self.call.perform(self.call.machine.flawed(.toolList))
            }
            answer = filtered
            if self.message.era == .stateless { self.upstream.parameters.learn(from: answer) }
        }
        self.prepared = (answer, self.status(of: envelope), sessionID)
        self.call.perform(self.call.machine.answered())
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

    func sendAnswer() {
        guard let prepared else { return }
        let reply = self.call.reply
        if reply.hasStarted || !reply.isMessageWise && !self.call.request.accept.admitsJSON {
            self.call.beginEvents { head in
                EventText.appendFields(to: &head)
                Self.append(prepared.sessionID, to: &head)
            }
            return reply.finish(with: prepared.answer)
        }
        reply.respond(status: prepared.status, body: prepared.answer) { head in
            head.writeStaticString("Content-Type: application/json\r\n")
            Self.append(prepared.sessionID, to: &head)
        }
    }

    private static func append(_ sessionID: SessionID?, to head: inout ByteBuffer) {
        if let sessionID { head.writeString("Mcp-Session-Id: \(sessionID.text)\r\n") }
    }

    func error(_ fault: CallMachine.Fault) -> GatewayError {
        let text = fault == .flawed(.toolList) ? "the list of tools cannot be read" : "the answer cannot be read"
        return GatewayError(.upstreamProtocol, executed: .unknown, text, cause: "bad_json")
    }

    /// The answer may be among what nobody could read.
    var timeoutDetail: String {
        self.upstream.fault(since: self.call.startedAt).map { self.kind.text(of: $0) } ?? ""
    }

    // MARK: The caller's half

    /// The caller took the call back.
    func wasCancelled() { self.call.machine.takenBack(now: self.call.now) }

    func withhold() -> Bool { self.number == nil && self.claim.take() }

    func pause(_ isPaused: Bool) {
        guard let number else { return }
        self.link.execute { $0.isSlow(number, isPaused) }
    }

    func letGo(_ end: CallMachine.UpstreamEnd) {
        switch end {
        case .cancel(let reason, let isTold):
            self.withdraw(reason: reason.text, isTold: isTold)
        case .timedOut(let isTold):
            guard let number else { return self.withdraw(reason: "timeout", isTold: isTold) }
            self.number = nil
            self.link.execute { $0.timedOut(number, isTold: isTold) }
        case .over, .readOn:
            break
        }
    }

    private func withdraw(reason: StaticString, isTold: Bool) {
        guard let number else {
            // What waits to be sent is not sent any more.
            _ = self.claim.take()
            return
        }
        self.number = nil
        self.link.execute { $0.withdraw(number, reason: reason, isTold: isTold) }
    }

    func finish(releasesCredential: Bool) { self.isOver = true }

    func close() {
        self.isOver = true
        // A link that was opened for a session that did not come to be is nobody's.
        if self.onInitialized != nil, !self.isEstablished { self.link.execute { $0.close() } }
    }

    // What belongs to answers of HTTP, and to what is made for them.
    func forgetBody() {}
    func freeID(mayStillRun: Bool) {}
    func sessionEnded() {}
}

extension CallMachine.Cancellation {
    /// What the upstream is told.
    fileprivate var text: StaticString {
        switch self {
        case .ended: "cancelled"
        case .callerLeft: "caller left"
        case .drained: "the gateway ends the stream"
        }
    }
}
