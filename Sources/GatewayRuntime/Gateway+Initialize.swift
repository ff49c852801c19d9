// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// `initialize` of callers: whose session they get upstream, and what they are answered.
extension Gateway {
    /// `initialize` of a caller: its session begins, upstream as the configuration says whose it is.
    ///
    /// `isAsked`: whether the upstream was asked for it whether it speaks the handshake era.
    func initialize(
        _ call: Call,
        _ responder: any DownstreamResponder,
        isAsked: Bool = false
    ) -> (any DownstreamExchange)? {
        let upstream = call.upstream
        let eras = upstream.eras
        if eras.isHandshakeOpen, !isAsked {
            return self.deferred(call, responder, asking: .handshake) { self.initialize($0, $1, isAsked: true) }
        }
        if eras.refusesHandshake { return self.refuseEra(call, responder) }
        switch upstream.route {
        case .unknown:
            return self.deferred(call, responder) { self.initialize($0, $1) }
        case .http(let http):
            guard let shared = upstream.sharedSessions else { return self.start(call, http, responder) }
            return self.initialize(call, http, shared, responder)
        case .link where upstream.isShared:
            return self.withLink(call, responder) { call, responder, handle in
                self.initializeShared(call, handle, responder)
            }
        case .link:
            return self.initializeOwn(call, responder)
        }
    }

    /// In a session that callers share over streamable HTTP.
    private func initialize(
        _ call: Call,
        _ http: HTTPAccess,
        _ shared: SharedSessions,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        guard let exchange = self.waiting(call, responder) else { return nil }
        let bound = exchange.bound
        shared.open { result in
            bound.execute { exchange in
                switch result {
                case .failure(let error):
                    exchange.fail(error)
                case .success(let home):
                    exchange.become { call, responder in
                        let capabilities = AnswerReader.capabilities(of: call.message.envelope, in: call.message.body)
                        let slot = http.credentials.map { _ in home.session.slot }
                        self.establish(call, home.result, responder, home: slot) { session in
                            let caller = SharedCaller(shared, capabilities: capabilities)
                            _ = caller.number(in: home.session, of: session)
                            return .shared(caller)
                        }
                        return nil
                    }
                }
            }
        }
        return exchange
    }

    /// In a session that callers share over a stream of messages.
    private func initializeShared(
        _ call: Call,
        _ link: LinkHandle,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        guard let exchange = self.waiting(call, responder) else { return nil }
        let bound = exchange.bound
        let capabilities = AnswerReader.capabilities(of: call.message.envelope, in: call.message.body)
        let session = call.session ?? call.makeSession(self)
        link.execute { link in
            guard let initialized = link.initializeResult else {
                let gone = link.settings.gone
                return bound.execute { $0.fail(gone) }
            }
            let number = link.join(session, capabilities: capabilities)
            let handle = link.handle
            bound.execute { exchange in
                let isThere = exchange.become { call, responder in
                    self.establish(call, initialized, responder, session) { _ in .link(handle, caller: number) }
                    return nil
                }
                if !isThere { handle.execute { $0.leave(number) } }
            }
        }
        return exchange
    }

    /// Answers `initialize` from what the upstream said to ours, and binds the caller's session.
    private func establish(
        _ call: Call,
        _ initialized: InitializeResult,
        _ responder: any DownstreamResponder,
        _ made: CallerSession? = nil,
        home: CredentialID? = nil,
        _ binding: (CallerSession) -> CallerSession.Binding
    ) {
        let message = call.message
        let requested = message.envelope.initializeVersion.map(message.text)
        let version = initialized.negotiated(requested)
        let session = call.session ?? made ?? call.makeSession(self)
        let bound = binding(session)
        let isOpen =
            session.bind(bound, revision: ProtocolRevision(rawValue: version), home: home)
            && (session.isLegacy || self.sessions.open(session, on: responder.loop))
        defer { if let session = call.session { self.sessions.end(session) } }
        guard isOpen else {
            call.upstream.end(bound, on: responder.loop)
            return self.refuseSessionLimit(call, responder)
        }
        call.upstream.metrics.requests.increment(message.method, .ok)
        responder.respond(status: 200, body: initialized.message(id: message.idBytes ?? [], version: version)) { head in
            head.writeStaticString("Content-Type: application/json\r\n")
            if !session.isLegacy { head.writeString("Mcp-Session-Id: \(session.id.text)\r\n") }
        }
    }

    private func refuseSessionLimit(_ call: Call, _ responder: any DownstreamResponder) {
        self.refused(.sessions, status: 503, ErrorAnswer.sessionLimit, at: call.upstream, from: call.request.peer)
        call.upstream.metrics.requests.increment(call.message.method, .overloaded)
        responder.respond(
            status: 503,
            json: ErrorAnswer.tooManySessions(id: call.message.idBytes)
        ) { $0.writeStaticString("Retry-After: 5\r\n") }
    }

    /// With a child or a stream of the caller's own.
    private func initializeOwn(_ call: Call, _ responder: any DownstreamResponder) -> (any DownstreamExchange)? {
        let upstream = call.upstream
        let isProcess = if case .stdio = upstream.transport { true } else { false }
        if isProcess, !self.takeChild(of: upstream, for: call.principal, on: responder.loop) {
            defer { if let session = call.session { self.sessions.end(session) } }
            self.refuse(
                GatewayError(
                    .overloaded,
                    executed: .no,
                    "this server runs as many children as limits.childrenPerServer allows; try again later",
                    cause: "children"
                ),
                call.message,
                upstream,
                responder
            )
            return nil
        }
        let owner = LinkOwner(fields: String(decoding: call.principal.forwarded, as: UTF8.self))
        let link = UpstreamLink(
            upstream,
            settings: upstream.linkSettings,
            scope: .handshake,
            owner: owner,
            on: responder.loop
        )
        if isProcess { link.onClosed = { upstream.releaseChild() } }
        let session = call.session ?? call.makeSession(self)
        let capabilities = AnswerReader.capabilities(of: call.message.envelope, in: call.message.body)
        let number = link.join(session, capabilities: capabilities)
        let handle = link.handle
        let loop = responder.loop
        let exchange = self.start(call, handle, caller: number, isShared: false, responder) {
            [weak link] message, envelope in
            guard let link else { return .refused(message) }
            guard envelope.kind == .result else {
                // It may be asked again in another way, by a new `initialize`.
                return .refused(message)
            }
            let version = AnswerReader.protocolVersion(of: envelope, in: message)
            let isBound = session.bind(
                .link(handle, caller: number),
                revision: version.flatMap(ProtocolRevision.init(rawValue:))
            )
            guard isBound, session.isLegacy || self.sessions.open(session, on: loop) else {
                // It holds the link, which holds it.
                if !session.isLegacy { _ = session.close() }
                return .refused(ByteBuffer(bytes: ErrorAnswer.tooManySessions(id: call.message.idBytes)))
            }
            link.established(with: call.message.body)
            return .established(message, session)
        }
        // Refused before anything was sent: nobody else would give the child's place back.
        if exchange == nil { link.close() }
        return exchange
    }
}

extension Gateway {
    /// Takes one of the children that an upstream may have; at the limit the longest idle session of who has more than its
    /// share of them makes room, else of the same owner (contract §6).
    private func takeChild(of upstream: Upstream, for principal: Principal, on loop: LoopResources) -> Bool {
        if upstream.takeChild(limit: loop.limits.childrenPerServer) { return true }
        guard let idle = self.sessions.makeRoom(for: principal, at: upstream) else { return false }
        self.sessions.close(idle, on: loop)
        return upstream.takeChild(limit: .max)
    }
}
