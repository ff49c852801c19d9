// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayRuntime
import GatewaySession
import GatewayTesting
import NIOCore
import Testing

@Suite("What the gateway finds out of a server at the start", .timeLimit(.minutes(1))) struct FirstLookTests {
    /// A server, and what is to be known of it after the first look.
    struct Row: Sendable, CustomTestStringConvertible {
        var name: String
        var state: String
        var transport = "streamable-http"
        var handshake: Bool?
        var stateless: Bool?
        var cause: String?
        var kind = HTTPUpstreamConfiguration.Kind.streamableHTTP
        var script: ScriptedUpstream.Script

        var testDescription: String { self.name }
    }

    static let discovered =
        #"{"supportedVersions":["2026-07-28"],"capabilities":{},"serverInfo":{"name":"u","version":"1"}}"#

    /// A server of the old transport, beside nothing else.
    static func eventStream(_ turn: UpstreamTurn) {
        guard turn.request.httpMethod == "GET" else { return turn.answer(405, "", type: nil) }
        turn.beginEvents()
        turn.chunk("event: endpoint\ndata: /post\n\n")
    }

    static let rows = [
        Row(name: "one of the handshake era", state: "usable", handshake: true, stateless: false) { $0.behave() },
        Row(name: "one that issues sessions", state: "usable", handshake: true, stateless: false) {
            $0.behave(session: "s")
        },
        Row(name: "one of the stateless era alone", state: "usable", stateless: true) { turn in
            if turn.request.method == "server/discover" { return turn.result(Self.discovered) }
            turn.answer(
                400,
                #"{"jsonrpc":"2.0","id":\#(turn.request.id),"error":{"code":-32022,"message":"no","data":{"supported":["2026-07-28"]}}}"#
            )
        },
        Row(name: "one of both eras", state: "usable", stateless: true) { turn in
            if turn.request.method == "server/discover" { turn.result(Self.discovered) } else { turn.behave() }
        },
        Row(name: "one that refuses us", state: "rejected", cause: "auth_401") { $0.answer(401, "", type: nil) },
        Row(name: "one that is busy", state: "unusable", cause: "http_5xx") { $0.answer(503, "", type: nil) },
        Row(name: "none at this path", state: "unusable", cause: "http_4xx") { $0.answer(404, "", type: nil) },
        Row(name: "a web page", state: "unusable", cause: "web_page") { turn in
            turn.answer(200, "<html></html>", type: "text/html")
        },
        Row(name: "something with other words", state: "unusable", cause: "bad_content_type") { turn in
            turn.answer(200, "hello", type: "text/plain")
        },
        Row(name: "something with other JSON", state: "unusable", cause: "no_handshake") { $0.answer(200, "{}") },
        Row(name: "one that moved", state: "unusable", cause: "redirect") { turn in
            turn.answer(301, "", type: nil, fields: ["Location: http://elsewhere.example/mcp"])
        },
        Row(name: "one that hangs up", state: "unreachable", cause: "closed_before_response") { $0.close() },
        Row(name: "one of the old transport", state: "usable", transport: "sse", kind: .detect, script: eventStream),
        Row(name: "one of the new transport", state: "usable", handshake: true, stateless: false, kind: .detect) {
            $0.behave()
        },
    ]

    static func upstream(_ gateway: TestGateway) async throws -> [String: Any] {
        let answer = try await gateway.request("GET /_status")
        return (answer.json["upstreams"] as? [String: Any])?["echo"] as? [String: Any] ?? [:]
    }

    @Test("Its state, its transport, its eras, and why it cannot be used", arguments: Self.rows)
    func look(row: Row) async throws {
        try await withGateway {
            $0.upstream.protocolPin = .auto
            $0.isRunning = true
            $0.kind = row.kind
        } script: {
            row.script($0)
        } _: { gateway in
            _ = try await gateway.verdicts.wait("the first verdict") { $0.isEmpty ? nil : true }
            let found = try await Self.upstream(gateway)
            #expect(found["state"] as? String == row.state, "\(found)")
            #expect(found["cause"] as? String == row.cause, "\(found)")
            guard row.state == "usable" else { return }
            #expect(found["transport"] as? String == row.transport, "\(found)")
            guard let eras = found["eras"] as? [String: Any], row.transport != "sse" else { return }
            #expect(eras["handshake"] as? Bool == row.handshake, "\(eras)")
            #expect(eras["stateless"] as? Bool == row.stateless, "\(eras)")
        }
    }

    @Test("What it opened to find out is ended, with whichever token it was accepted", arguments: [false, true])
    func ends(withPool: Bool) async throws {
        try await withGateway {
            $0.upstream.protocolPin = .auto
            $0.isRunning = true
            if withPool { $0.credentials = LostSessionTests.pool }
        } script: { turn in
            if withPool, turn.request["authorization"] != "Bearer two" { return turn.answer(401, "", type: nil) }
            turn.behave(session: "of-the-probe")
        } _: { gateway in
            let ended = try await gateway.upstream.requests(1) { $0.httpMethod == "DELETE" }
            #expect(ended[0]["mcp-session-id"] == "of-the-probe")
            if withPool { #expect(ended[0]["authorization"] == "Bearer two") }
        }
    }

    @Test("A caller that is there before anything is known waits for the look, and is then served", arguments: [1, 3])
    func waits(callers: Int) async throws {
        let held = Inbox<[UpstreamTurn]>([])
        try await withGateway {
            $0.upstream.protocolPin = .auto
            $0.isRunning = true
        } script: { turn in
            if turn.request.method == "server/discover" { held.change { $0.append(turn) } } else { turn.behave() }
        } _: { gateway in
            let look = try await held.wait("the look") { $0.first }
            let (body, fields) = Message.stateless("tools/call", name: "work")
            var clients: [RawClient] = []
            for _ in 0..<callers {
                let client = try await gateway.connect()
                client.send(TestGateway.post(body, fields: fields))
                clients.append(client)
            }
            for _ in 0..<1000 where gateway.gateway.held.suspended < callers {
                // Nobody says that a caller waits.
                try await Task.sleep(for: .milliseconds(5))
            }
            look.behave()
            for client in clients {
                let answer = try await client.answer()
                #expect(answer.code == -32022, "\(answer.text)")
                client.close()
            }
        }
    }
}
