// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayWire
import NIOCore
import Testing

@Suite("A message that failed", .timeLimit(.minutes(1))) struct RetryTests {
    /// One way to fail, what a call's caller is told, and how often a call and a listing are sent.
    struct Row: Sendable, CustomTestStringConvertible {
        var name: String
        var reason: String
        var executed: String
        var calls: Int
        var listings: Int
        var fail: ScriptedUpstream.Script

        var testDescription: String { self.name }
    }

    static func status(
        _ status: Int,
        _ executed: String,
        calls: Int = 1,
        listings: Int,
        reason: String = "upstream_status",
        fields: [String] = []
    ) -> Row {
        Row(name: "\(status) \(fields.joined())", reason: reason, executed: executed, calls: calls, listings: listings)
        { turn in
            turn.answer(status, "", type: nil, fields: fields)
        }
    }

    static let rows = [
        Row(name: "closed before an answer", reason: "upstream_closed", executed: "unknown", calls: 1, listings: 2) {
            $0.close()
        },
        Row(name: "reset before an answer", reason: "upstream_closed", executed: "unknown", calls: 1, listings: 2) {
            $0.reset()
        },
        Row(name: "closed in the head", reason: "upstream_closed", executed: "unknown", calls: 1, listings: 1) { turn in
            turn.send("HTTP/1.1 200 OK\r\nContent-Ty")
            turn.close()
        },
        Row(name: "closed in the body", reason: "upstream_closed", executed: "yes", calls: 1, listings: 1) { turn in
            turn.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"json")
            turn.close()
        },
        Row(name: "no HTTP", reason: "upstream_protocol", executed: "unknown", calls: 1, listings: 1) { turn in
            turn.send("SSH-2.0-OpenSSH_9.2\r\n")
        },
        status(500, "unknown", listings: 1), status(502, "unknown", listings: 2), status(504, "unknown", listings: 2),
        status(503, "unknown", listings: 1), status(503, "unknown", listings: 2, fields: ["Retry-After: 1"]),
        status(503, "unknown", listings: 1, fields: ["Retry-After: 60"]),
        status(408, "no", calls: 2, listings: 2), status(421, "no", calls: 2, listings: 2),
        status(425, "no", calls: 2, listings: 2), status(400, "unknown", listings: 1), status(413, "no", listings: 1),
        status(429, "no", listings: 1, reason: "rate_limited"),
        status(401, "no", listings: 1, reason: "credential_rejected"),
        status(403, "no", listings: 1, reason: "credential_rejected"),
        status(301, "no", listings: 1, reason: "upstream_protocol", fields: ["Location: /mcp"]),
        status(307, "no", listings: 1, reason: "upstream_protocol", fields: ["Location: http://127.0.0.2:1/mcp"]),
    ]

    @Test("Is sent again only where that is safe, and its caller told whether it can have run", arguments: Self.rows)
    func table(row: Row) async throws {
        try await withGateway(script: row.fail) { gateway in
            let call = try await gateway.post(Message.call())
            #expect(call.status == 200)
            #expect(call.reason == row.reason)
            #expect(call.executed == row.executed)
            #expect(call.data["attempts"] as? Int == row.calls)
            #expect(gateway.upstream.requests.count == row.calls)
            let listing = try await gateway.post(Message.list)
            #expect(listing.reason == row.reason)
            #expect(gateway.upstream.requests.count == row.calls + row.listings)
            // Whoever sends twice sends the same bytes.
            #expect(Set(gateway.upstream.requests.map(\.text)) == [Message.call(), Message.list])
        }
    }

    @Test(
        "On a kept connection that broke, a listing is sent once more on a new one and a call is not",
        arguments: [true, false]
    )
    func stale(isCall: Bool) async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            if turn.number == 1 { turn.reset() } else { turn.behave() }
        }) { gateway in
            expect(try await gateway.post(Message.ping).status, is: 200)
            let answer = try await gateway.post(isCall ? Message.call() : Message.list)
            #expect((answer.reason == "upstream_closed") == isCall)
            #expect(answer.executed == (isCall ? "unknown" : nil))
            #expect(gateway.upstream.requests.map(\.connection) == (isCall ? [0, 0] : [0, 0, 1]))
        }
    }

    @Test("A body of which a part had gone out cannot have run, and is sent again")
    func partial() async throws {
        try await withGateway {
            $0.limits.bodyBytes = 64 * 1024 * 1024
            $0.headScript = { turn in
                guard turn.number == 0 else { return false }
                // Nothing more is read, so that not all of it can get into the sockets.
                turn.channel.setOption(.autoRead, value: false).whenComplete { _ in turn.reset() }
                return true
            }
        } _: { gateway in
            let call = Message.call(arguments: #"{"pad":"\#(String(repeating: "x", count: 32_000_000))"}"#)
            let answer = try await gateway.post(call)
            #expect(answer.status == 200)
            #expect(answer.json["result"] != nil, "\(answer.text)")
            #expect(gateway.upstream.requests.map(\.connection) == [0, 1])
        }
    }

    @Test(
        "An upstream that listens nowhere is tried twice, and nothing ran",
        arguments: [Message.call(), Message.list]
    )
    func unreachable(body: String) async throws {
        try await withGateway {
            $0.isUnreachable = true
        } _: { gateway in
            let answer = try await gateway.post(body)
            #expect(answer.reason == "unreachable")
            #expect(answer.executed == "no")
            #expect(answer.data["retryable"] as? Bool == true)
            #expect(answer.data["attempts"] as? Int == 2)
        }
    }

    @Test(
        "A message whose first sending may have run may have run, whatever becomes of its second",
        arguments: [401, 408, 413, 429]
    )
    func earlierAttempt(status: Int) async throws {
        try await withGateway {
            $0.upstream.timeout = .seconds(20)
        } script: { turn in
            if turn.number == 0 { turn.close() } else { turn.answer(status, "", type: nil) }
        } _: { gateway in
            let answer = try await gateway.post(Message.list)
            #expect(answer.executed == "unknown", "\(answer.text)")
            #expect(gateway.upstream.requests.count == 2)
        }
    }

    @Test("A call may have run if its time is over while its broken stream waits to be taken up again")
    func timeOutBetweenStreams() async throws {
        try await withGateway {
            $0.upstream.timeout = .milliseconds(600)
        } script: { turn in
            guard turn.request.method == "tools/call" else { return turn.behave() }
            turn.beginEvents()
            turn.chunk("id: 7\nretry: 20000\nevent: message\ndata: \(EventStreamTests.progress)\n\n")
            turn.endChunks()
        } _: { gateway in
            let text = try await gateway.post(Message.call()).text
            #expect(text.contains(#""reason":"upstream_timeout""#), "\(text)")
            #expect(text.contains(#""executed":"unknown""#), "\(text)")
        }
    }

    @Test(
        "If its time is over while its session is looked at, the refusal says whether a call can have run",
        arguments: [(400, "unknown"), (401, "no")]
    )
    func timeOutInDoubt(status: Int, executed: String) async throws {
        try await withGateway {
            $0.upstream.timeout = .milliseconds(600)
        } script: { turn in
            switch turn.request.method {
            case "tools/call": turn.answer(status, "what?", type: "text/plain")
            case "ping": break
            default: turn.behave(session: "up")
            }
        } _: { gateway in
            let session = try #require(try await gateway.initialize())
            let answer = try await gateway.post(Message.call(), fields: SessionTests.fields(session))
            #expect(answer.reason == "upstream_timeout", "\(answer.text)")
            #expect(answer.executed == executed)
            #expect(gateway.upstream.requests.count { $0.method == "ping" } == 1)
        }
    }

    @Test("Retries of safe messages are rationed: a failing upstream does not get twice the load")
    func budget() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { $0.close() }) { gateway in
            let count = 300
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<count { group.addTask { _ = try await gateway.post(Message.list) } }
                try await group.waitForAll()
            }
            let sent = gateway.upstream.requests.count
            #expect(sent > count)
            // 10 a second over the few seconds of the test, and a fifth of the requests.
            #expect(sent < count + count / 2)
        }
    }

    @Test(
        "Errors have the status of the caller's era",
        arguments: [(401, 502), (429, 429), (500, 502), (503, 502)]
    )
    func eras(upstream: Int, stateless: Int) async throws {
        try await withGateway {
            $0.upstream.protocolPin = .auto
        } script: { turn in
            if turn.request.method == "server/discover" {
                return turn.result(
                    #"{"supportedVersions":["2026-07-28"],"capabilities":{},"ttlMs":0,"cacheScope":"private"}"#
                )
            }
            if turn.request.method == "initialize" { return turn.behave() }
            turn.answer(upstream, "", type: nil, fields: ["Retry-After: 7", "WWW-Authenticate: Bearer"])
        } _: { gateway in
            expect(try await gateway.post(Message.call()).status, is: 200)
            let (body, fields) = Message.stateless("tools/call", name: "work")
            // Not probed before: asked for now.
            let running = Task { await gateway.gateway.run { _, _ in } }
            defer { running.cancel() }
            let answer = try await gateway.post(body, fields: fields)
            #expect(answer.status == stateless)
            #expect(answer["www-authenticate"] == nil)
            #expect(answer["retry-after"] == (upstream == 429 || upstream == 503 ? "7" : nil))
            expect(try await gateway.post(#"{"jsonrpc":"2.0","method":"notifications/x"}"#).status, is: 202)
        }
    }
}
