// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// The upstream session that a message goes in: the caller's own in each slot, or one that callers share.
extension HTTPExchange {
    /// Sends the message in the session that the caller has in the slot, which is opened if it has none there.
    func enterSession() {
        guard let session else { return self.connect() }
        if self.hasRouting, session.subscribesTooMuch(self.message) { return self.failed(.tooManySubscriptions) }
        switch self.call.binding {
        case .none, .link, .http(nil):
            self.connect()
        case .http(let sessions?):
            guard let upstreamSession = sessions.session(self.slot) else { return self.hasNoSession() }
            self.upstreamSession = upstreamSession
            if self.hasRouting, self.preparedSlot != self.slot {
                self.outgoing = session.sending(self.message, to: self.slot, insteadOf: self.preparedSlot)
                self.preparedSlot = self.slot
            }
            if upstreamSession.id != nil { return self.connect() }
            let exchange = self.bound
            SessionOpening.enter(upstreamSession, self.http, of: self.upstream, on: self.loop) { opened, isFirst in
                exchange.value.sessionOpened(opened, isFirst: isFirst)
            }
        case .shared(let caller):
            self.enter(session, caller)
        }
    }

    private func sessionOpened(_ opened: HTTPUpstreamSession.Opened, isFirst: Bool) {
        guard self.call.machine.isOpening else { return }
        switch opened {
        case .open, .kept:
            self.connect()
        case .refused(let status):
            self.tell { $0.opened(.refused(status: status, isFirst: isFirst)) }
        case .failed where self.movesOn(isLost: false), .over where self.movesOn(isLost: false):
            break
        case .failed(let error):
            self.failed(error)
        case .over:
            self.tell { $0.opened(.over) }
        }
    }

    /// There is no session of the caller in the slot, and there will be none.
    private func hasNoSession() {
        if !self.movesOn(isLost: false) { self.failed(.noSuchSlot) }
    }

    // MARK: Sessions that callers share

    /// In a session that callers share, where ids are ours.
    private func enter(_ session: CallerSession, _ caller: SharedCaller) {
        guard let shared = caller.session(self.slot) else { return self.hasNoSession() }
        if shared.isOpen { return self.enter(shared, session, caller) }
        // The one that its caller initialized could not be kept: the caller opens a new one (protocol §1.1).
        guard self.hasRouting, session.home != self.slot else { return self.tell { $0.opened(.over) } }
        let exchange = self.bound
        shared.whenOpen { opened in
            exchange.execute { exchange in
                guard exchange.call.machine.isOpening else { return }
                switch opened {
                case .open: exchange.enter(shared, session, caller)
                case .refused(let status, let isFirst):
                    exchange.tell { $0.opened(.refused(status: status, isFirst: isFirst)) }
                case .failed where exchange.movesOn(isLost: false): break
                case .failed(let error): exchange.failed(error)
                }
            }
        }
    }

    private func enter(_ shared: SharedSession, _ session: CallerSession, _ caller: SharedCaller) {
        self.upstreamSession = shared.session
        // A retry, a redirect or a renewed session keeps the id; with another credential the message gets a new one.
        if self.preparedSlot == self.slot { return self.connect() }
        let previousSlot = self.preparedSlot
        self.preparedSlot = self.slot
        self.freeID(mayStillRun: !self.call.machine.isUpstreamDone)
        self.sharedCall = nil
        var message = self.message
        if self.hasRouting {
            let body = session.sending(message, to: self.slot, insteadOf: previousSlot)
            if !message.isRequest, let envelope = AnswerReader.read(body, depth: self.jsonDepth) {
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
            self.prepared = .own(answer)
            self.tell { $0.answeredHere() }
        case .taken:
            self.prepared = .taken
            self.tell { $0.answeredHere() }
        case .refused(let error):
            self.failed(error)
        }
    }

    // MARK: Sessions that the upstream forgot

    /// The session is opened again with the same credential.
    func reopen(isCertain: Bool) {
        self.abandon()
        guard let upstreamSession, let lostID = self.sentSessionID else { return }
        let exchange = self.bound
        let binding = self.call.binding
        SessionOpening.reopen(
            upstreamSession,
            lost: lostID,
            isCertain: isCertain,
            self.http,
            of: self.upstream,
            on: self.loop
        ) { opened, isFirst in
            if isFirst, case .open = opened, case .shared(let caller) = binding {
                caller.session(upstreamSession.slot)?.renewed()
            }
            exchange.value.sessionReopened(opened, isFirst: isFirst)
        }
    }

    private func sessionReopened(_ opened: HTTPUpstreamSession.Opened, isFirst: Bool) {
        guard self.call.machine.isReopening else { return }
        switch opened {
        // Only one that is lost is opened again, but it may be over for another reason.
        case .failed where self.movesOn(isLost: true), .over where self.movesOn(isLost: false): break
        default: self.tell { $0.reopened(CallMachine.Opening(opened, isFirst: isFirst)) }
        }
    }

    func sessionEnded() {
        guard case .shared(let caller) = self.call.binding else { return }
        caller.session(self.slot)?.lost(self.upstreamSession)
    }
}

extension CallMachine.Opening {
    fileprivate init(_ opened: HTTPUpstreamSession.Opened, isFirst: Bool) {
        self =
            switch opened {
            case .open: .open
            case .kept: .kept
            case .refused(let status): .refused(status: status, isFirst: isFirst)
            case .failed(let error): .failed(executed: error.executed)
            case .over: .over
            }
    }
}
