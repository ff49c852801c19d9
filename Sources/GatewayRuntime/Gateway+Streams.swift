// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// Streams and ends of sessions: GET and DELETE of streamable HTTP, and the transport of 2024-11-05.
extension Gateway {
    /// A GET: the stream of a handshake session, or the rest of one that broke off.
    package func get(
        _ request: InboundRequest,
        from endpoint: Endpoint,
        responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        var station = CallerSession.Station(upstream: endpoint.upstream)
        guard !self.isStateless(request), !station.upstream.eras.refusesHandshake else {
            return self.refuseMethod(request, station.upstream, responder)
        }
        var session: CallerSession?
        let principal = self.principal(of: request, at: endpoint)
        switch self.session(of: request, principal, at: endpoint) {
        case .found(let found): (session, station) = (found, found.station)
        case .unknown: return self.calls.refuseSession(nil, request, station.upstream, responder)
        case .none:
            if station.upstream.eras.issuesSessions == true {
                let text = "a GET stream needs Mcp-Session-Id"
                self.calls.refused(.session, status: 400, text, at: station.upstream, from: request.peer)
                responder.respond(status: 400, json: ErrorAnswer.body(code: -32_600, message: text))
                return nil
            }
        }
        guard !self.isDraining, self.capacity.takeStream() else {
            if let session { self.sessions.end(session) }
            self.refuseStream(request, station.upstream, responder)
            return nil
        }
        let connection = StreamConnection(
            calls: self.calls,
            upstream: station.upstream,
            principal: session?.principal ?? principal,
            session: session,
            responder: responder
        )
        self.listen(request, station, session, connection, on: responder.loop)
        return connection
    }

    private func refuseStream(
        _ request: InboundRequest,
        _ upstream: Upstream,
        _ responder: any DownstreamResponder
    ) {
        let text = "too many streams; try again later"
        self.calls.refused(self.isDraining ? .draining : .inFlight, status: 503, text, at: upstream, from: request.peer)
        responder.respond(status: 503, json: ErrorAnswer.body(code: -31_009, message: text)) {
            $0.writeStaticString("Retry-After: 5\r\n")
        }
    }

    /// Leads a connection to its stream.
    private func listen(
        _ request: InboundRequest,
        _ station: CallerSession.Station,
        _ session: CallerSession?,
        _ connection: StreamConnection,
        on loop: LoopResources
    ) {
        let wanted = request.value(.lastEventID).flatMap { EventID(String(decoding: $0, as: UTF8.self)) }
        if let session, let wanted, wanted.stream > 0, let stream = session.stream(wanted.stream) {
            return connection.attach(to: stream, after: wanted.event)
        }
        // Of a stream that is gone nothing can be sent again: from now on (protocol §1.1).
        let after = wanted.flatMap { $0.stream == 0 ? $0.event : nil }
        if let session, let stream = session.listener { return connection.attach(to: stream, after: after) }
        if session?.hasNoStream == true { return connection.refuseStream() }
        if let listening = self.makeListening(request, station, session, on: loop) {
            guard let session, let stream = listening.stream else { return listening.start(for: connection) }
            let own = NIOLoopBound(stream, eventLoop: loop.eventLoop)
            let bound = listening.bound
            let kept = session.listener(orElse: .init(stream: own) { bound.execute { $0.end() } })
            if let kept, kept.eventLoop === loop.eventLoop, kept.value === stream {
                return listening.start(for: connection)
            }
            // The session is over, or another GET of it was first, on another event loop.
            listening.discard()
            if let kept { connection.attach(to: kept, after: after) } else { connection.finish() }
            return
        }
        guard let session else { return connection.finish() }
        connection.attach(to: session.makeListener(on: loop), after: nil)
    }

    /// What fills a stream from one that the upstream has for this caller alone; nil where what comes unasked comes another
    /// way.
    private func makeListening(
        _ request: InboundRequest,
        _ station: CallerSession.Station,
        _ session: CallerSession?,
        on loop: LoopResources
    ) -> ListenExchange? {
        if let session { return self.calls.makeListening(request, station, session, on: loop) }
        guard let own = UpstreamKinds.streamWithoutSession(of: station.upstream) else { return nil }
        return ListenExchange(own, calls: self.calls, upstream: station.upstream, request: request, loop: loop)
    }

    /// A DELETE: the end of a handshake session.
    package func delete(_ request: InboundRequest, at endpoint: Endpoint, responder: any DownstreamResponder) {
        let upstream = endpoint.upstream
        guard !self.isStateless(request) else {
            _ = self.refuseMethod(request, upstream, responder)
            return
        }
        switch self.session(of: request, self.principal(of: request, at: endpoint), at: endpoint) {
        case .found(let session):
            self.sessions.close(session, on: responder.loop)
            responder.respond(status: 204, body: nil) { _ in }
        case .unknown:
            _ = self.calls.refuseSession(nil, request, upstream, responder)
        case .none:
            let text = "DELETE ends a session: send Mcp-Session-Id"
            self.calls.refused(.session, status: 400, text, at: upstream, from: request.peer)
            responder.respond(status: 400, json: ErrorAnswer.body(code: -32_600, message: text))
        }
    }

    /// Whether a request without a body says that it is of the stateless era, which has neither GET nor DELETE.
    private func isStateless(_ request: InboundRequest) -> Bool {
        guard let field = request.parser.value(of: .mcpProtocolVersion) else { return false }
        let head = request.head
        let revision = ProtocolRevision(head.readableBytesUInt8Span.extracting(field))
        return revision?.isStateless ?? true
    }

    private func refuseMethod(
        _ request: InboundRequest,
        _ upstream: Upstream,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        let text = "the stateless era has POST only"
        self.calls.refused(.method, status: 405, text, at: upstream, from: request.peer)
        responder.respond(status: 405, json: ErrorAnswer.body(code: -32_600, message: text)) {
            $0.writeStaticString("Allow: POST\r\n")
        }
        return nil
    }

    // MARK: The transport of 2024-11-05

    /// `GET P/NAME/sse`: a session begins, with the one stream that it has; the first event says where messages go.
    package func openLegacy(
        _ request: InboundRequest,
        at endpoint: Endpoint,
        responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        let upstream = endpoint.upstream
        guard !self.isDraining, self.capacity.takeStream() else {
            self.refuseStream(request, upstream, responder)
            return nil
        }
        let session = CallerSession(
            id: self.sessions.makeID(),
            principal: self.principal(of: request, at: endpoint),
            upstream: upstream,
            isLegacy: true,
            buffers: self.buffers
        )
        guard self.sessions.open(session, on: responder.loop),
            self.sessions.begin(session.id, principal: session.principal) != nil
        else {
            self.capacity.streamEnded()
            self.calls.refused(.sessions, status: 503, ErrorAnswer.sessionLimit, at: upstream, from: request.peer)
            responder.respond(
                status: 503,
                json: ErrorAnswer.tooManySessions()
            ) { $0.writeStaticString("Retry-After: 5\r\n") }
            return nil
        }
        let loop = responder.loop
        let source = LegacyStreamSource(session) { self.sessions.close(session, on: loop) }
        let overdueLimit = CallerStream.overdueLimit(loop.limits)
        let stream = CallerStream(
            number: 0,
            loop: loop,
            isResumable: false,
            source: source,
            overdueLimit: overdueLimit
        )
        let bound = NIOLoopBound(stream, eventLoop: loop.eventLoop)
        session.opened(bound, limit: overdueLimit)
        let connection = StreamConnection(
            calls: self.calls,
            upstream: upstream,
            principal: session.principal,
            session: session,
            responder: responder
        )
        let standing = NIOLoopBound(connection, eventLoop: loop.eventLoop)
        session.onEndWhenIdle { standing.execute { $0.endSessionWhenIdle() } }
        connection.attach(to: bound, after: nil)
        let path = "\(self.listener.basePath)/\(endpoint.route)/message?sessionId=\(session.id.text)"
        stream.send(raw: ByteBuffer(string: "event: endpoint\ndata: \(path)\n\n"))
        stream.flush()
        return connection
    }

    /// `POST P/NAME/message?sessionId=…`: a message; what it is answered comes on the stream.
    package func postLegacy(
        _ request: InboundRequest,
        to endpoint: Endpoint,
        responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        let body = request.body
        guard let session = self.legacySession(of: request, at: endpoint), let messages = session.messages else {
            return self.calls.refuseSession(nil, request, endpoint.upstream, responder)
        }
        let upstream = session.upstream
        let depth = responder.loop.limits.jsonDepth
        let envelope: Envelope
        do throws(EnvelopeError) {
            let scan = try EnvelopeScanner(maximumDepth: depth).scan(body.readableBytesUInt8Span)
            guard case .message(let message) = scan else { throw EnvelopeError.noBatches }
            envelope = message
        } catch {
            self.sessions.end(session)
            return self.calls.refuse(error, request, upstream, responder)
        }
        let message = CallerMessage(envelope: envelope, era: .handshake, body: body)
        let principal = session.principal
        guard message.method != .initialize || session.beginInitializing() else {
            self.sessions.end(session)
            let error = EnvelopeError(
                code: .invalidRequest,
                offset: 0,
                reason: "the session is initialized, or about to be",
                id: envelope.id
            )
            return self.calls.refuse(error, request, upstream, responder)
        }
        guard message.isRequest else {
            // Answered when the upstream has it, so that what comes next comes after it.
            return self.start(Call(message, request, at: endpoint, principal, session), responder)
        }
        let call = Call(message, request, at: endpoint, principal, session)
        responder.respond(status: 202, body: ByteBuffer(staticString: "Accepted")) { head in
            head.writeStaticString("Content-Type: text/plain\r\n")
        }
        let isInitialize = message.method == .initialize
        let back = MessageResponder(loop: responder.loop, sink: messages) {
            if isInitialize { session.endedInitializing() }
        }
        _ = isInitialize ? self.initialize(call, back) : self.start(call, back)
        return nil
    }

    private func legacySession(of request: InboundRequest, at endpoint: Endpoint) -> CallerSession? {
        guard let query = request.parser.query, let text = request.bytes(query) else { return nil }
        let pairs = String(decoding: text, as: UTF8.self).split(separator: "&")
        let values = pairs.compactMap { $0.hasPrefix("sessionId=") ? $0.dropFirst("sessionId=".count) : nil }
        guard values.count == 1, let value = values.first, let id = SessionID(Array(value.utf8).span),
            let session = self.begin(id, self.principal(of: request, at: endpoint), request, at: endpoint)
        else { return nil }
        guard session.isLegacy else {
            self.sessions.end(session)
            return nil
        }
        return session
    }
}
