// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// The sessions that all callers of a streamable-HTTP upstream share, in which it is one caller.
final class SharedSessionLeg: SessionLeg {
    private let http: HTTPAccess
    private let caller: SharedCaller

    init(_ http: HTTPAccess, _ caller: SharedCaller) {
        self.http = http
        self.caller = caller
    }

    func start(
        _ call: Call,
        _ calls: Calls,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        calls.start(call, self.http, self, responder)
    }

    /// What comes unasked is for all of them, and read by the session that they share.
    var ownStream: OwnStream? { nil }

    // MARK: Calls

    func enter(_ exchange: HTTPExchange, _ session: CallerSession) {
        guard let shared = self.caller.session(exchange.slot) else { return exchange.hasNoSession() }
        if shared.isOpen { return self.enter(shared, exchange, session) }
        // The one that its caller initialized could not be kept: the caller opens a new one (protocol §1.1).
        guard exchange.hasRouting, session.home != exchange.slot else { return exchange.tell { $0.opened(.over) } }
        let bound = exchange.bound
        shared.whenOpen { opened in
            bound.execute { exchange in
                guard exchange.call.machine.isOpening else { return }
                switch opened {
                case .open: self.enter(shared, exchange, session)
                case .refused(let status, let isFirst):
                    exchange.tell { $0.opened(.refused(status: status, isFirst: isFirst)) }
                case .failed where exchange.movesOn(isLost: false): break
                case .failed(let error): exchange.failed(error)
                }
            }
        }
    }

    /// Sends the message in a session that is open, where ids are ours.
    private func enter(_ shared: SharedSession, _ exchange: HTTPExchange, _ session: CallerSession) {
        exchange.upstreamSession = shared.session
        // A retry, a redirect or a renewed session keeps the id; with another credential the message gets a new one.
        if exchange.preparedSlot == exchange.slot { return exchange.connect() }
        let previousSlot = exchange.preparedSlot
        exchange.preparedSlot = exchange.slot
        exchange.freeID(mayStillRun: !exchange.call.machine.isUpstreamDone)
        exchange.sharedCall = nil
        var message = exchange.message
        if exchange.hasRouting {
            let body = session.sending(message, to: exchange.slot, insteadOf: previousSlot)
            if !message.isRequest, let envelope = AnswerReader.read(body, depth: exchange.jsonDepth) {
                message = CallerMessage(envelope: envelope, era: message.era, body: body)
            }
        }
        switch shared.admit(message, of: self.caller.number(in: shared, of: session)) {
        case .oneWay(let body):
            exchange.outgoing = body
            exchange.connect()
        case .call(let call):
            exchange.sharedCall = call
            exchange.outgoing = call.body
            exchange.connect()
        case .answered(let answer):
            exchange.prepared = .own(answer)
            exchange.tell { $0.answeredHere() }
        case .taken:
            exchange.prepared = .taken
            exchange.tell { $0.answeredHere() }
        case .refused(let error):
            exchange.failed(error)
        }
    }

    func renewed(_ upstreamSession: HTTPUpstreamSession) { self.caller.session(upstreamSession.slot)?.renewed() }

    func lost(_ upstreamSession: HTTPUpstreamSession?, in slot: CredentialID) {
        self.caller.session(slot)?.lost(upstreamSession)
    }

    func settle(_ session: CallerSession, at slot: CredentialID, on loop: LoopResources) -> Bool {
        guard let shared = self.caller.session(slot) else { return false }
        let wishes = session.withRouting { ($0.subscriptions, $0.severity) }
        let (subscriptions, severity) = wishes ?? ([], nil)
        shared.moved(self.caller.number(in: shared, of: session), subscriptions: subscriptions, severity: severity)
        return true
    }

    func upstreamSession(in slot: CredentialID) -> HTTPUpstreamSession? { self.caller.session(slot)?.session }

    // MARK: Succession

    var standing: CallerSession.Standing {
        CallerSession.Standing(capabilities: self.caller.capabilities, lastNumber: self.caller.lastNumber)
    }

    func moved() -> SessionBridge.Wishes { self.caller.moved() }

    func heard(_ message: CallerMessage, of session: CallerSession) -> Bool {
        self.caller.heard(session.asFormer(message))
    }

    // MARK: The end

    func end(on loop: LoopResources, timeout: TimeAmount, _ completion: @escaping @Sendable () -> Void) {
        self.caller.leave()
        completion()
    }
}

/// How callers come to a streamable-HTTP upstream where those of the handshake era share a session.
struct SharedSessionEntrance: Entrance {
    let upstream: Upstream
    let http: HTTPAccess

    var asksBeforeStateless: Bool { true }

    func start(
        _ call: Call,
        _ calls: Calls,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        calls.start(call, self.http, nil, responder)
    }

    /// The session is opened by us, for the first caller that wants it.
    func initialize(
        _ call: Call,
        _ calls: Calls,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        // Of a unit that is over there are none, and nothing is begun at it.
        guard let shared = self.upstream.sharedSessions else { return calls.start(call, self.http, nil, responder) }
        guard let exchange = calls.waiting(call, responder) else { return nil }
        let bound = exchange.bound
        let http = self.http
        shared.open { result in
            bound.execute { exchange in
                switch result {
                case .failure(let error):
                    exchange.fail(error)
                case .success(let home):
                    exchange.become { call, responder in
                        let capabilities = AnswerReader.capabilities(of: call.message.envelope, in: call.message.body)
                        let slot = http.credentials.map { _ in home.session.slot }
                        calls.establish(call, home.result, responder, home: slot) { session in
                            let caller = SharedCaller(shared, capabilities: capabilities)
                            _ = caller.number(in: home.session, of: session)
                            return SharedSessionLeg(http, caller)
                        }
                        return nil
                    }
                }
            }
        }
        return exchange
    }

    func sharedPlace() async -> (any SharedPlace)? {
        self.upstream.sharedSessions.map { SharedSessionPlace(upstream: self.upstream, sessions: $0) }
    }
}

private struct SharedSessionPlace: SharedPlace {
    let upstream: Upstream
    let sessions: SharedSessions

    func take(_ session: CallerSession, from former: Upstream, _ leg: any Leg) async -> Bool {
        let standing = await leg.standing
        guard let shared = await self.sessions.opened() else { return false }
        shared.follows(standing.lastNumber)
        let caller = SharedCaller(self.sessions, capabilities: standing.capabilities)
        let http = self.sessions.http
        let here = CallerSession.Station(upstream: self.upstream, leg: SharedSessionLeg(http, caller))
        let number = caller.number(in: shared, of: session)
        guard session.move(from: former, to: here, home: http.credentials.map { _ in shared.slot }) else {
            caller.leave()
            return false
        }
        let wishes = await leg.moved()
        // For the next home, if this one is refused.
        session.withRouting { routing in
            for uri in wishes.subscriptions { routing.subscribed(to: uri) }
            if let severity = wishes.severity { routing.leveled(severity) }
        }
        shared.moved(number, subscriptions: wishes.subscriptions, severity: wishes.severity)
        return true
    }

    func ask(for list: ServerList) async -> ByteBuffer? {
        guard let shared = await self.sessions.opened() else { return nil }
        return await shared.ask(ClientMessage.list(list, id: #""gateway""#), timeout: Self.listTime)
    }
}

extension SharedSessions {
    /// A session that is open; nil if none could be opened.
    fileprivate func opened() async -> SharedSession? {
        await withCheckedContinuation { continuation in
            self.open { continuation.resume(returning: (try? $0.get())?.session) }
        }
    }
}
