// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Failures of outbound proxies") struct OutboundProxyErrorTests {
    static let codes: [(String, OutboundProxyError.Stage, isRetryable: Bool, isSentAgain: Bool)] = [
        ("proxy.resolve", .resolve, true, true),
        ("proxy.connect.refused", .connect, true, true),
        ("proxy.connect.timeout", .connect, true, false),
        ("proxy.connect.unreachable", .connect, true, true),
        ("proxy.tls", .tls, false, false),
        ("proxy.auth.required", .auth, false, false),
        ("proxy.auth.rejected", .auth, false, false),
        ("proxy.auth.unsupported", .auth, false, false),
        ("proxy.tunnel.denied", .tunnel, false, false),
        ("proxy.tunnel.upstreamUnreachable", .tunnel, true, true),
        ("proxy.socks.general", .tunnel, true, true),
        ("proxy.socks.command", .tunnel, false, false),
        ("proxy.socks.addressType", .tunnel, false, false),
        ("proxy.socks.unassigned", .tunnel, false, false),
        ("proxy.protocol", .protocol, false, false),
    ]

    @Test("Every code has its stage, and says whether the same may work in a moment", arguments: codes)
    func code(text: String, stage: OutboundProxyError.Stage, isRetryable: Bool, isSentAgain: Bool) throws {
        let code = try #require(OutboundProxyError.Code(rawValue: text))
        #expect(code.stage == stage)
        #expect(code.isRetryable == isRetryable)
        #expect(OutboundProxyError(code, "x").isSentAgain == isSentAgain)
    }

    @Test("The list above is whole")
    func whole() { #expect(Set(Self.codes.map(\.0)) == Set(OutboundProxyError.Code.allCases.map(\.rawValue))) }

    @Test(
        "A proxy that asks for patience is asked again by itself within two seconds",
        arguments: [(1, true), (2, true), (3, false)]
    )
    func patience(seconds: Int, isSentAgain: Bool) {
        let error = OutboundProxyError(.tunnelUpstreamUnreachable, "x", status: 503, retryAfterSeconds: seconds)
        #expect(error.isSentAgain == isSentAgain)
    }

    // MARK: Whose answer

    struct Answer: CustomTestStringConvertible {
        var status: Int
        var fields: [(String, String)] = []
        var hasCredentials = false
        var refusedTunnel: Int?
        /// nil: the upstream's.
        var code: OutboundProxyError.Code?
        var testDescription: String {
            "\(self.status) \(self.fields) \(self.hasCredentials) \(self.refusedTunnel ?? 0)"
        }
    }

    static let squid = ("x-squid-error", "ERR_ACCESS_DENIED 0")
    static let basic = ("www-authenticate", "Basic realm=\"Tinyproxy\"")
    static let bearer = ("www-authenticate", "Bearer error=\"invalid_token\"")

    static let answers: [Answer] = [
        Answer(status: 407, code: .authRequired),
        Answer(status: 407, hasCredentials: true, code: .authRejected),
        Answer(
            status: 407,
            fields: [("proxy-authenticate", "Digest a=b")],
            hasCredentials: true,
            code: .authUnsupported
        ),
        Answer(status: 401),
        Answer(status: 401, fields: [bearer]),
        Answer(status: 401, fields: [bearer], hasCredentials: true),
        Answer(status: 401, fields: [basic]),
        Answer(status: 401, fields: [basic], hasCredentials: true, code: .authRejected),
        Answer(status: 401, fields: [basic, bearer], hasCredentials: true),
        Answer(status: 401, fields: [squid], hasCredentials: true, code: .authRejected),
        Answer(status: 401, fields: [squid], code: .authRequired),
        Answer(status: 403),
        Answer(status: 403, hasCredentials: true),
        Answer(status: 403, fields: [bearer], hasCredentials: true),
        Answer(status: 403, fields: [squid], code: .tunnelDenied),
        Answer(status: 403, fields: [squid, bearer], code: .tunnelDenied),
        Answer(status: 403, fields: [("proxy-status", "p; error=http_request_denied")], code: .tunnelDenied),
        Answer(status: 403, fields: [("proxy-status", "p; received-status=403")]),
        Answer(status: 403, fields: [basic], hasCredentials: true, code: .tunnelDenied),
        // A rule that refused the tunnel refuses the request as well, and what went through says `Via`.
        Answer(status: 403, refusedTunnel: 403, code: .tunnelDenied),
        Answer(status: 403, fields: [("via", "1.1 proxy")], refusedTunnel: 403),
        Answer(status: 403, fields: [bearer], refusedTunnel: 403),
        Answer(status: 403, refusedTunnel: 405),
        Answer(status: 401, refusedTunnel: 403),
    ]

    @Test(
        "A refusal of a forwarded request is the proxy's where it says so, and the upstream's otherwise",
        arguments: answers
    )
    func answer(_ row: Answer) throws {
        var answer = try #require(ForwardedAnswer(status: row.status))
        for (name, value) in row.fields { answer.read(name, value.utf8) }
        let error = answer.proxyError(
            target: "h:80",
            hasCredentials: row.hasCredentials,
            refusedTunnel: row.refusedTunnel
        )
        #expect(error?.code == row.code)
        if let error { #expect(error.status == row.status) }
    }

    @Test("Any other status is the upstream's", arguments: [200, 202, 302, 400, 402, 404, 408, 429, 500, 502, 503])
    func others(status: Int) { #expect(ForwardedAnswer(status: status) == nil) }
}
