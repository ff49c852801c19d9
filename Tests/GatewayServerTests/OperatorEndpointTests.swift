// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayTesting
import GatewayWire
import NIOCore
import Testing

@Suite("Operators' endpoints", .timeLimit(.minutes(1))) struct OperatorEndpointTests {
    @Test("The endpoints are at the root and under the path of baseURL", arguments: ["", "/base"])
    func paths(base: String) async throws {
        try await withGateway {
            $0.listener.basePath = "/base"
        } _: { gateway in
            for path in ["/_healthz", "/metrics", "/_status"] {
                expect(try await gateway.request("GET \(base)\(path)").status, is: 200)
            }
            expect(try await gateway.request("POST /base/echo/mcp").status, is: 415)
            expect(try await gateway.request("POST /echo/mcp").status, is: 404)
        }
    }

    @Test("Health is always 200, without a token")
    func health() async throws {
        try await withGateway {
            $0.listener.statusTokens = [Secret("status-token")]
        } _: { gateway in
            let answer = try await gateway.request("GET /_healthz")
            #expect(answer.status == 200)
            #expect(answer.text == #"{"status":"ok"}"#)
        }
    }

    @Test(
        "Health and readiness answer whatever Host says, and nothing else does",
        arguments: ["10.0.0.7:8080", "evil.example", "[2001:db8::1]", "mcp.example.com:1"]
    )
    func anyHost(host: String) async throws {
        try await withGateway {
            $0.listener.basePath = "/base"
            $0.listener.allowedHosts = ["mcp.example.com:443"].compactMap { HostPort($0) }
        } _: { gateway in
            let client = try await gateway.connect()
            defer { client.close() }
            func status(_ line: String, _ field: String = "") async throws -> Int {
                let request = "\(line) HTTP/1.1\r\nHost: \(host)\r\n\(field)\r\n"
                return try await client.exchange(request, isHead: line.hasPrefix("HEAD")).status
            }
            for path in ["/_healthz", "/base/_healthz"] {
                expect(try await status("GET \(path)"), is: 200)
                expect(try await status("HEAD \(path)"), is: 200)
                expect(try await status("POST \(path)"), is: 405)
                expect(try await status("GET \(path)", "Origin: https://evil.example\r\n"), is: 403)
            }
            expect(try await status("GET /base/_readyz"), is: 503)
            for path in ["/metrics", "/_status", "/base/echo/mcp", "/nowhere", "/_healthz/"] {
                expect(try await status("GET \(path)"), is: 421)
            }
            // HTTP/1.0 need not name any.
            let old = try await gateway.connect()
            defer { old.close() }
            expect(try await old.exchange("GET /_healthz HTTP/1.0\r\n\r\n").status, is: 200)
        }
    }

    @Test(
        "Metrics and status are for this machine only, and not through a proxy",
        arguments: [
            ("localhost", nil, 200), ("127.0.0.1:9", nil, 200), ("[::1]", nil, 200), ("gateway.example", nil, 403),
            ("localhost", "Forwarded: for=1.2.3.4", 403), ("localhost", "X-Forwarded-For: 1.2.3.4", 403),
            ("localhost", "X-Forwarded-Proto: https", 403), ("localhost", "X-Real-IP: 1.2.3.4", 403),
            ("localhost", "Via: 1.1 x", 403), ("localhost", "Authorization: Bearer x", 200),
        ] as [(String, String?, Int)]
    )
    func local(host: String, field: String?, status: Int) async throws {
        try await withGateway { gateway in
            for path in ["/metrics", "/_status"] {
                let client = try await gateway.connect()
                defer { client.close() }
                let more = field.map { "\($0)\r\n" } ?? ""
                let answer = try await client.exchange("GET \(path) HTTP/1.1\r\nHost: \(host)\r\n\(more)\r\n")
                #expect(answer.status == status, "\(path)")
                #expect(answer["www-authenticate"] == nil)
            }
        }
    }

    @Test("With tokens of the gateway metrics and status need one of them, and nothing else helps")
    func tokens() async throws {
        try await withGateway {
            $0.listener.statusTokens = [Secret("status-token")]
            $0.upstream.inboundTokens = [Secret("server-token")]
        } _: { gateway in
            for path in ["/metrics", "/_status"] {
                let refused = try await gateway.request("GET \(path)")
                #expect(refused.status == 401)
                #expect(refused["www-authenticate"]?.hasPrefix("Bearer") == true)
                let wrong = try await gateway.request("GET \(path)", fields: ["Authorization: Bearer server-token"])
                #expect(wrong.status == 401)
                let token = ["Authorization: Bearer status-token", "X-Forwarded-For: 1.2.3.4"]
                expect(try await gateway.request("GET \(path)", fields: token).status, is: 200)
            }
        }
    }

    @Test("The status is JSON that names the upstream, and nothing in it is a secret")
    func status() async throws {
        try await withGateway {
            $0.headers = [.init(name: "Authorization", value: Secret("Bearer canary-header"))]
            $0.target = "/mcp?key=canary-query"
            $0.upstream.inboundTokens = [Secret("canary-inbound")]
        } script: {
            $0.behave(session: "canary-session")
        } _: { gateway in
            let token = ["Authorization: canary-inbound"]
            let session = try await gateway.initialize(fields: token)
            #expect(session != nil)
            let answer = try await gateway.request("GET /_status")
            let upstream = (answer.json["upstreams"] as? [String: Any])?["echo"] as? [String: Any]
            #expect(upstream?["state"] as? String == "usable")
            #expect(upstream?["guarded"] as? Bool == true)
            #expect(answer.json["sessions"] as? Int == 1)
            #expect(answer.json["inFlight"] as? Int == 0)
            #expect((upstream?["eras"] as? [String: Any])?["issuesSessions"] as? Bool == true)
            let metrics = try await gateway.metrics()
            for text in [answer.text, metrics] + gateway.log.lines {
                #expect(!text.contains("canary"))
                #expect(session.map(text.contains) == false)
            }
        }
    }

    @Test("Every request is counted once by server, method and outcome")
    func metrics() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            if turn.request.method == "tools/call" { turn.answer(500, "", type: nil) } else { turn.behave() }
        }) { gateway in
            expect(try await gateway.post(Message.ping).status, is: 200)
            expect(try await gateway.post(Message.ping).status, is: 200)
            expect(try await gateway.post(Message.call()).reason, is: "upstream_status")
            expect(try await gateway.post(Message.initialized).status, is: 202)
            let requests = "mcp_proxy_requests_total{server=\"echo\",method="
            try await gateway.metric("\(requests)\"ping\",outcome=\"ok\"}", is: "2")
            try await gateway.metric("\(requests)\"tools/call\",outcome=\"upstream_status\"}", is: "1")
            try await gateway.metric(
                "mcp_proxy_upstream_failures_total{server=\"echo\",reason=\"upstream_status\"}",
                is: "1"
            )
            try await gateway.metric("mcp_proxy_request_duration_seconds_count{server=\"echo\"}", is: "4")
        }
    }

    // MARK: Readiness

    private static func word(_ gateway: TestGateway) async throws -> String {
        let answer = try await gateway.request("GET /_readyz")
        return "\(answer.status) \(answer.json["status"] as? String ?? "")"
    }

    /// Polls: readiness changes with a probe, of which nobody outside hears.
    private static func wait(for word: String, status: Int, _ gateway: TestGateway) async throws {
        for _ in 0..<300 {
            if try await Self.word(gateway) == "\(status) \(word)" { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        let last = try await Self.word(gateway)
        Issue.record("\(last) instead of \(status) \(word)")
    }

    @Test("A gateway says that it initializes until its upstream gave a verdict, and is ready then")
    func ready() async throws {
        let setUp: (inout GatewaySetup) -> Void = {
            $0.upstream.protocolPin = .auto
            $0.isRunning = true
        }
        try await withGateway(setUp, script: nil) { gateway in
            let probe = try await gateway.upstream.turn()
            expect(try await Self.word(gateway), is: "503 initializing")
            probe.behave()
            let initialize = try await gateway.upstream.turn()
            initialize.behave()
            try await Self.wait(for: "ready", status: 200, gateway)
            gateway.gateway.beginDraining()
            // The connection is new, and readiness is what a balancer still asks for.
            expect(try await Self.word(gateway), is: "503 draining")
        }
    }

    @Test("An upstream that refuses our credentials is rejected, and the gateway unavailable", arguments: [401, 403])
    func rejected(status: Int) async throws {
        try await withGateway {
            $0.isRunning = true
        } script: {
            $0.answer(status, "", type: nil)
        } _: { gateway in
            try await Self.wait(for: "unavailable", status: 503, gateway)
            let answer = try await gateway.request("GET /_readyz")
            #expect(answer.json["upstreams"] as? [String: String] == ["echo": "rejected"])
        }
    }

    @Test("An upstream that cannot be reached is one after the grace")
    func unreachable() async throws {
        try await withGateway {
            $0.isRunning = true
            $0.isUnreachable = true
            $0.listener.startupGracePeriod = .seconds(2)
        } _: { gateway in
            expect(try await Self.word(gateway), is: "503 initializing")
            try await Self.wait(for: "unavailable", status: 503, gateway)
            let answer = try await gateway.request("GET /_readyz")
            #expect(answer.json["upstreams"] as? [String: String] == ["echo": "unreachable"])
            #expect(!answer.text.contains("127.0.0.1"))
        }
    }
}
