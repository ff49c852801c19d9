// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
package import GatewayObservability
import GatewayPolicy
package import GatewayRuntime
import GatewayWire
package import NIOCore

/// Serves a gateway: checks who may ask what, and leads each request to where it belongs (contract §3, §4).
///
/// The order of the checks: Host, Origin, route, token, method, media types. The token is checked before anything that
/// says more of a server than that its route exists. A browser that asks whether a page may send a request is answered
/// right after the check of Origin.
package final class GatewayHandler: RequestHandler {
    private let gateway: Gateway
    private let operators: OperatorEndpoints

    /// `configuration` is what `/_status` says of the configuration.
    package init(_ gateway: Gateway, configuration: ConfigurationState) {
        self.gateway = gateway
        self.operators = OperatorEndpoints(gateway, configuration)
    }

    package var isDraining: Bool { self.gateway.isDraining }

    package func rejected(_ request: InboundRequest, _ rejection: Rejection, on loop: LoopResources) {
        self.gateway.refused(
            rejection.reason,
            status: rejection.status,
            rejection.message,
            at: self.endpoint(of: request, on: loop)?.upstream,
            from: request.peer
        )
    }

    package func rejectedConnection(from peer: SocketAddress?) {
        self.gateway.refused(.connections, status: 503, "there are limits.connections", at: nil, from: peer)
    }

    /// What a request addresses; nil for nothing, and where its head was not read to its end.
    private func endpoint(of request: InboundRequest, on loop: LoopResources) -> Endpoint? {
        // It was looked up already, unless it was refused before that.
        if let destination = request.destination { return destination.endpoint }
        let head = request.head
        guard head.readableBytes > 0 else { return nil }
        return self.gateway.endpoints(on: loop)?
            .destination(head.readableBytesUInt8Span.extracting(request.parser.path))?
            .endpoint
    }

    package var buffers: BufferLedger { self.gateway.buffers }

    // MARK: Admission

    package func admit(
        _ request: InboundRequest,
        from connection: ConnectionFacts,
        on loop: LoopResources
    ) -> Rejection? {
        // From here on the request goes by this table, whatever comes in its place.
        guard let endpoints = self.gateway.endpoints(on: loop) else {
            return Rejection(.draining, 503, "the gateway is not set up")
        }
        if let rejection = Self.checkHost(request, connection, by: endpoints), !Self.isProbe(request, by: endpoints) {
            return rejection
        }
        if let rejection = Self.checkOrigin(request, connection, by: endpoints) { return rejection }
        if Self.isPreflight(request) { return nil }
        let head = request.head
        let path = head.readableBytesUInt8Span.extracting(request.parser.path)
        guard let destination = endpoints.destination(path) else {
            return AuthorizationPath.matches(path) ? Self.noAuthorization : Rejection(.route, 404, "no such route")
        }
        request.destination = destination
        switch destination {
        case .health, .readiness:
            return Self.readMethodsOnly(request)
        case .metrics, .status:
            return Self.readMethodsOnly(request) ?? self.operators.checkAccess(request, from: connection, by: endpoints)
        case .mcp(let endpoint):
            return Self.checkToken(request, at: endpoint) ?? Self.admit(request)
        case .sse(let endpoint):
            return Self.checkToken(request, at: endpoint) ?? Self.admitStream(request)
        case .message(let endpoint):
            return Self.checkToken(request, at: endpoint) ?? Self.admitMessage(request)
        }
    }

    private static func checkHost(
        _ request: InboundRequest,
        _ connection: ConnectionFacts,
        by endpoints: Endpoints
    ) -> Rejection? {
        let isLocal = connection.isLocalAddressLoopback
        let head = request.head
        let verdict =
            if let host = request.parser.host {
                endpoints.requestGuard.admitsHost(
                    head.readableBytesUInt8Span.extracting(host),
                    isLocalAddressLoopback: isLocal
                )
            } else {
                endpoints.requestGuard.admitsMissingHost(isLocalAddressLoopback: isLocal)
            }
        guard let status = verdict.status else { return nil }
        return Rejection(.host, status, "this Host is not served here; add it to mcpProxy.allowedHosts if it is yours")
    }

    /// Whether it asks for health or readiness: balancers do so by address, or under a name of their own (contract U16).
    private static func isProbe(_ request: InboundRequest, by endpoints: Endpoints) -> Bool {
        let head = request.head
        return switch endpoints.destination(head.readableBytesUInt8Span.extracting(request.parser.path)) {
        case .health, .readiness: true
        default: false
        }
    }

    private static func checkOrigin(
        _ request: InboundRequest,
        _ connection: ConnectionFacts,
        by endpoints: Endpoints
    ) -> Rejection? {
        guard let origin = request.parser.value(of: .origin) else { return nil }
        let head = request.head
        let verdict = endpoints.requestGuard.admitsOrigin(
            head.readableBytesUInt8Span.extracting(origin),
            count: request.parser.count(of: .origin),
            isLocalAddressLoopback: connection.isLocalAddressLoopback
        )
        guard let status = verdict.status else {
            request.isFromAdmittedOrigin = true
            return nil
        }
        return Rejection(.origin, status, "this Origin may not use the gateway; see mcpProxy.allowedOrigins")
    }

    /// Whether a browser asks if a page of an admitted origin may send a request: the answer is the same for every path, so
    /// that the page sees what that request itself is answered, and needs no token, since a preflight has none.
    private static func isPreflight(_ request: InboundRequest) -> Bool {
        guard request.isFromAdmittedOrigin, request.parser.method == .options else { return false }
        switch request.parser.framing {
        case .none, .length(0): return true
        case .length, .chunked, .untilClose: return false
        }
    }

    /// What whoever looks for OAuth is told (contract U24).
    private static let noAuthorization = Rejection(
        .oauth,
        404,
        "a client looks for OAuth, which this gateway has not: give it one of authTokens",
        fields: "Cache-Control: no-store\r\n",
        body: #"{"error":"not_found","error_description":"This gateway has no OAuth. "#
            + #"Send one of its tokens as Authorization: Bearer."}"#
    )

    private static func readMethodsOnly(_ request: InboundRequest) -> Rejection? {
        switch request.parser.method {
        case .get, .head: nil
        default: Rejection(.method, 405, "use GET", fields: "Allow: GET, HEAD\r\n")
        }
    }

    private static func checkToken(_ request: InboundRequest, at endpoint: Endpoint) -> Rejection? {
        request.token = nil
        guard !endpoint.tokens.isEmpty else { return nil }
        switch InboundToken.check(request, against: endpoint.tokens) {
        case .known(let token): request.token = token
        case .missing: return Self.unauthorized("")
        case .wrong: return Self.unauthorized(#" error="invalid_token""#)
        }
        return nil
    }

    /// Streamable HTTP.
    private static func admit(_ request: InboundRequest) -> Rejection? {
        switch request.parser.method {
        case .delete:
            return nil
        case .get:
            return Self.checkStreamAccepted(request)
        case .post:
            if let rejection = Self.checkJSON(request) { return rejection }
            let accept = request.accept
            return accept.admitsJSON || accept.admitsEventStream
                ? nil : Rejection(.accept, 406, "Accept must admit application/json or text/event-stream")
        default:
            return Rejection(.method, 405, "use POST, GET or DELETE", fields: "Allow: POST, GET, DELETE\r\n")
        }
    }

    /// The stream of the 2024-11-05 transport.
    private static func admitStream(_ request: InboundRequest) -> Rejection? {
        guard request.parser.method == .get else {
            return Rejection(.method, 405, "this is the stream of HTTP+SSE: use GET", fields: "Allow: GET\r\n")
        }
        return Self.checkStreamAccepted(request)
    }

    /// The messages of the 2024-11-05 transport, whose answers come elsewhere.
    private static func admitMessage(_ request: InboundRequest) -> Rejection? {
        guard request.parser.method == .post else {
            return Rejection(.method, 405, "messages of HTTP+SSE come by POST", fields: "Allow: POST\r\n")
        }
        return Self.checkJSON(request)
    }

    private static func checkJSON(_ request: InboundRequest) -> Rejection? {
        let head = request.head
        guard let type = request.parser.value(of: .contentType),
            HTTP1Text.mediaType(head.readableBytesUInt8Span.extracting(type)) == .json
        else { return Rejection(.contentType, 415, "Content-Type must be application/json") }
        return nil
    }

    /// A caller that does not take event streams gets none: it is no MCP client (faults S4.4).
    private static func checkStreamAccepted(_ request: InboundRequest) -> Rejection? {
        request.accept.admitsEventStream ? nil : Rejection(.accept, 406, "Accept must admit text/event-stream")
    }

    private static func unauthorized(_ error: String) -> Rejection {
        Rejection(
            .token,
            401,
            "a token is needed: Authorization: Bearer TOKEN, one of the authTokens of this server",
            fields: "WWW-Authenticate: Bearer\(error)\r\n"
        )
    }

    // MARK: Work

    package func handle(
        _ request: InboundRequest,
        from connection: ConnectionFacts,
        responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        if request.parser.method == .options {
            self.answerPreflight(request, responder)
            return nil
        }
        let destination = request.destination
        // A connection that waits for its next request keeps no endpoint.
        request.destination = nil
        switch destination {
        case .mcp(let endpoint):
            switch request.parser.method {
            case .get: return self.gateway.get(request, from: endpoint, responder: responder)
            case .delete: self.gateway.delete(request, at: endpoint, responder: responder)
            default: return self.gateway.post(request, to: endpoint, responder: responder)
            }
        case .health: self.operators.health(responder)
        case .readiness: self.operators.readiness(responder)
        case .metrics: self.operators.metrics(responder)
        case .status: self.operators.status(responder)
        case .sse(let endpoint):
            return self.gateway.openLegacy(request, at: endpoint, responder: responder)
        case .message(let endpoint):
            return self.gateway.postLegacy(request, to: endpoint, responder: responder)
        case .none:
            // `admit` lets nothing of this pass.
            responder.respond(status: 404, json: ErrorAnswer.body(code: -32_600, message: "no such route"))
        }
        return nil
    }

    /// `admit` lets no other OPTIONS pass.
    private func answerPreflight(_ request: InboundRequest, _ responder: any DownstreamResponder) {
        var allowed = CrossOrigin.AllowedHeaders()
        let head = request.head
        for field in request.parser.fields where field.name == .other {
            let name = head.readableBytesUInt8Span.extracting(field.nameRange)
            guard HTTP1Text.equalsIgnoringCase(name, "access-control-request-headers") else { continue }
            allowed.read(head.readableBytesUInt8Span.extracting(field.valueRange))
        }
        responder.respond(status: 204, body: nil) { fields in
            fields.writeStaticString(CrossOrigin.preflightFields)
            fields.writeStaticString("Access-Control-Allow-Headers: ")
            fields.writeBytes(allowed.value)
            fields.writeStaticString("\r\n")
        }
    }
}
