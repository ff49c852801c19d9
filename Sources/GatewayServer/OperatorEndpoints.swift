// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewayRuntime
import GatewayWire
import NIOCore

/// What operators ask: `/_healthz`, `/_readyz`, `/metrics`, `/_status` (contract §3).
struct OperatorEndpoints: Sendable {
    private let gateway: Gateway
    private let configuration: ConfigurationState

    init(_ gateway: Gateway, _ configuration: ConfigurationState) {
        self.gateway = gateway
        self.configuration = configuration
    }

    /// Metrics and status need a token of `mcpProxy.options.authTokens`; without any they are for this machine only, and
    /// not through a reverse proxy, which would make everybody local.
    func checkAccess(
        _ request: InboundRequest,
        from connection: ConnectionFacts,
        by endpoints: Endpoints
    ) -> Rejection? {
        let tokens = endpoints.statusTokens
        guard tokens.isEmpty else {
            if case .known = InboundToken.check(request, against: tokens) { return nil }
            return Rejection(
                .statusAccess,
                401,
                "a token of mcpProxy.options.authTokens is needed",
                fields: "WWW-Authenticate: Bearer\r\n"
            )
        }
        // Something in front of the gateway takes https for it: everybody who comes by that looks like this machine, and
        // not every proxy says that it is one.
        guard endpoints.listener.baseOrigin.scheme != .https else {
            return Rejection(
                .statusAccess,
                403,
                "baseURL is https, so a proxy stands in front and everybody looks local: set mcpProxy.options.authTokens"
            )
        }
        let isForwarded = [HTTP1FieldName.forwarded, .xForwarded, .xRealIP, .via]
            .contains { name in
                request.parser.firstIndex(of: name) != nil
            }
        let head = request.head
        let host = request.parser.host.flatMap { range in
            head.getString(at: head.readerIndex + range.lowerBound, length: range.count).flatMap { HostPort($0) }
        }
        guard connection.isPeerLoopback, connection.isLocalAddressLoopback, !isForwarded,
            host?.isLoopbackName == true
        else {
            return Rejection(.statusAccess, 403, "only from this machine, or set mcpProxy.options.authTokens")
        }
        return nil
    }

    func health(_ responder: any DownstreamResponder) {
        responder.respond(status: 200, json: Array(#"{"status":"ok"}"#.utf8))
    }

    func readiness(_ responder: any DownstreamResponder) {
        let readiness = self.gateway.readiness
        var body = #"{"status":"\#(readiness.word.rawValue)","upstreams":{"#
        body += readiness.findings.map { "\(ErrorAnswer.quoted($0.name)):\"\($0.reason.rawValue)\"" }
            .joined(separator: ",")
        body += "}"
        let causes = readiness.findings.compactMap { finding in
            finding.cause.map { "\(ErrorAnswer.quoted(finding.name)):\(ErrorAnswer.quoted($0))" }
        }
        if !causes.isEmpty { body += #","causes":{\#(causes.joined(separator: ","))}"# }
        body += "}"
        responder.respond(status: readiness.status, json: Array(body.utf8))
    }

    func metrics(_ responder: any DownstreamResponder) {
        var text: [UInt8] = []
        self.gateway.metrics.render(into: &text)
        responder.respond(status: 200, body: ByteBuffer(bytes: text)) { fields in
            fields.writeString("Content-Type: \(MetricsRegistry.contentType)\r\n")
        }
    }

    func status(_ responder: any DownstreamResponder) {
        responder.respond(status: 200, json: Array(StatusReport.json(self.gateway, self.configuration).utf8))
    }
}
