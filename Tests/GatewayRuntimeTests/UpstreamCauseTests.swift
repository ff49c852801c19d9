// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import GatewayWire
import Testing

@testable import GatewayRuntime
@testable import GatewayTransport

@Suite("Cause of an upstream") struct UpstreamCauseTests {
    private static func cause(_ error: GatewayError) -> String { error.upstreamCause.code.rawValue }

    @Test("The state of an upstream has the word that a call is told", arguments: TransportError.Code.allCases)
    func transport(code: TransportError.Code) {
        // That we have no room or no descriptors says nothing of the upstream.
        guard ![.noDescriptors, .noRoom, .outboundProxy].contains(code) else { return }
        let error = GatewayError(TransportError(code, "as asked", progress: .nothing))
        #expect(error.cause == code.rawValue)
        #expect(Self.cause(error) == error.cause)
        #expect(error.upstreamCause.detail == "as asked")
    }

    @Test("What an outbound proxy does has its own word", arguments: OutboundProxyError.Code.allCases)
    func outboundProxy(code: OutboundProxyError.Code) {
        let error = GatewayError(TransportError(outboundProxy: OutboundProxyError(code, "as asked"), "as asked"))
        #expect(error.cause == code.rawValue)
        #expect(Self.cause(error) == error.cause)
    }

    @Test(
        "A refusal has the word of its status",
        arguments: [
            (GatewayError.rejected(status: 401, slot: nil), "auth_401", 401),
            (.rejected(status: 403, slot: 1), "auth_403", 403),
            (.exhausted([401, 403]), "exhausted", nil),
            (GatewayError(refusedWith: 404), "http_4xx", 404),
            (GatewayError(refusedWith: 503), "http_5xx", 503),
            (GatewayError(refusedWith: 429), "rate_limited", 429),
            (.redirected(to: "http://two.example/", status: 301), "redirect", 301),
        ] as [(GatewayError, String, Int?)]
    )
    func status(error: GatewayError, code: String, status: Int?) {
        #expect(Self.cause(error) == code && error.cause == code)
        #expect(error.upstreamCause.status == status)
    }

    @Test("An error without a narrower cause has the word of its reason", arguments: GatewayError.Reason.allCases)
    func reason(reason: GatewayError.Reason) {
        let error = GatewayError(reason, executed: .no, "as asked")
        #expect(error.cause == reason.rawValue)
        let isState = UpstreamCause.Code(rawValue: reason.rawValue) != nil
        #expect(Self.cause(error) == (isState ? reason.rawValue : "other"))
    }

    @Test("A redirect names its target, and the key that decides")
    func redirect() {
        let known = GatewayError.redirected(to: "http://two.example/mcp/?key=•••", status: 307)
        #expect(known.message.contains("http://two.example/mcp/?key=•••") && known.message.contains("url"))
        #expect(known.executed == .no)
        #expect(GatewayError.redirected(to: nil, status: 302).message.contains("302"))
    }
}
