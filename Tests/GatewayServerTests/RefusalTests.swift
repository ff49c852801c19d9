// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayWire
import NIOCore
import Testing

/// A request and the answer that it must get.
struct RefusalCase: Sendable, CustomTestStringConvertible {
    let name: String
    let request: String
    let status: Int
    var code: Int? = -32_600
    /// A field that the answer must have, in lower case, with its value.
    var field: (name: String, value: String)?

    var testDescription: String { self.name }

    static func request(_ line: String, _ fields: String..., host: String? = "localhost", body: String = "") -> String {
        var text = "\(line) HTTP/1.1\r\n"
        if let host { text += "Host: \(host)\r\n" }
        for field in fields { text += "\(field)\r\n" }
        if !body.isEmpty { text += "Content-Length: \(body.utf8.count)\r\n" }
        return "\(text)\r\n\(body)"
    }
}

@Suite("Bad requests", .timeLimit(.minutes(1))) struct RefusalTests {
    static let json = "Content-Type: application/json"
    static let both = "Accept: application/json, text/event-stream"

    static let cases: [RefusalCase] = [
        .init(name: "bad JSON", request: TestGateway.post("{"), status: 400, code: -32_700),
        .init(name: "empty body", request: TestGateway.post(""), status: 400, code: -32_700),
        .init(name: "no object", request: TestGateway.post("1"), status: 400),
        .init(name: "no method", request: TestGateway.post(#"{"jsonrpc":"2.0","id":1}"#), status: 400),
        .init(name: "not JSON-RPC 2.0", request: TestGateway.post(#"{"id":1,"method":"ping"}"#), status: 400),
        .init(name: "batch", request: TestGateway.post("[\(Message.ping)]"), status: 400),
        .init(name: "empty batch", request: TestGateway.post("[]"), status: 400),
        .init(
            name: "two ids",
            request: TestGateway.post(#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#),
            status: 400
        ),
        .init(
            name: "Accept that admits neither",
            request: RefusalCase.request("POST /echo/mcp", json, "Accept: text/html", body: Message.ping),
            status: 406
        ),
        .init(
            name: "Accept that excludes both",
            request: RefusalCase.request(
                "POST /echo/mcp",
                json,
                "Accept: application/json;q=0, text/event-stream;q=0.000, */*",
                body: Message.ping
            ),
            status: 406
        ),
        .init(
            name: "GET that does not want a stream",
            request: RefusalCase.request("GET /echo/mcp", "Accept: application/json"),
            status: 406
        ),
        .init(
            name: "no Content-Type",
            request: RefusalCase.request("POST /echo/mcp", both, body: Message.ping),
            status: 415
        ),
        .init(
            name: "another Content-Type",
            request: RefusalCase.request("POST /echo/mcp", "Content-Type: text/plain", both, body: Message.ping),
            status: 415
        ),
        .init(
            name: "a Content-Type that begins like JSON",
            request: RefusalCase.request("POST /echo/mcp", "Content-Type: application/jsonp", both, body: Message.ping),
            status: 415
        ),
        .init(
            name: "method",
            request: RefusalCase.request("PUT /echo/mcp", json, body: Message.ping),
            status: 405,
            field: ("allow", "POST, GET, DELETE")
        ),
        .init(
            name: "OPTIONS that no browser sends",
            request: RefusalCase.request("OPTIONS /echo/mcp", "Access-Control-Request-Method: POST"),
            status: 405,
            field: ("allow", "POST, GET, DELETE")
        ),
        .init(
            name: "method at an operators' endpoint",
            request: RefusalCase.request("POST /_healthz"),
            status: 405,
            field: ("allow", "GET, HEAD")
        ),
        .init(name: "unknown route", request: RefusalCase.request("GET /nope"), status: 404),
        .init(name: "route in another letter case", request: RefusalCase.request("GET /Echo/mcp"), status: 404),
        .init(name: "route that is encoded", request: RefusalCase.request("GET /%65cho/mcp"), status: 404),
        .init(name: "route with a dot segment", request: RefusalCase.request("GET /x/../echo/mcp"), status: 404),
        .init(name: "route with two slashes", request: RefusalCase.request("GET //echo/mcp"), status: 404),
        .init(
            name: "unknown session",
            request: TestGateway.post(Message.ping, fields: ["Mcp-Session-Id: 0123456789abcdef0123456789abcdef"]),
            status: 404
        ),
        .init(
            name: "session id that is none",
            request: TestGateway.post(Message.ping, fields: ["Mcp-Session-Id: x"]),
            status: 404
        ),
        .init(
            name: "Host that is not ours",
            request: RefusalCase.request("GET /metrics", host: "evil.example"),
            status: 421
        ),
        .init(
            name: "OPTIONS of a foreign Origin",
            request: RefusalCase.request("OPTIONS /echo/mcp", "Origin: https://evil.example"),
            status: 403
        ),
        .init(name: "no Host", request: RefusalCase.request("GET /_healthz", host: nil), status: 400),
        .init(
            name: "two Hosts",
            request: RefusalCase.request("GET /_healthz", "Host: localhost"),
            status: 400
        ),
        .init(
            name: "foreign Origin",
            request: RefusalCase.request("GET /_healthz", "Origin: https://evil.example"),
            status: 403
        ),
        .init(name: "null Origin", request: RefusalCase.request("GET /_healthz", "Origin: null"), status: 403),
        .init(
            name: "two Origins",
            request: RefusalCase.request("GET /_healthz", "Origin: http://localhost", "Origin: http://localhost"),
            status: 403
        ),
        .init(
            name: "two Authorizations",
            request: TestGateway.post(Message.ping, fields: ["Authorization: a", "Authorization: a"]),
            status: 400
        ),
        .init(
            name: "both framings",
            request: TestGateway.post(Message.ping, fields: ["Transfer-Encoding: chunked"]),
            status: 400
        ),
        .init(name: "CONNECT", request: "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", status: 501),
        .init(name: "unknown method", request: RefusalCase.request("BREW /echo/mcp"), status: 501),
        .init(name: "expectation", request: TestGateway.post(Message.ping, fields: ["Expect: x"]), status: 417),
        .init(name: "HTTP version", request: "GET /_healthz HTTP/2.0\r\nHost: localhost\r\n\r\n", status: 505),
    ]

    @Test("Each bad request gets the status of the contract, and an id-less JSON-RPC error", arguments: cases)
    func refusal(example: RefusalCase) async throws {
        try await withGateway { gateway in
            let client = try await gateway.connect()
            defer { client.close() }
            let answer = try await client.exchange(example.request)
            #expect(answer.status == example.status)
            #expect(answer["content-type"] == "application/json")
            #expect(answer.code == example.code)
            if let field = example.field { #expect(answer.values(field.name) == [field.value]) }
            #expect(answer["date"]?.hasSuffix("GMT") == true)
            #expect(gateway.upstream.requests.isEmpty)
        }
    }

    @Test("A refusal names the id of the request where one was read")
    func refusalWithID() async throws {
        try await withGateway { gateway in
            let unknown = "Mcp-Session-Id: 0123456789abcdef0123456789abcdef"
            let answer = try await gateway.post(Message.call(id: #""\u0041-1""#), fields: [unknown])
            #expect(answer.text.contains(#""id":"\u0041-1""#))
            let bad = try await gateway.post(#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#)
            #expect(bad.json["id"] as? Int == 7)
            let notification = try await gateway.post(Message.initialized, fields: [unknown])
            #expect(notification.json["id"] == nil)
        }
    }

    @Test("JSON nested to jsonDepth is taken, one level more is refused", arguments: [-1, 0, 1])
    func depth(difference: Int) async throws {
        try await withGateway {
            $0.limits.jsonDepth = 10
        } _: { gateway in
            // The message, params and arguments are three levels.
            let count = 10 + difference - 3
            let nested = String(repeating: "[", count: count) + String(repeating: "]", count: count)
            let answer = try await gateway.post(Message.call(arguments: #"{"x":\#(nested)}"#))
            #expect(answer.status == (difference > 0 ? 400 : 200))
        }
    }

    @Test(
        "What any server would take is taken",
        arguments: [
            RefusalCase.request("POST /echo/mcp", json, body: Message.ping),
            RefusalCase.request("POST /echo", json, "Accept: */*", body: Message.ping),
            RefusalCase.request("POST /echo/", json, "Accept: application/*", body: Message.ping),
            RefusalCase.request("POST /echo/mcp?x=1", json, "Accept: text/event-stream", body: Message.ping),
            RefusalCase.request("POST /echo/mcp", "Content-Type: Application/JSON; charset=utf-8", body: Message.ping),
            RefusalCase.request(
                "POST /echo/mcp",
                json,
                "Cookie: a",
                "Cookie: b",
                host: "gateway.example",
                body: Message.ping
            ),
            RefusalCase.request("POST /echo/mcp", json, "Origin: http://gateway.example", body: Message.ping),
            RefusalCase.request("POST /echo/mcp", json, "Origin: http://localhost:3000", body: Message.ping),
        ]
    )
    func tolerated(request: String) async throws {
        try await withGateway { gateway in
            let client = try await gateway.connect()
            defer { client.close() }
            expect(try await client.exchange(request).status, is: 200)
        }
    }

    @Test("Added hosts and origins are admitted, with the port that they name")
    func additions() async throws {
        try await withGateway {
            $0.listener.allowedHosts = ["a.example", "b.example:99"].compactMap { HostPort($0) }
            $0.listener.allowedOrigins = ["https://c.example"].compactMap { AllowedOrigin($0) }
        } _: { gateway in
            let client = try await gateway.connect()
            defer { client.close() }
            func status(_ host: String, _ origin: String) async throws -> Int {
                let request = RefusalCase.request(
                    "POST /echo/mcp",
                    Self.json,
                    "Origin: \(origin)",
                    host: host,
                    body: Message.ping
                )
                return try await client.exchange(request).status
            }
            expect(try await status("a.example", "https://c.example"), is: 200)
            expect(try await status("A.Example:1234", "https://c.example:443"), is: 200)
            expect(try await status("b.example:99", "https://c.example"), is: 200)
            expect(try await status("b.example:98", "https://c.example"), is: 421)
            expect(try await status("b.example", "https://c.example"), is: 421)
            expect(try await status("a.example", "http://c.example"), is: 403)
            // Never derived from the request's own Host.
            expect(try await status("a.example", "https://a.example"), is: 403)
        }
    }

    // MARK: Tokens

    @Test(
        "A guarded server is open to its tokens alone, with the scheme or bare",
        arguments: [
            ("Bearer first-token", 200), ("bearer   second-token", 200), ("second-token", 200),
            ("Bearer first-toke", 401), ("Bearer first-tokens", 401), ("Bearer", 401), ("Bearer ", 401), ("", 401),
            ("Basic first-token", 401), ("Bearer FIRST-TOKEN", 401), ("Bearer first-token second-token", 401),
            ("Bearer\tfirst-token", 401), (String(repeating: "x", count: 5_000), 401),
        ]
    )
    func token(value: String, status: Int) async throws {
        try await withGateway {
            $0.upstream.inboundTokens = [Secret("first-token"), Secret("second-token")]
        } _: { gateway in
            let answer = try await gateway.post(Message.ping, fields: ["Authorization: \(value)"])
            #expect(answer.status == status)
            #expect(answer.values("www-authenticate").isEmpty == (status == 200))
            #expect(gateway.upstream.requests.count == (status == 200 ? 1 : 0))
            #expect(gateway.upstream.requests.allSatisfy { $0["authorization"] == nil })
        }
    }

    @Test("Without a token every method of a guarded server gets 401 before anything else is said of it")
    func missingToken() async throws {
        try await withGateway {
            $0.upstream.inboundTokens = [Secret("first-token")]
        } _: { gateway in
            for line in ["POST /echo/mcp", "GET /echo/mcp", "DELETE /echo/mcp", "PUT /echo/mcp"] {
                let answer = try await gateway.request(line)
                #expect(answer.status == 401)
                #expect(answer["www-authenticate"] == "Bearer")
            }
            try await gateway.metric("mcp_proxy_inbound_rejected_total{reason=\"token\"}", is: "4")
        }
    }

    @Test("A request that is refused by its head leaves the connection usable if it was there as a whole")
    func usableAfterRefusal() async throws {
        try await withGateway { gateway in
            let client = try await gateway.connect()
            defer { client.close() }
            let refused = RefusalCase.request("POST /echo/mcp", "Content-Type: text/plain", body: Message.ping)
            client.send(refused + refused + TestGateway.post(Message.ping))
            expect(try await client.answer().status, is: 415)
            expect(try await client.answer().status, is: 415)
            expect(try await client.answer().status, is: 200)
        }
    }
}
