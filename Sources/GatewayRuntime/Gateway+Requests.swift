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
    /// A POST with one JSON-RPC message, or with a batch where the revision has them.
    package func post(
        _ request: InboundRequest,
        to endpoint: Endpoint,
        responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        let upstream = endpoint.upstream
        let body = request.body
        let depth = responder.loop.limits.jsonDepth
        let envelope: Envelope
        do throws(EnvelopeError) {
            switch try EnvelopeScanner(maximumDepth: depth).scan(body.readableBytesUInt8Span) {
            case .message(let message): envelope = message
            case .batch: return self.postBatch(request, endpoint, responder)
            }
        } catch {
            return self.calls.refuse(error, request, upstream, responder)
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
            return self.calls.refuse(error, envelope, request, body, upstream, responder)
        }
        switch era {
        case .stateless:
            let message = CallerMessage(envelope: envelope, era: .stateless, body: body)
            guard !message.isListening || request.accept.admitsEventStream else {
                let text = "subscriptions/listen is answered by a stream: Accept must admit text/event-stream"
                self.calls.refused(.accept, status: 406, text, at: upstream, from: request.peer)
                responder.respond(
                    status: 406,
                    json: ErrorAnswer.body(code: -32_600, message: text, id: message.idBytes)
                )
                return nil
            }
            return self.postStateless(message, request, endpoint, responder)
        case .handshake:
            let message = CallerMessage(envelope: envelope, era: .handshake, body: body)
            return self.postHandshake(message, request, endpoint, responder)
        }
    }

    // MARK: The stateless era

    /// `isAsked`: whether the upstream was asked for it whether it speaks the stateless era.
    private func postStateless(
        _ message: CallerMessage,
        _ request: InboundRequest,
        _ endpoint: Endpoint,
        _ responder: any DownstreamResponder,
        isAsked: Bool = false
    ) -> (any DownstreamExchange)? {
        let upstream = endpoint.upstream
        let eras = upstream.eras
        // A server that speaks the handshake and does not answer the question is taken at its word.
        if eras.refusesStateless || isAsked && eras.isStatelessOpen {
            let rejection = EraRejection.handshakeOnly(message.envelope)
            return self.calls.refuse(rejection, message.envelope, request, message.body, upstream, responder)
        }
        let principal = Principal(endpoint: endpoint.id, token: request.token, forwarded: [])
        let call = Call(message, request, at: endpoint, principal)
        guard let entrance = upstream.entrance else {
            return self.calls.deferred(call, responder) { call, responder in
                self.postStateless(call.message, call.request, call.endpoint, responder)
            }
        }
        if eras.stateless == nil, entrance.asksBeforeStateless {
            // Not known because the upstream was not up: what it is asked may only be what it speaks (protocol §4).
            return self.calls.deferred(call, responder, asking: eras.isStatelessOpen ? .stateless : .all) {
                self.postStateless($0.message, $0.request, $0.endpoint, $1, isAsked: true)
            }
        }
        return entrance.start(call, self.calls, responder)
    }

    // MARK: The handshake era

    /// `isAsked`: whether the upstream was asked for it whether it speaks the handshake era.
    private func postHandshake(
        _ message: CallerMessage,
        _ request: InboundRequest,
        _ endpoint: Endpoint,
        _ responder: any DownstreamResponder,
        isAsked: Bool = false
    ) -> (any DownstreamExchange)? {
        let upstream = endpoint.upstream
        let principal = self.principal(of: request, at: endpoint)
        if message.method == .initialize {
            return self.initialize(Call(message, request, at: endpoint, principal), responder)
        }
        switch self.session(of: request, principal, at: endpoint) {
        case .unknown:
            return self.calls.refuseSession(message.idBytes, request, upstream, responder)
        case .found(let session):
            return self.start(Call(message, request, at: endpoint, principal, session), responder)
        case .none:
            if upstream.eras.issuesSessions == true {
                let text = "this server needs a session: initialize first and send Mcp-Session-Id"
                self.calls.refused(.session, status: 400, text, at: upstream, from: request.peer)
                responder.respond(
                    status: 400,
                    json: ErrorAnswer.body(code: -32_600, message: text, id: message.idBytes)
                )
                return nil
            }
            let call = Call(message, request, at: endpoint, principal)
            if upstream.eras.isHandshakeOpen, !isAsked {
                return self.calls.deferred(call, responder, asking: .handshake) {
                    self.postHandshake($0.message, $0.request, $0.endpoint, $1, isAsked: true)
                }
            }
            guard let entrance = upstream.entrance else {
                return self.calls.deferred(call, responder) { call, responder in
                    self.postHandshake(call.message, call.request, call.endpoint, responder)
                }
            }
            return entrance.start(call, self.calls, responder)
        }
    }

    /// Gives a message of a session to what its session is bound to.
    func start(_ call: Call, _ responder: any DownstreamResponder) -> (any DownstreamExchange)? {
        guard let session = call.session else { return nil }
        if !call.message.isRequest, session.toldFormer(call.message) {
            defer { self.sessions.end(session) }
            call.upstream.metrics.requests.increment(call.message.method, .ok)
            responder.respond(status: 202, body: nil) { _ in }
            return nil
        }
        guard let leg = call.leg else {
            defer { self.sessions.end(session) }
            let text = "initialize comes first"
            self.calls.refused(.session, status: 400, text, at: call.upstream, from: call.request.peer)
            responder.respond(
                status: 400,
                json: ErrorAnswer.body(code: -32_600, message: text, id: call.message.idBytes)
            )
            return nil
        }
        return leg.start(call, self.calls, responder)
    }

    // MARK: Batches

    private func postBatch(
        _ request: InboundRequest,
        _ endpoint: Endpoint,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        let body = request.body
        let principal = self.principal(of: request, at: endpoint)
        var upstream = endpoint.upstream
        var session: CallerSession?
        let isAllowed: Bool
        switch self.session(of: request, principal, at: endpoint) {
        case .found(let found):
            session = found
            upstream = found.upstream
            isAllowed = found.revision?.allowsBatches == true
        case .unknown:
            return self.calls.refuseSession(nil, request, upstream, responder)
        case .none:
            isAllowed = upstream.eras.issuesSessions == false && request.isOfMarch2025
        }
        // In use until every element has taken it into use for itself.
        defer { if let session { self.sessions.end(session) } }
        guard isAllowed else { return self.calls.refuse(EnvelopeError.noBatches, request, upstream, responder) }
        let elements: [EnvelopeScanner.BatchElement]
        do throws(EnvelopeError) {
            let loop = responder.loop
            let scanner = EnvelopeScanner(maximumDepth: loop.limits.jsonDepth)
            elements = try scanner.scanBatch(body.readableBytesUInt8Span, maximumCount: loop.limits.batchElements)
        } catch {
            return self.calls.refuse(error, request, upstream, responder)
        }
        let batch = BatchExchange(
            responder,
            acceptsEvents: request.accept.admitsEventStream,
            limit: responder.loop.limits.responseBufferBytes,
            upstream: upstream
        )
        let isRunning = batch.start(elements.map { ($0.isOwedAnswer, $0.idBytes(in: body)) }) { index, responder in
            self.postElement(elements[index], request, endpoint, principal, session, responder)
        }
        return isRunning ? batch : nil
    }

    private func postElement(
        _ element: EnvelopeScanner.BatchElement,
        _ request: InboundRequest,
        _ endpoint: Endpoint,
        _ principal: Principal,
        _ session: CallerSession?,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        let upstream = session?.upstream ?? endpoint.upstream
        if case .failure(let error) = element.message { return self.calls.refuse(error, request, upstream, responder) }
        let depth = responder.loop.limits.jsonDepth
        let start = request.body.readerIndex + element.range.lowerBound
        guard let body = request.body.getSlice(at: start, length: element.range.count),
            let scan = try? EnvelopeScanner(maximumDepth: depth).scan(body.readableBytesUInt8Span),
            case .message(let envelope) = scan,
            session.map({ self.sessions.begin($0.id, principal: $0.principal) != nil }) ?? true
        else {
            // An element before it found the session lost.
            return self.calls.refuseSession(element.idBytes(in: request.body), request, upstream, responder)
        }
        let message = CallerMessage(envelope: envelope, era: .handshake, body: body)
        let call = Call(message, request, at: endpoint, principal, session)
        if session == nil, let entrance = upstream.entrance { return entrance.start(call, self.calls, responder) }
        return self.start(call, responder)
    }

    // MARK: Sessions

    enum SessionLookup {
        case none
        case unknown
        case found(CallerSession)
    }

    func session(of request: InboundRequest, _ principal: Principal, at endpoint: Endpoint) -> SessionLookup {
        guard let field = request.parser.value(of: .mcpSessionID) else { return .none }
        let head = request.head
        guard request.parser.count(of: .mcpSessionID) == 1,
            let id = SessionID(head.readableBytesUInt8Span.extracting(field)),
            let session = self.begin(id, principal, request, at: endpoint)
        else { return .unknown }
        guard !session.isLegacy else {
            // Its id is for the other transport.
            self.sessions.end(session)
            return .unknown
        }
        return .found(session)
    }

    /// Begins a call or a stream in a session of a caller; nil if it has no such session.
    func begin(
        _ id: SessionID,
        _ principal: Principal,
        _ request: InboundRequest,
        at endpoint: Endpoint
    ) -> CallerSession? {
        if let session = self.sessions.begin(id, principal: principal) { return session }
        // A session of a unit that was replaced knows its caller by what that one passed on.
        for upstream in self.registry.leaving(endpoint.name)
        where upstream.forwardHeaders != endpoint.upstream.forwardHeaders {
            let former = self.principal(of: request, at: endpoint, forwarding: upstream.forwardHeaders)
            if let session = self.sessions.begin(id, principal: former) { return session }
        }
        return nil
    }

    /// Who asks; `names` are the header fields that count, those of the endpoint's upstream if nil.
    func principal(
        of request: InboundRequest,
        at endpoint: Endpoint,
        forwarding names: [String]? = nil
    ) -> Principal {
        var forwarded = ByteBuffer()
        request.appendForwarded(names ?? endpoint.upstream.forwardHeaders, to: &forwarded)
        return Principal(
            endpoint: endpoint.id,
            token: request.token,
            forwarded: Array(forwarded.readableBytesView)
        )
    }
}

extension EnvelopeError {
    /// An array where the revision has no batches, or where none was negotiated.
    static let noBatches = EnvelopeError(
        code: .invalidRequest,
        offset: 0,
        reason: "batches are for sessions of 2025-03-26 only"
    )
}

extension InboundRequest {
    /// Whether a request without a session is of 2025-03-26: it says so, or nothing (2025-06-18, Transports).
    fileprivate var isOfMarch2025: Bool {
        guard let field = self.parser.value(of: .mcpProtocolVersion) else { return true }
        let head = self.head
        return ProtocolRevision(head.readableBytesUInt8Span.extracting(field))?.allowsBatches == true
    }

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
