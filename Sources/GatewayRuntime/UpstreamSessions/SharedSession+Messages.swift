// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import GatewayWire
import NIOCore
import Synchronization

// MARK: - From callers

extension SharedSession {
    /// What to do with a caller's message.
    enum Admission {
        /// Send it under other ids.
        case call(SharedCall)
        /// Send it with what it names under other ids; it gets no answer.
        case oneWay(ByteBuffer)
        /// The caller has its answer.
        case answered(ByteBuffer)
        /// It concerns nothing that is there.
        case taken
        /// It is not sent, for this reason.
        case refused(GatewayError)
    }

    func admit(_ message: CallerMessage, of caller: Int) -> Admission {
        let body = message.body
        let sending = self.state.withLock {
            $0.bridge.sending(body.readableBytesUInt8Span, message.envelope, of: caller)
        }
        switch sending {
        case .request(let call, let edits):
            let literal = message.idBytes ?? []
            return .call(SharedCall(self, call: call, literal: literal, body: body.edited(edits)))
        case .oneWay(let edits, _): return .oneWay(body.edited(edits))
        case .emptyResult: return .answered(ClientMessage.emptyResult(message.idBytes ?? []))
        case .tooManySubscriptions: return .refused(.tooManySubscriptions)
        case .taken: return .taken
        }
    }

    fileprivate func withdrawn(_ call: Int64) { _ = self.state.withLock { $0.bridge.withdraw(call) } }

    fileprivate func answered(_ call: Int64) { _ = self.state.withLock { $0.bridge.answered(.integer(call)) } }
}

// MARK: - From the upstream

extension SharedSession {
    /// What an upstream's message becomes for the callers that it is for; `call` is the one along whose answer it came.
    ///
    /// Returns what goes along that answer; what is for others is sent there. `isTaken`: the caller takes messages there;
    /// if not, a question goes to where it listens.
    func route(_ message: ByteBuffer, _ envelope: Envelope, along call: Int64?, isTaken: Bool = true) -> ByteBuffer? {
        let (delivery, session): (MessageRouter.Delivery, (any StreamSink)?) = self.state.withLock { state in
            let delivery = state.bridge.delivery(message.readableBytesUInt8Span, envelope, along: call)
            guard case .caller(let recipient, _, _) = delivery, let caller = recipient.caller else {
                return (delivery, nil)
            }
            return (delivery, state.callers[caller])
        }
        switch delivery {
        case .pong(let id): self.send(ClientMessage.emptyResult(id))
        case .refuse(let id): self.send(ClientMessage.methodNotFound(id))
        case .callers(let callers): self.deliver(message, to: callers)
        case .answer, .ownAnswer, .answerToNoCall, .nobody: break
        case .caller(let recipient, let matter, let edits):
            var own = message.edited(edits)
            if let session, matter.mayGoElsewhere {
                own = session.heard(own, by: self.slot, depth: self.upstream.jsonDepth)
            }
            if recipient.call != nil, isTaken { return own }
            self.deliver(own, to: session, matter, isLate: recipient.call != nil)
        }
        return nil
    }

    /// Gives a caller what is for it alone where it listens; `isLate`: it would have belonged to the answer to its call.
    private func deliver(
        _ message: ByteBuffer,
        to session: (any StreamSink)?,
        _ matter: MessageRouter.Matter,
        isLate: Bool
    ) {
        // A caller that was in several slots hears what is about no call of its own where it is at home.
        guard matter.mayGoElsewhere || !isLate && session?.home == self.slot else { return }
        if session?.deliver(message, taken: {}) == true { return }
        guard case .question(let number) = matter,
            let literal = self.state.withLock({ $0.bridge.undelivered(number) })
        else { return }
        self.send(ClientMessage.methodNotFound(literal))
    }

    private func deliver(_ message: ByteBuffer, to callers: [Int]) {
        let sessions = self.state.withLock { state in callers.compactMap { state.callers[$0] } }
        // A caller that was in several slots hears what comes unasked where it is at home.
        for session in sessions where session.home == self.slot { session.deliver(message, taken: {}) }
    }
}

/// A call in a session that callers share: its ids there, and the way back.
struct SharedCall {
    private let session: SharedSession
    private let call: Int64
    /// The id as its caller wrote it.
    private let literal: [UInt8]
    /// The message under ids of ours.
    let body: ByteBuffer

    init(_ session: SharedSession, call: Int64, literal: [UInt8], body: ByteBuffer) {
        self.session = session
        self.call = call
        self.literal = literal
        self.body = body
    }

    /// The id that the upstream knows, as JSON text.
    var idBytes: [UInt8] { Array(String(self.call).utf8) }

    func isAnswered(by envelope: Envelope, in message: ByteBuffer) -> Bool {
        envelope.isResponse && envelope.idValue(in: message) == .integer(self.call)
    }

    /// The answer under the caller's own id.
    func restored(_ message: ByteBuffer, _ envelope: Envelope) -> ByteBuffer {
        guard let id = envelope.id else { return message }
        return message.edited([MessageEdit(id.range, self.literal)])
    }

    /// What a message that came on the call's answer is to its caller; nil: nothing.
    ///
    /// `isTaken`: the caller takes messages there.
    func along(_ message: ByteBuffer, _ envelope: Envelope, isTaken: Bool) -> ByteBuffer? {
        self.session.route(message, envelope, along: self.call, isTaken: isTaken)
    }

    /// Nobody waits for the call any more, but the upstream may go on with it; nothing if it has its answer.
    func withdraw() { self.session.withdrawn(self.call) }

    /// The upstream answered the call, or never began with it.
    func answered() { self.session.answered(self.call) }
}
