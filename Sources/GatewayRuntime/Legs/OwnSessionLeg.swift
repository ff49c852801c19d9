// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// Sessions of the caller's own at a streamable-HTTP upstream: one in each slot that it used.
final class OwnSessionLeg: SessionLeg {
    private let upstream: Upstream
    private let http: HTTPAccess
    private let sessions: HTTPUpstreamSessions

    init(_ upstream: Upstream, _ http: HTTPAccess, _ sessions: HTTPUpstreamSessions) {
        self.upstream = upstream
        self.http = http
        self.sessions = sessions
    }

    func start(
        _ call: Call,
        _ calls: Calls,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        calls.start(call, self.http, self, responder)
    }

    var ownStream: OwnStream? { OwnStream(http: self.http, sessions: self.sessions) }

    // MARK: Calls

    func enter(_ exchange: HTTPExchange, _ session: CallerSession) {
        guard let own = self.sessions.session(exchange.slot) else { return exchange.hasNoSession() }
        exchange.upstreamSession = own
        if exchange.hasRouting, exchange.preparedSlot != exchange.slot {
            exchange.outgoing = session.sending(exchange.message, to: exchange.slot, insteadOf: exchange.preparedSlot)
            exchange.preparedSlot = exchange.slot
        }
        if own.id != nil { return exchange.connect() }
        let bound = exchange.bound
        SessionOpening.enter(own, self.http, of: self.upstream, on: exchange.loop) { opened, isFirst in
            bound.value.sessionOpened(opened, isFirst: isFirst)
        }
    }

    // Its caller is the only one who asked for anything in it, and asks again.
    func renewed(_ upstreamSession: HTTPUpstreamSession) {}
    func lost(_ upstreamSession: HTTPUpstreamSession?, in slot: CredentialID) {}

    func settle(_ session: CallerSession, at slot: CredentialID, on loop: LoopResources) -> Bool {
        guard let moved = self.sessions.session(slot) else { return false }
        let wishes = session.withRouting { ($0.subscriptions, $0.severity) }
        let (subscriptions, severity) = wishes ?? ([], nil)
        func send(_ message: ByteBuffer, _ completion: @escaping () -> Void) {
            UpstreamCall.send(
                self.http,
                of: self.upstream,
                slot: slot,
                on: loop,
                body: message,
                session: moved.id,
                fields: moved.origin.fields,
                timeout: .seconds(30)
            ) { _ in completion() }
        }
        PacedSending.run(subscriptions, on: loop) { uri, next in
            let isWanted = session.withRouting { $0.isSubscribed(to: uri) && $0.home == slot }
            guard isWanted == true else { return next() }
            send(ClientMessage.subscription(.resourcesSubscribe, id: ClientMessage.homeID, uri: uri), next)
        }
        if let severity { send(ClientMessage.setLevel(severity, id: ClientMessage.homeID)) {} }
        return true
    }

    func upstreamSession(in slot: CredentialID) -> HTTPUpstreamSession? { self.sessions.session(slot) }

    // MARK: Succession

    // Nobody takes the place of a unit at which callers have sessions of their own.
    var standing: CallerSession.Standing { CallerSession.Standing() }
    func moved() -> SessionBridge.Wishes { SessionBridge.Wishes() }
    func heard(_ message: CallerMessage, of session: CallerSession) -> Bool { false }

    // MARK: The end

    func end(on loop: LoopResources, timeout: TimeAmount, _ completion: @escaping @Sendable () -> Void) {
        self.upstream.end(self.sessions.slots, self.http, on: loop, timeout: timeout, completion)
    }
}
