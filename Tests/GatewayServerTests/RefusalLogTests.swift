// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayWire
import NIOCore
import Testing

@Suite("What the log has of refused requests", .timeLimit(.minutes(1))) struct RefusalLogTests {
    struct Row: Sendable, CustomTestStringConvertible {
        let reason: String
        let status: Int
        let request: String
        /// Whether the line names the server.
        var isOfServer = true
        var testDescription: String { "\(self.reason) \(self.status)" }
    }

    static let token = "Authorization: Bearer canary-good"

    static func post(_ body: String, _ fields: String...) -> String {
        TestGateway.post(body, fields: [Self.token] + fields)
    }

    static let rows: [Row] = [
        Row(reason: "token", status: 401, request: TestGateway.post(Message.ping)),
        Row(
            reason: "token",
            status: 401,
            request: TestGateway.post("{}", fields: ["Authorization: Bearer canary-bad"])
        ),
        Row(reason: "message", status: 400, request: post("{canary")),
        Row(reason: "accept", status: 406, request: RefusalCase.request("GET /echo/mcp", token, "Accept: x/canary")),
        Row(reason: "content_type", status: 415, request: RefusalCase.request("POST /echo/mcp", token)),
        Row(reason: "method", status: 405, request: RefusalCase.request("PUT /echo/mcp?key=canary", token)),
        Row(reason: "session", status: 404, request: post(Message.ping, "Mcp-Session-Id: canary")),
        Row(reason: "body_size", status: 413, request: post(String(repeating: "canary", count: 1_000))),
        Row(reason: "era", status: 400, request: post(Message.ping, "MCP-Protocol-Version: 2026-07-28")),
        Row(reason: "tool", status: 200, request: post(Message.call("canary"))),
        Row(
            reason: "host",
            status: 421,
            request: RefusalCase.request("DELETE /echo/mcp", token, host: "canary.example")
        ),
        Row(reason: "origin", status: 403, request: RefusalCase.request("DELETE /echo/mcp", "Origin: https://canary")),
        Row(reason: "route", status: 404, request: RefusalCase.request("GET /canary/mcp"), isOfServer: false),
        Row(reason: "oauth", status: 404, request: RefusalCase.request("GET /token?canary"), isOfServer: false),
        Row(reason: "framing", status: 400, request: RefusalCase.request("GET /", host: nil), isOfServer: false),
        Row(
            reason: "head_size",
            status: 431,
            request: RefusalCase.request("GET /", "X: \(String(repeating: "canary", count: 1_000))"),
            isOfServer: false
        ),
    ]

    private static func setUp(_ setup: inout GatewaySetup) {
        setup.upstream.inboundTokens = [Secret("canary-good")]
        setup.upstream.toolFilter = ToolFilter(mode: .allow, names: ["work"])
        setup.limits.bodyBytes = 4_096
        setup.limits.headBytes = 4_096
    }

    private static func lines(_ gateway: TestGateway) -> [String] {
        gateway.log.lines.filter { $0.contains(#""message":"request refused""#) }
    }

    @Test(
        "A refused request leaves one line with status, reason, server and peer, and nothing that it sent",
        arguments: rows
    )
    func line(row: Row) async throws {
        try await withGateway(Self.setUp) { gateway in
            let client = try await gateway.connect()
            defer { client.close() }
            expect(try await client.exchange(row.request).status, is: row.status)
            let lines = Self.lines(gateway)
            let line = try #require(lines.first)
            #expect(lines.count == 1)
            #expect(line.contains(#""level":"info""#))
            #expect(line.contains(#""status":\#(row.status),"reason":"\#(row.reason)","detail":""#))
            #expect(line.contains(#""server":"echo""#) == row.isOfServer)
            #expect(line.contains(#""peer":"127.0.0.1:"#))
            for line in gateway.log.lines { #expect(!line.contains("canary")) }
        }
    }

    @Test("Lines are at debug where calls are not logged")
    func level() async throws {
        try await withGateway {
            Self.setUp(&$0)
            $0.upstream.isLogEnabled = false
        } _: { gateway in
            expect(try await gateway.post(Message.ping).status, is: 401)
            expect(try await gateway.request("GET /nowhere").status, is: 404)
            #expect(Self.lines(gateway).count == 2)
            for line in Self.lines(gateway) { #expect(line.contains(#""level":"debug""#)) }
        }
    }

    @Test("Whoever is refused again and again leaves one line for each reason")
    func throttled() async throws {
        try await withGateway(Self.setUp) { gateway in
            for _ in 0..<20 {
                expect(try await gateway.post(Message.ping).status, is: 401)
                expect(try await gateway.request("GET /nowhere").status, is: 404)
            }
            #expect(Self.lines(gateway).count == 2)
        }
    }

    @Test("A request that is served leaves no such line")
    func served() async throws {
        try await withGateway(Self.setUp) { gateway in
            expect(try await gateway.post(Message.ping, fields: [Self.token]).status, is: 200)
            #expect(Self.lines(gateway).isEmpty)
        }
    }
}
