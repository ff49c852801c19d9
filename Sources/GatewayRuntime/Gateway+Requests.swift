// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// Requests to an MCP endpoint, from the listener: checked by the rules of the protocol, then given to an exchange.
///
/// Each returns what works on the request from now on, or nil if it was answered at once.
extension Gateway {
    /// A POST with one JSON-RPC message.
    package func post(
        _ request: InboundRequest,
        to upstream: Upstream,
        responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        let body = request.body
        let envelope: Envelope
        do throws(EnvelopeError) {
            switch try EnvelopeScanner(maximumDepth: self.limits.jsonDepth).scan(body.readableBytesUInt8Span) {
            case .message(let message): envelope = message
            case .batch:
                let error = EnvelopeError(code: .invalidRequest, offset: 0, reason: "batches are not supported here")
                return self.refuse(error, body, responder)
            }
        } catch {
            return self.refuse(error, body, responder)
        }
        let head = request.head
        let era: Era
        do throws(EraRejection) {
            era = try EraClassifier.classify(
                envelope,
                in: body.readableBytesUInt8Span,
                headers: request.routingHeaders,
                in: head.readableBytesUInt8Span
            )
        } catch {
            return self.refuse(error, envelope, body, upstream, responder)
        }
        switch era {
        case .stateless:
            let message = CallerMessage(envelope: envelope, era: .stateless, body: body)
            return self.postStateless(message, request, upstream, responder)
        case .handshake:
            let message = CallerMessage(envelope: envelope, era: .handshake, body: body)
            return self.postHandshake(message, request, upstream, responder)
        }
    }

    private func postStateless(
        _ message: CallerMessage,
        _ request: InboundRequest,
        _ upstream: Upstream,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        let eras = upstream.eras
        if eras.refusesStateless {
            let rejection = EraRejection.handshakeOnly(message.envelope)
            return self.refuse(rejection, message.envelope, message.body, upstream, responder)
        }
        let principal = Principal(upstream: upstream.index, token: request.token, forwarded: [])
        guard let exchange = self.admit(message, request, upstream, principal, nil, responder) else { return nil }
        if eras.stateless == nil {
            // Not known because the upstream was not up: what it is asked may only be what it speaks (protocol §4).
            exchange.startWhenProbed()
        } else {
            exchange.start()
        }
        return exchange
    }

    private func postHandshake(
        _ message: CallerMessage,
        _ request: InboundRequest,
        _ upstream: Upstream,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        let principal = self.principal(of: request, at: upstream)
        if message.method == .initialize {
            if upstream.eras.refusesHandshake {
                let rejection = EraRejection.statelessOnly(message.envelope)
                return self.refuse(rejection, message.envelope, message.body, upstream, responder, status: 200)
            }
            guard let exchange = self.admit(message, request, upstream, principal, nil, responder) else { return nil }
            exchange.start()
            return exchange
        }
        var session: CallerSession?
        switch self.session(of: request, principal) {
        case .found(let found): session = found
        case .unknown: return self.refuseSession(message.idBytes, responder)
        case .none:
            if upstream.eras.issuesSessions == true {
                self.count(rejected: .session)
                let text = "this server needs a session: initialize first and send Mcp-Session-Id"
                responder.respond(
                    status: 400,
                    json: ErrorAnswer.body(code: -32_600, message: text, id: message.idBytes)
                )
                return nil
            }
        }
        guard let exchange = self.admit(message, request, upstream, principal, session, responder) else {
            if let session { self.sessions.end(session) }
            return nil
        }
        exchange.start()
        return exchange
    }

    /// Applies the tool filter and the limits.
    private func admit(
        _ message: CallerMessage,
        _ request: InboundRequest,
        _ upstream: Upstream,
        _ principal: Principal,
        _ session: CallerSession?,
        _ responder: any DownstreamResponder
    ) -> Exchange? {
        if message.method == .toolsCall, let filter = upstream.configuration.toolFilter {
            let name = message.envelope.name.map(message.text)
            guard let name, filter.admits(name) else {
                upstream.metrics.requests.increment(message.method, .refused)
                responder.respond(
                    status: message.era == .stateless ? 400 : 200,
                    json: ErrorAnswer.body(
                        code: -32_602,
                        message: "Unknown tool: \(name ?? "")",
                        id: message.idBytes
                    )
                )
                return nil
            }
        }
        guard !self.isDraining, message.isListening ? self.takeStream() : self.takePlace() else {
            let cause = self.isDraining ? "draining" : "in_flight"
            let text = self.isDraining ? "the gateway stops" : "the gateway is at its limit of calls; try again"
            self.refuse(
                GatewayError(.overloaded, executed: .no, text, cause: cause),
                message,
                upstream,
                responder
            )
            return nil
        }
        return Exchange(
            gateway: self,
            upstream: upstream,
            request: request,
            message: message,
            principal: principal,
            session: session,
            responder: responder
        )
    }

    /// A GET: the stream of a handshake session.
    package func get(
        _ request: InboundRequest,
        from upstream: Upstream,
        responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        guard !self.isStateless(request), !upstream.eras.refusesHandshake else {
            return self.refuseMethod(responder)
        }
        let principal = self.principal(of: request, at: upstream)
        var session: CallerSession?
        switch self.session(of: request, principal) {
        case .found(let found): session = found
        case .unknown: return self.refuseSession(nil, responder)
        case .none:
            if upstream.eras.issuesSessions == true {
                self.count(rejected: .session)
                responder.respond(
                    status: 400,
                    json: ErrorAnswer.body(code: -32_600, message: "a GET stream needs Mcp-Session-Id")
                )
                return nil
            }
        }
        guard !self.isDraining, self.takeStream() else {
            if let session { self.sessions.end(session) }
            self.count(rejected: self.isDraining ? .draining : .inFlight)
            responder.respond(
                status: 503,
                json: ErrorAnswer.body(code: -31_009, message: "too many streams; try again later")
            ) { $0.writeStaticString("Retry-After: 5\r\n") }
            return nil
        }
        let exchange = ListenExchange(
            gateway: self,
            upstream: upstream,
            request: request,
            session: session,
            responder: responder
        )
        exchange.start()
        return exchange
    }

    /// A DELETE: the end of a handshake session.
    package func delete(_ request: InboundRequest, at upstream: Upstream, responder: any DownstreamResponder) {
        guard !self.isStateless(request) else {
            _ = self.refuseMethod(responder)
            return
        }
        switch self.session(of: request, self.principal(of: request, at: upstream)) {
        case .found(let session):
            self.end(session, on: responder.loop)
            responder.respond(status: 204, body: nil) { _ in }
        case .unknown:
            _ = self.refuseSession(nil, responder)
        case .none:
            self.count(rejected: .session)
            responder.respond(
                status: 400,
                json: ErrorAnswer.body(code: -32_600, message: "DELETE ends a session: send Mcp-Session-Id")
            )
        }
    }

    // MARK: Sessions

    private enum SessionLookup {
        case none
        case unknown
        case found(CallerSession)
    }

    private func session(of request: InboundRequest, _ principal: Principal) -> SessionLookup {
        guard let field = request.parser.value(of: .mcpSessionID) else { return .none }
        let head = request.head
        guard request.parser.count(of: .mcpSessionID) == 1,
            let id = SessionID(head.readableBytesUInt8Span.extracting(field)),
            let session = self.sessions.begin(id, principal: principal)
        else { return .unknown }
        return .found(session)
    }

    private func principal(of request: InboundRequest, at upstream: Upstream) -> Principal {
        var forwarded = ByteBuffer()
        request.appendForwarded(upstream.configuration.forwardHeaders, to: &forwarded)
        return Principal(upstream: upstream.index, token: request.token, forwarded: Array(forwarded.readableBytesView))
    }

    /// Whether a request without a body says that it is of the stateless era, which has neither GET nor DELETE.
    private func isStateless(_ request: InboundRequest) -> Bool {
        guard let field = request.parser.value(of: .mcpProtocolVersion) else { return false }
        let head = request.head
        let revision = ProtocolRevision(head.readableBytesUInt8Span.extracting(field))
        return revision?.isStateless ?? true
    }

    // MARK: Refusals

    private func refuse(
        _ error: EnvelopeError,
        _ body: ByteBuffer,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        self.count(rejected: .message)
        let id = error.id.flatMap { body.getBytes(at: body.readerIndex + $0.range.lowerBound, length: $0.range.count) }
        responder.respond(status: 400, json: ErrorAnswer.body(code: error.code.rawValue, message: error.reason, id: id))
        return nil
    }

    private func refuse(
        _ rejection: EraRejection,
        _ envelope: Envelope,
        _ body: ByteBuffer,
        _ upstream: Upstream,
        _ responder: any DownstreamResponder,
        status: Int? = nil
    ) -> (any DownstreamExchange)? {
        upstream.metrics.requests.increment(envelope.method ?? .other, .refused)
        let answer = ErrorAnswer.body(rejection, eras: upstream.eras, envelope: envelope, in: body)
        responder.respond(status: status ?? rejection.status, json: answer)
        return nil
    }

    private func refuse(
        _ error: GatewayError,
        _ message: CallerMessage,
        _ upstream: Upstream,
        _ responder: any DownstreamResponder
    ) {
        self.report(error, upstream: upstream, method: message.method)
        upstream.metrics.requests.increment(message.method, CallOutcome(error.reason))
        _ = ErrorAnswer.send(error, to: responder, upstream: upstream, message: message)
    }

    private func refuseSession(_ id: [UInt8]?, _ responder: any DownstreamResponder) -> (any DownstreamExchange)? {
        self.count(rejected: .session)
        responder.respond(
            status: 404,
            json: ErrorAnswer.body(code: -32_600, message: "session not found: initialize again", id: id)
        )
        return nil
    }

    private func refuseMethod(_ responder: any DownstreamResponder) -> (any DownstreamExchange)? {
        self.count(rejected: .method)
        responder.respond(
            status: 405,
            json: ErrorAnswer.body(code: -32_600, message: "the stateless era has POST only")
        ) { $0.writeStaticString("Allow: POST\r\n") }
        return nil
    }
}

extension InboundRequest {
    /// The fields that say what a POST is about.
    var routingHeaders: RoutingHeaders {
        func field(_ name: HTTP1FieldName) -> HeaderField {
            switch self.parser.count(of: name) {
            case 0: .absent
            case 1: self.parser.value(of: name).map(HeaderField.one) ?? .absent
            default: .repeated
            }
        }
        return RoutingHeaders(
            version: field(.mcpProtocolVersion),
            method: field(.mcpMethod),
            name: field(.mcpName)
        )
    }
}
