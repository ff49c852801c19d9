// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// How calls begin, and what they wait for before.
extension Calls {
    /// A session for a caller, which nobody knows yet.
    func makeSession(for call: Call) -> CallerSession {
        CallerSession(
            id: self.sessions.makeID(),
            principal: call.principal,
            upstream: call.upstream,
            buffers: self.buffers
        )
    }

    // MARK: Starting

    /// In an HTTP exchange of its own; in a session on `leg`, if there is one.
    func start(
        _ call: Call,
        _ http: HTTPAccess,
        _ leg: (any SessionLeg)?,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        guard self.admit(call, responder) else { return nil }
        let slots = http.credentials?.count
        let exchange = Exchange(call, calls: self, responder: responder, isOverLink: false, slots: slots)
        exchange.start(HTTPExchange(exchange, http, leg))
        return exchange
    }

    /// Over a stream of messages.
    func start(
        _ call: Call,
        _ link: LinkHandle,
        _ settings: LinkSettings,
        caller: Int?,
        isShared: Bool,
        _ responder: any DownstreamResponder,
        onInitialized: ((ByteBuffer, Envelope) -> LinkExchange.Reply)? = nil
    ) -> (any DownstreamExchange)? {
        guard self.admit(call, responder) else { return nil }
        let exchange = Exchange(call, calls: self, responder: responder, isOverLink: true, slots: nil)
        exchange.start(
            LinkExchange(exchange, link, settings, caller: caller, isShared: isShared, onInitialized: onInitialized)
        )
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
    func waiting(_ call: Call, _ responder: any DownstreamResponder) -> DeferredExchange? {
        guard self.takePlace(for: call, isStream: false, responder) else { return nil }
        guard self.capacity.waiterBegan() else {
            self.capacity.leavePlace()
            defer { if let session = call.session { self.sessions.end(session) } }
            let text = "too many calls wait for a server that is not up; try again later"
            let error = GatewayError(.overloaded, executed: .no, text, cause: "in_flight")
            self.refuse(error, call.message, call.upstream, responder)
            return nil
        }
        return DeferredExchange(call, calls: self, responder: responder)
    }

    // MARK: Waiting

    /// Goes on with `make` once what is asked about the upstream was asked.
    func deferred(
        _ call: Call,
        _ responder: any DownstreamResponder,
        asking question: UpstreamQuestion = .all,
        _ make: @escaping (Call, any DownstreamResponder) -> (any DownstreamExchange)?
    ) -> (any DownstreamExchange)? {
        let upstream = call.upstream
        guard let watch = upstream.watch else {
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
        watch.look(for: question, on: loop) {
            let isRouted = upstream.route != .unknown
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
            guard let links = upstream.sharedLinks?.links else {
                return bound.execute { $0.fail(.upstreamIsGone(executed: .no)) }
            }
            links.link(of: era) { result in
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
}
