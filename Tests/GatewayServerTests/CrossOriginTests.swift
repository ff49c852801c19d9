// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayWire
import NIOCore
import Testing

/// What browsers are told (Fetch, "HTTP CORS protocol").
@Suite("Web pages", .timeLimit(.minutes(1))) struct CrossOriginTests {
    static let page = "http://localhost:6274"
    static let fields = [
        "access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers",
        "access-control-max-age", "access-control-expose-headers", "access-control-allow-credentials", "vary",
    ]

    static func preflight(_ path: String, origin: String = Self.page, _ more: String...) -> String {
        var text = "OPTIONS \(path) HTTP/1.1\r\nHost: localhost\r\nOrigin: \(origin)\r\n"
        text += "Access-Control-Request-Method: POST\r\n"
        for field in more { text += "\(field)\r\n" }
        return "\(text)\r\n"
    }

    static func guarded(_ setup: inout GatewaySetup) {
        setup.listener.basePath = "/base"
        setup.upstream.inboundTokens = [Secret("canary-inbound")]
        setup.listener.allowedOrigins = ["https://app.example", "chrome-extension://abc"]
            .compactMap { AllowedOrigin($0) }
    }

    @Test(
        "A preflight of an admitted origin is answered without a token, whatever the path leads to",
        arguments: [
            "/base/echo/mcp", "/base/echo/sse", "/base/echo/message?sessionId=x", "/base/echo/mcp/", "/base/nobody/mcp",
            "/_status", "/metrics", "/_healthz", "/.well-known/oauth-protected-resource/base/echo/mcp", "/register",
            "/",
        ]
    )
    func preflight(path: String) async throws {
        try await withGateway(Self.guarded) { gateway in
            for origin in [Self.page, "https://app.example", "chrome-extension://abc", "http://gateway.example"] {
                let client = try await gateway.connect()
                defer { client.close() }
                let headers = "Access-Control-Request-Headers: authorization,mcp-param-city,x-other"
                let answer = try await client.exchange(Self.preflight(path, origin: origin, headers))
                #expect(answer.status == 204 && answer.text.isEmpty)
                #expect(answer.values("access-control-allow-origin") == [origin])
                #expect(answer.values("access-control-allow-methods") == ["POST, GET, DELETE"])
                let allowed =
                    "authorization, content-type, accept, last-event-id, mcp-session-id, mcp-protocol-version, mcp-method, "
                    + "mcp-name, mcp-param-city"
                #expect(answer.values("access-control-allow-headers") == [allowed])
                #expect(answer.values("access-control-max-age") == ["600"])
                #expect(answer.values("vary") == ["Origin"])
                #expect(answer["access-control-allow-credentials"] == nil && answer["content-length"] == nil)
                // The connection goes on.
                expect(try await client.exchange(ConnectionTests.health).status, is: 200)
            }
            #expect(gateway.upstream.requests.isEmpty)
        }
    }

    @Test(
        "OPTIONS of an origin that is not admitted, of none and with a body are refused as other methods are",
        arguments: [
            ("https://evil.example", "", 403), ("null", "", 403), ("chrome-extension://abd", "", 403),
            ("", "", 405), (page, "Content-Length: 2\r\n\r\n{}", 405),
        ]
    )
    func refusedPreflight(origin: String, rest: String, status: Int) async throws {
        try await withGateway {
            $0.listener.allowedOrigins = ["chrome-extension://abc"].compactMap { AllowedOrigin($0) }
        } _: { gateway in
            let client = try await gateway.connect()
            defer { client.close() }
            let field = origin.isEmpty ? "" : "Origin: \(origin)\r\n"
            let end = rest.isEmpty ? "\r\n" : rest
            let answer = try await client.exchange("OPTIONS /echo/mcp HTTP/1.1\r\nHost: localhost\r\n\(field)\(end)")
            #expect(answer.status == status)
            let isAdmitted = origin == Self.page
            #expect(answer["access-control-allow-origin"] == (isAdmitted ? origin : nil))
            #expect(answer["access-control-allow-methods"] == nil)
        }
    }

    @Test("Every answer to an admitted origin can be read by its page: results, errors, refusals and streams")
    func answers() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(
            Self.guarded,
            script: { turn in
                switch turn.request.method {
                case "tools/call":
                    turn.beginEvents(fields: ["Access-Control-Allow-Origin: *", "Vary: Accept"])
                    turn.event(turn.resultText())
                    turn.endChunks()
                case "tools/list":
                    turn.answer(500, "", type: nil, fields: ["Access-Control-Allow-Credentials: true"])
                default: turn.behave(session: "s")
                }
            }
        ) { gateway in
            let origin = "Origin: \(Self.page)"
            let token = "Authorization: Bearer canary-inbound"
            let session = try await gateway.post(Message.initialize, to: "/base/echo/mcp", fields: [origin, token])
            let id = try #require(session["mcp-session-id"])
            let known = [origin, token, "Mcp-Session-Id: \(id)"]
            let path = "/base/echo/mcp"
            let answers = [
                session,
                try await gateway.post(Message.call(), to: path, fields: known),
                try await gateway.post(Message.list, to: path, fields: known),
                try await gateway.post("{", to: path, fields: known),
                try await gateway.post(Message.ping, to: path, fields: [origin]),
                try await gateway.post(Message.ping, to: "/nowhere", fields: [origin]),
                try await gateway.request("GET /.well-known/oauth-protected-resource", fields: [origin]),
                try await gateway.request("GET \(path)", fields: known + ["Accept: text/event-stream"]),
                try await gateway.request("DELETE \(path)", fields: known),
                try await gateway.request("GET /_healthz", fields: [origin]),
            ]
            #expect(answers.map(\.status) == [200, 200, 200, 400, 401, 404, 404, 405, 204, 200])
            for answer in answers {
                #expect(answer.values("access-control-allow-origin") == [Self.page])
                #expect(answer.values("access-control-expose-headers") == ["mcp-session-id, www-authenticate"])
                #expect(answer.values("vary") == ["Origin"])
                #expect(answer["access-control-allow-credentials"] == nil)
                #expect(answer["access-control-allow-methods"] == nil)
            }
            #expect(answers[4]["www-authenticate"] == "Bearer")
        }
    }

    @Test("Without an Origin, and to one that is not admitted, nothing is said of origins", arguments: [true, false])
    func silent(isForeign: Bool) async throws {
        try await withGateway(Self.guarded) { gateway in
            let client = try await gateway.connect()
            defer { client.close() }
            // One that was admitted before, on the same connection, changes nothing.
            let first = try await client.exchange(Self.preflight("/base/echo/mcp"))
            #expect(first.status == 204)
            let field = isForeign ? "Origin: https://evil.example\r\n" : ""
            for line in ["GET /_healthz", "POST /base/echo/mcp", "GET /nowhere"] {
                let answer = try await client.exchange("\(line) HTTP/1.1\r\nHost: localhost\r\n\(field)\r\n")
                for name in Self.fields { #expect(answer[name] == nil, "\(line) \(name)") }
            }
        }
    }

    // MARK: Clients that look for OAuth

    @Test(
        "Whoever looks for OAuth gets a 404 that its client can read, for every method, and needs no token",
        arguments: [
            "/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/base/echo/mcp",
            "/base/echo/.well-known/oauth-authorization-server", "/base/echo/mcp/.well-known/openid-configuration",
            "/register", "/base/authorize", "/token", "/base/echo/register",
        ]
    )
    func noAuthorization(path: String) async throws {
        try await withGateway(Self.guarded) { gateway in
            for method in ["GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE"] {
                let answer = try await gateway.request("\(method) \(path)")
                #expect(answer.status == 404, "\(method)")
                #expect(answer["content-type"] == "application/json" && answer["cache-control"] == "no-store")
                #expect(answer["www-authenticate"] == nil && answer["location"] == nil)
                guard method != "HEAD" else { continue }
                #expect(answer.json["error"] as? String == "not_found")
                #expect((answer.json["error_description"] as? String)?.contains("Authorization: Bearer") == true)
                #expect(answer.json["jsonrpc"] == nil)
            }
            let posted = try await gateway.post(#"{"redirect_uris":[]}"#, to: path)
            #expect(posted.json["error"] as? String == "not_found")
            try await gateway.metric("mcp_proxy_inbound_rejected_total{reason=\"oauth\"}", is: "7")
        }
    }

    @Test("A server keeps its route, also where clients might look for OAuth")
    func serverCalledRegister() async throws {
        try await withGateway {
            $0.upstream.route = "register"
        } _: { gateway in
            expect(try await gateway.post(Message.ping, to: "/register").status, is: 200)
            expect(try await gateway.post(Message.ping, to: "/register/mcp").status, is: 200)
            expect(try await gateway.request("GET /token").json["error"] as? String, is: "not_found")
        }
    }
}
