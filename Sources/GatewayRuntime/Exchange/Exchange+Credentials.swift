// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// Credentials: the slot of each attempt, the session that goes with it, and what a refusal means (credentials §2.4,
/// §2.9).
extension Exchange {
    /// Takes the slot of the next attempt; false if there is none, and the exchange has ended.
    func takeSlot() -> Bool {
        guard let pool = self.http.credentials else { return true }
        if self.credentials == nil { self.credentials = pool.attempts(self.choice(in: pool)) }
        guard let slot = pool.begin(&self.credentials) else {
            let statuses = self.credentials?.statuses ?? []
            self.fail(statuses.isEmpty ? .noSuchSlot : .exhausted(statuses))
            return false
        }
        self.slot = slot
        return true
    }

    private func choice(in pool: UpstreamCredentials) -> CredentialAttempts.Choice {
        if self.message.method == .initialize { return .home }
        let choice = self.session?.choice(for: self.message, pool)
        self.hasRouting = choice != nil
        guard pool.count > 1 else { return choice ?? .turn }
        if let slot = pool.pinnedSlot(of: self.message) { return .pinned(slot) }
        return choice ?? (self.message.isRequest ? .turn : .idle)
    }

    // MARK: Sessions

    /// Sends the message in the session that the caller has in the slot, which is opened if it has none there.
    func enterSession() {
        guard let session else { return self.connect() }
        if self.hasRouting, session.subscribesTooMuch(self.message) { return self.fail(.tooManySubscriptions) }
        switch self.binding {
        case .none, .link, .http(nil):
            self.connect()
        case .http(let sessions?):
            guard let upstreamSession = sessions.session(self.slot) else {
                return self.movesOn() ? () : self.fail(.noSuchSlot)
            }
            self.upstreamSession = upstreamSession
            if self.hasRouting, self.preparedSlot != self.slot {
                self.outgoing = session.sending(self.message, to: self.slot, insteadOf: self.preparedSlot)
                self.preparedSlot = self.slot
            }
            if upstreamSession.id != nil { return self.connect() }
            self.phase = .waiting
            let exchange = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
            SessionOpening.enter(upstreamSession, self.http, of: self.upstream, on: self.loop) { opened, isFirst in
                exchange.value.sessionOpened(opened, isFirst: isFirst)
            }
        case .shared(let caller):
            self.enter(session, caller)
        }
    }

    private func sessionOpened(_ opened: HTTPUpstreamSession.Opened, isFirst: Bool) {
        guard case .waiting = self.phase, !self.isGone else { return }
        switch opened {
        case .open, .kept: self.connect()
        case .refused(let status): self.refused(with: status, as: .rejected, isCounted: isFirst)
        case .failed where self.movesOn(), .over where self.movesOn(): break
        case .failed(let error): self.fail(error)
        case .over: self.sessionOver()
        }
    }

    /// Sends the message in the session of another credential, if the one of this attempt was removed before its session was open.
    ///
    /// Returns whether that is so; nothing of the message was sent before.
    func movesOn() -> Bool {
        guard let pool = self.http.credentials, !pool.contains(self.slot) else { return false }
        pool.release(&self.credentials, as: nil)
        if self.hasRouting { self.session?.withRouting { [slot] in $0.refused(slot) } }
        self.attempt(isFresh: false)
        return true
    }

    /// In a session that callers share, where ids are ours.
    private func enter(_ session: CallerSession, _ caller: SharedCaller) {
        guard let shared = caller.session(self.slot) else {
            return self.movesOn() ? () : self.fail(.noSuchSlot)
        }
        if shared.isOpen { return self.enter(shared, session, caller) }
        // The one that its caller initialized could not be kept: the caller opens a new one (protocol §1.1).
        guard self.hasRouting, session.home != self.slot else { return self.sessionOver() }
        self.phase = .waiting
        let exchange = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        shared.whenOpen { opened in
            exchange.execute { exchange in
                guard case .waiting = exchange.phase, !exchange.isGone else { return }
                switch opened {
                case .open: exchange.enter(shared, session, caller)
                case .refused(let status, let isFirst):
                    exchange.refused(with: status, as: .rejected, isCounted: isFirst)
                case .failed where exchange.movesOn(): break
                case .failed(let error): exchange.fail(error)
                }
            }
        }
    }

    private func enter(_ shared: SharedSession, _ session: CallerSession, _ caller: SharedCaller) {
        self.upstreamSession = shared.session
        // One that is only repeated keeps its id; with another credential it gets a new one.
        if self.preparedSlot == self.slot { return self.connect() }
        let previousSlot = self.preparedSlot
        self.preparedSlot = self.slot
        self.freeID(mayStillRun: true)
        self.sharedCall = nil
        var message = self.message
        if self.hasRouting {
            let body = session.sending(message, to: self.slot, insteadOf: previousSlot)
            if !message.isRequest, let envelope = AnswerReader.read(body, depth: self.loop.limits.jsonDepth) {
                message = CallerMessage(envelope: envelope, era: message.era, body: body)
            }
        }
        switch shared.admit(message, of: caller.number(in: shared, of: session)) {
        case .oneWay(let body):
            self.outgoing = body
            self.connect()
        case .call(let call):
            self.sharedCall = call
            self.outgoing = call.body
            self.connect()
        case .answered(let answer):
            self.reply(status: 200, body: answer) { $0.writeStaticString("Content-Type: application/json\r\n") }
            self.finish(.ok)
        case .taken:
            self.reply(status: 202, body: nil) { _ in }
            self.finish(.ok)
        case .refused(let error):
            self.fail(error)
        }
    }

    // MARK: Outcomes

    /// The upstream answered with a status from 200 to 299.
    func credentialAccepted() {
        guard let pool = self.http.credentials else { return }
        pool.succeeded(&self.credentials)
        guard self.hasRouting, let session else { return }
        session.remember(self.message)
        self.gateway.accepted(self.slot, by: session, self.http, on: self.loop)
    }

    /// 401 or 403: what it says is read first, but not for long (credentials §2.4).
    func holdRefusal() {
        guard self.http.credentials != nil || self.mayBeOfSession(self.answer.status) else { return self.refused() }
        self.phase = .holding(.refusal)
        let attempt = self.attempts
        self.wait(Self.refusalTime) { exchange in
            guard case .holding(.refusal) = exchange.phase, exchange.attempts == attempt else { return }
            exchange.refused()
        }
    }

    private static let refusalTime = TimeAmount.milliseconds(100)

    /// The refusal was read, as far as it is.
    func refused() {
        switch StatusReading(status: self.answer.status, body: self.readBody(), session: self.sessionState) {
        case .sessionLost: self.sessionLost(isCertain: true)
        case .sessionInDoubt: self.sessionLost(isCertain: false)
        case .answer, .credentialRefused, .failure: self.credentialRefused()
        }
    }

    /// The refusal is about the credential.
    func credentialRefused() {
        self.abandonUpstream()
        let kind = self.answer.refusalKind(self.collected.bytes, depth: self.loop.limits.jsonDepth)
        self.refused(with: self.answer.status, as: kind, isCounted: true)
    }

    func refused(with status: Int, as kind: RefusalKind, isCounted: Bool) {
        self.forgetCollected()
        self.isOverUpstream = true
        guard let pool = self.http.credentials else {
            let failure = GatewayError.rejected(status: status, slot: nil)
            self.upstream.conclude(.rejected, because: failure)
            return self.fail(failure)
        }
        let refusal = pool.refused(&self.credentials, with: status, as: kind, isCounted: isCounted)
        if self.hasRouting { self.session?.withRouting { [slot] in $0.refused(slot) } }
        if pool.areAllRefused {
            self.upstream.conclude(.rejected, because: .rejected(status: status, slot: self.credentials?.position))
        } else {
            self.upstream.conclude(.usable)
        }
        switch refusal.verdict {
        case .again:
            // A kept connection may be one on which a server refused a long body without reading it.
            self.attempt(isFresh: self.outgoing.readableBytes > Self.largeBody)
        case .rejected: self.fail(.rejected(status: status, slot: self.credentials?.position))
        case .exhausted: self.fail(.exhausted(refusal.statuses))
        }
    }

    /// Gives back what the last attempt held.
    func endAttempts() {
        self.freeID(mayStillRun: true)
        guard let pool = self.http.credentials else { return }
        pool.release(&self.credentials)
        if self.hasRouting, let preparedSlot { self.session?.ended(self.message, at: preparedSlot) }
    }

    // MARK: Answers

    /// Remembers which slot made what an answer holds that can only be asked there.
    func pin(_ answer: ByteBuffer, _ envelope: Envelope?) {
        guard let pool = self.http.credentials, pool.count > 1 else { return }
        if self.message.method == .toolsList, self.hasRouting, let session {
            session.listed(answer, self.message, depth: self.loop.limits.jsonDepth)
        }
        guard self.message.canBePinned, AnswerReader.mayHavePins(answer),
            let envelope = envelope ?? AnswerReader.read(answer, depth: self.loop.limits.jsonDepth)
        else { return }
        pool.pin(AnswerReader.pinKeys(of: envelope, in: answer), to: self.slot)
    }
}

extension AnswerHead {
    /// What a refusal seems to be about.
    func refusalKind(_ body: ByteBuffer, depth: Int) -> RefusalKind {
        let envelope = self.mediaType == .json ? AnswerReader.read(body, depth: depth) : nil
        return RefusalKind(
            status: self.status,
            bearerError: self.challenges.bearerError,
            hasChallenge: !self.challenges.isEmpty,
            isLimited: self.isLimited || self.retryAfter != nil,
            isBareError: envelope?.kind == .error && envelope?.id == nil
        )
    }
}
