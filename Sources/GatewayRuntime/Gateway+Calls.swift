// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

extension Gateway {
    /// A message of a caller that has passed the checks of the protocol.
    struct Call {
        let message: CallerMessage
        let request: InboundRequest
        /// What its caller addressed.
        let endpoint: Endpoint
        /// Who works on it: that of its session, else the one of the endpoint.
        let upstream: Upstream
        let principal: Principal
        /// The session in which it came; it was taken into use, and whoever ends the call gives it back, after the answer: a
        /// session without calls may end.
        var session: CallerSession?

        init(
            _ message: CallerMessage,
            _ request: InboundRequest,
            at endpoint: Endpoint,
            _ principal: Principal,
            _ session: CallerSession? = nil
        ) {
            self.message = message
            self.request = request
            self.endpoint = endpoint
            self.upstream = session?.upstream ?? endpoint.upstream
            self.principal = principal
            self.session = session
        }

        /// A session for its caller, which nobody knows yet.
        func makeSession(_ gateway: Gateway) -> CallerSession {
            CallerSession(
                id: gateway.sessions.makeID(),
                principal: self.principal,
                upstream: self.upstream,
                buffers: gateway.buffers
            )
        }
    }

    // MARK: Starting

    /// To an upstream that answers each HTTP request.
    func start(_ call: Call, _ http: HTTPAccess, _ responder: any DownstreamResponder) -> (any DownstreamExchange)? {
        guard self.admit(call, responder) else { return nil }
        let exchange = Exchange(call, http, gateway: self, responder: responder)
        exchange.start()
        return exchange
    }

    /// Over a stream of messages.
    func start(
        _ call: Call,
        _ link: LinkHandle,
        caller: Int?,
        isShared: Bool,
        _ responder: any DownstreamResponder,
        onInitialized: ((ByteBuffer, Envelope) -> LinkExchange.Reply)? = nil
    ) -> (any DownstreamExchange)? {
        guard self.admit(call, responder) else { return nil }
        let exchange = LinkExchange(
            call,
            link,
            caller: caller,
            isShared: isShared,
            gateway: self,
            responder: responder,
            onInitialized: onInitialized
        )
        exchange.start()
        return exchange
    }

    /// Applies the tool filter and the limits.
    private func admit(_ call: Call, _ responder: any DownstreamResponder) -> Bool {
        let message = call.message
        if message.method == .toolsCall, let watch = responder.loop.settings(of: call.upstream).toolFilter {
            let name = message.envelope.name.map(message.text)
            guard let name, watch.filter.admits(name) else {
                defer { if let session = call.session { self.sessions.end(session) } }
                call.upstream.metrics.requests.increment(message.method, .refused)
                self.refuseTool(name ?? "", call, responder)
                return false
            }
        }
        return self.takePlace(for: call, isStream: message.isListening, responder)
    }

    /// Answers a call of a tool that is hidden as one of a tool that does not exist.
    private func refuseTool(_ name: String, _ call: Call, _ responder: any DownstreamResponder) {
        let message = call.message
        // A handshake caller that expects no answer gets none.
        let isAnswered = message.isRequest || message.era == .stateless
        let status = isAnswered ? message.era == .stateless ? 400 : 200 : 202
        let text = "a tool that toolFilter hides"
        self.logRefusal("tool", status: status, text, at: call.upstream, from: call.request.peer)
        guard isAnswered else { return responder.respond(status: status, body: nil) { _ in } }
        responder.respond(
            status: status,
            json: ErrorAnswer.body(code: -32_602, message: "Unknown tool: \(name)", id: message.idBytes)
        )
    }

    /// Takes a place among the requests under way, or the streams; without one the call is refused.
    private func takePlace(for call: Call, isStream: Bool, _ responder: any DownstreamResponder) -> Bool {
        if !self.isDraining, !call.upstream.isOver, isStream ? self.capacity.takeStream() : self.capacity.takePlace() {
            return true
        }
        self.refusePlace(call, responder)
        return false
    }

    /// Tells a caller why nothing is begun for it.
    private func refusePlace(_ call: Call, _ responder: any DownstreamResponder) {
        defer { if let session = call.session { self.sessions.end(session) } }
        let error: GatewayError =
            if self.isDraining {
                GatewayError(.overloaded, executed: .no, "the gateway stops", cause: "draining")
            } else if call.upstream.isOver {
                .upstreamIsGone(executed: .no)
            } else {
                GatewayError(
                    .overloaded,
                    executed: .no,
                    "the gateway is at its limit of calls; try again",
                    cause: "in_flight"
                )
            }
        self.refuse(error, call.message, call.upstream, responder)
    }

    /// A call that waits until something is known or open; nil if there is no place for it, and it was refused.
    private func waiting(_ call: Call, _ responder: any DownstreamResponder) -> DeferredExchange? {
        guard self.takePlace(for: call, isStream: false, responder) else { return nil }
        guard self.capacity.waiterBegan() else {
            self.capacity.leavePlace()
            defer { if let session = call.session { self.sessions.end(session) } }
            let text = "too many calls wait for a server that is not up; try again later"
            let error = GatewayError(.overloaded, executed: .no, text, cause: "in_flight")
            self.refuse(error, call.message, call.upstream, responder)
            return nil
        }
        return DeferredExchange(call, gateway: self, responder: responder)
    }

    // MARK: Waiting

    /// Goes on with `make` once what is asked about the upstream was asked.
    func deferred(
        _ call: Call,
        _ responder: any DownstreamResponder,
        asking question: UpstreamSupervisor.Question = .all,
        _ make: @escaping (Call, any DownstreamResponder) -> (any DownstreamExchange)?
    ) -> (any DownstreamExchange)? {
        let upstream = call.upstream
        guard let supervisor = upstream.supervisor else {
            // Of a unit that is over nothing more becomes known, however often it is asked.
            if !upstream.isOver { return make(call, responder) }
            self.refusePlace(call, responder)
            return nil
        }
        guard let exchange = self.waiting(call, responder) else { return nil }
        let bound = exchange.bound
        let loop = responder.loop.eventLoop
        let body = NIOLoopBound(make, eventLoop: loop)
        let era = call.message.era
        supervisor.look(for: question, on: loop) {
            let isRouted = if case .unknown = upstream.route { false } else { true }
            let eras = upstream.eras
            guard isRouted, era == .handshake || eras.stateless != nil || eras.handshake == true else {
                return bound.value.fail(.notProbed(upstream))
            }
            bound.value.become(body.value)
        }
        return exchange
    }

    /// Goes on with `make` once the link of the caller's era is open; if the upstream does not speak that, the caller is told
    /// so.
    func withLink(
        _ call: Call,
        _ responder: any DownstreamResponder,
        _ make: @escaping (Call, any DownstreamResponder, LinkHandle) -> (any DownstreamExchange)?
    ) -> (any DownstreamExchange)? {
        let upstream = call.upstream
        guard let exchange = self.waiting(call, responder) else { return nil }
        let bound = exchange.bound
        let body = NIOLoopBound(make, eventLoop: responder.loop.eventLoop)
        let era = call.message.era
        upstream.home.run {
            upstream.sharedLinks.link(of: era) { result in
                switch result {
                case .success(let link?):
                    let handle = link.handle
                    bound.execute { exchange in exchange.become { body.value($0, $1, handle) } }
                case .success(nil):
                    bound.execute { exchange in exchange.become { self.refuseEra($0, $1) } }
                case .failure(let error):
                    bound.execute { $0.fail(error) }
                }
            }
        }
        return exchange
    }

    /// Tells a caller that the upstream does not speak its era, and what it speaks.
    func refuseEra(_ call: Call, _ responder: any DownstreamResponder) -> (any DownstreamExchange)? {
        let message = call.message
        let isStateless = message.era == .stateless
        let rejection: EraRejection =
            isStateless ? .handshakeOnly(message.envelope) : .statelessOnly(message.envelope)
        defer { if let session = call.session { self.sessions.end(session) } }
        return self.refuse(
            rejection,
            message.envelope,
            call.request,
            message.body,
            call.upstream,
            responder,
            status: isStateless ? nil : 200
        )
    }

    // MARK: Initialize

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
            let shared = upstream.sharedSessions
            guard !shared.isEmpty else { return self.start(call, http, responder) }
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
        _ shared: [SharedSession],
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        guard let exchange = self.waiting(call, responder) else { return nil }
        let bound = exchange.bound
        self.open(shared, http, http.credentials?.attempts(.home)) { result in
            bound.execute { exchange in
                switch result {
                case .failure(let error):
                    exchange.fail(error)
                case .success(let home):
                    exchange.become { call, responder in
                        let capabilities = AnswerReader.capabilities(of: call.message.envelope, in: call.message.body)
                        let slot = shared.count > 1 ? home.slot : nil
                        self.establish(call, home.result, responder, home: slot) { session in
                            let caller = SharedCaller(shared, capabilities: capabilities)
                            if let own = caller.session(home.slot) { _ = caller.number(in: own, of: session) }
                            return .shared(caller)
                        }
                        return nil
                    }
                }
            }
        }
        return exchange
    }

    /// A session that callers share and that is open.
    private struct SharedHome: Sendable {
        let slot: Int
        let result: InitializeResult
    }

    /// Opens the shared session of the slot whose turn it is, or of those after it; `completion` is called anywhere.
    private func open(
        _ shared: [SharedSession],
        _ http: HTTPAccess,
        _ attempts: CredentialAttempts?,
        _ completion: @escaping @Sendable (Result<SharedHome, GatewayError>) -> Void
    ) {
        let pool = http.credentials
        var attempts = attempts
        guard let slot = pool.map({ $0.begin(&attempts) }) ?? 0 else {
            return completion(.failure(.exhausted(attempts?.statuses ?? [])))
        }
        guard shared.indices.contains(slot) else { return completion(.failure(.noSuchSlot)) }
        shared[slot]
            .whenOpen { [attempts] opened in
                guard let pool else { return completion(Self.home(slot, opened)) }
                var attempts = attempts
                switch opened {
                case .open(_, let isFirst):
                    // Of a session that was open before nothing new is known.
                    if isFirst { pool.succeeded(&attempts) } else { pool.release(&attempts, as: nil) }
                    completion(Self.home(slot, opened))
                case .failed:
                    pool.release(&attempts)
                    completion(Self.home(slot, opened))
                case .refused(let status, let isFirst):
                    let refusal = pool.refused(&attempts, with: status, isCounted: isFirst)
                    switch refusal.verdict {
                    case .again: self.open(shared, http, attempts, completion)
                    case .rejected: completion(.failure(.rejected(status: status, slot: slot)))
                    case .exhausted: completion(.failure(.exhausted(refusal.statuses)))
                    }
                }
            }
    }

    private static func home(_ slot: Int, _ opened: SharedSession.Opened) -> Result<SharedHome, GatewayError> {
        switch opened {
        case .open(let result, _): .success(SharedHome(slot: slot, result: result))
        case .refused(let status, _): .failure(.rejected(status: status, slot: nil))
        case .failed(let error): .failure(error)
        }
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
        home: Int? = nil,
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
        if upstream.takeChild(limit: self.limits.childrenPerServer) { return true }
        guard let idle = self.sessions.makeRoom(for: principal, at: upstream) else { return false }
        self.sessions.close(idle, on: loop)
        return upstream.takeChild(limit: .max)
    }
}
