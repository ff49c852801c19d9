// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayTesting
import GatewayWire
import NIOCore
import Synchronization
import Testing

@Suite("A handshake session", .timeLimit(.minutes(1))) struct SessionTests {
    /// True the first time that it is asked.
    private static func once() -> @Sendable () -> Bool {
        let isFirst = Mutex(true)
        return {
            isFirst.withLock { first in
                defer { first = false }
                return first
            }
        }
    }

    static func fields(_ session: String?, token: String? = nil) -> [String] {
        (session.map { ["Mcp-Session-Id: \($0)"] } ?? []) + (token.map { ["Authorization: Bearer \($0)"] } ?? [])
    }

    @Test("Its id is ours and the upstream's stays upstream; DELETE ends both")
    func life() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { $0.behave(session: "of-the-upstream") }) { gateway in
            let session = try #require(try await gateway.initialize())
            #expect(session.count == 32 && session != "of-the-upstream")
            expect(try await gateway.post(Message.initialized, fields: Self.fields(session)).status, is: 202)
            expect(try await gateway.post(Message.call(), fields: Self.fields(session)).status, is: 200)
            let foreign = try await gateway.post(Message.call(), fields: Self.fields("of-the-upstream"))
            #expect(foreign.status == 404)
            try await gateway.metric(#"mcp_proxy_sessions{server="echo"}"#, is: "1")
            expect(try await gateway.request("DELETE /echo/mcp", fields: Self.fields(session)).status, is: 204)
            let arrived = try await gateway.upstream.requests(1) { $0.httpMethod == "DELETE" }
            #expect(arrived[0]["mcp-session-id"] == "of-the-upstream")
            #expect(
                gateway.upstream.requests.map { $0["mcp-session-id"] } == [nil]
                    + Array(repeating: "of-the-upstream", count: 3)
            )
            expect(try await gateway.post(Message.call(), fields: Self.fields(session)).status, is: 404)
            expect(try await gateway.request("DELETE /echo/mcp", fields: Self.fields(session)).status, is: 404)
            try await gateway.metric(#"mcp_proxy_sessions{server="echo"}"#, is: "0")
        }
    }

    @Test(
        "An upstream that issues no session gets none made up, and one that fails opens none",
        arguments: [true, false]
    )
    func none(isError: Bool) async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            guard isError, turn.request.method == "initialize" else { return turn.behave() }
            let error = #"{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"no"}}"#
            turn.answer(200, error, fields: ["Mcp-Session-Id: bogus"])
        }) { gateway in
            expect(try await gateway.initialize(), is: nil)
            expect(try await gateway.post(Message.call()).status, is: 200)
            #expect(gateway.gateway.sessions.count == 0)
        }
    }

    @Test("Only its principal finds it: another token's id is answered exactly like an unknown one")
    func principals() async throws {
        try await withGateway {
            $0.upstream.inboundTokens = [Secret("token-one"), Secret("token-two")]
            $0.upstream.forwardHeaders = ["x-tenant"]
        } script: {
            $0.behave(session: "s")
        } _: { gateway in
            let own = ["Authorization: Bearer token-one", "X-Tenant: a"]
            let session = try #require(try await gateway.initialize(fields: own))
            let unknown = String(repeating: "0", count: 32)
            let rows = [
                (own, session, 200), (own, unknown, 404),
                (["Authorization: Bearer token-two", "X-Tenant: a"], session, 404),
                (["Authorization: Bearer token-one", "X-Tenant: b"], session, 404),
                (["Authorization: Bearer token-one"], session, 404),
                (["Authorization: Bearer token-one", "X-Tenant: a", "X-Tenant: a"], session, 404),
            ]
            var refusals: Set<String> = []
            for (fields, id, status) in rows {
                let answer = try await gateway.post(Message.call(), fields: fields + Self.fields(id))
                #expect(answer.status == status, "\(fields)")
                if answer.status == 404 { refusals.insert(answer.text) }
                guard status == 404 else { continue }
                let delete = try await gateway.request("DELETE /echo/mcp", fields: fields + Self.fields(id))
                #expect(delete.status == 404)
            }
            #expect(refusals.count == 1)
        }
    }

    @Test("A request without a session at an upstream that issues them gets 400")
    func missing() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { $0.behave(session: "s") }) { gateway in
            _ = try await gateway.initialize()
            expect(try await gateway.post(Message.call()).status, is: 400)
            expect(try await gateway.request("DELETE /echo/mcp").status, is: 400)
            let get = try await gateway.request("GET /echo/mcp", fields: ["Accept: text/event-stream"])
            #expect(get.status == 400)
        }
    }

    // MARK: Forgotten upstream

    /// An upstream that knows only its newest session.
    final class Forgetful: Sendable {
        private let count = Mutex(0)
        private let known = Mutex("")

        func forget() { self.known.withLock { $0 = "" } }

        func answer(_ turn: UpstreamTurn) {
            if turn.request.method == "initialize" {
                let number = self.count.withLock { count in
                    count += 1
                    return count
                }
                let id = "upstream-\(number)"
                self.known.withLock { $0 = id }
                return turn.behave(session: id)
            }
            guard turn.request["mcp-session-id"] == self.known.withLock({ $0 }) else {
                return turn.answer(404, #"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"gone"}}"#)
            }
            turn.behave()
        }
    }

    @Test("One that the upstream forgot is opened again once for all who wait, and the messages sent again")
    func renewal() async throws {
        let upstream = Forgetful()
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { upstream.answer($0) }) { gateway in
            let session = try #require(try await gateway.initialize())
            upstream.forget()
            let statuses = try await withThrowingTaskGroup(of: Int.self) { group in
                for id in 1...20 {
                    group.addTask {
                        try await gateway.post(Message.call(id: "\(id)"), fields: Self.fields(session)).status
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(statuses == Array(repeating: 200, count: 20))
            let requests = gateway.upstream.requests
            #expect(
                requests.filter { $0.method == "initialize" }.map(\.text) == [Message.initialize, Message.initialize]
            )
            #expect(requests.filter { $0.method == "notifications/initialized" }.count == 1)
            expect(try await gateway.post(Message.call(), fields: Self.fields(session)).status, is: 200)
        }
    }

    @Test("One that cannot be opened again ends, and its caller is told to initialize", arguments: [true, false])
    func over(refusesInitialize: Bool) async throws {
        let isFirst = Self.once()
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            let wasFirst = isFirst()
            switch turn.request.method {
            case "initialize" where wasFirst || !refusesInitialize: turn.behave(session: "again")
            case "notifications/initialized": turn.behave()
            default: turn.answer(404, "", type: nil)
            }
        }) { gateway in
            let session = try #require(try await gateway.initialize())
            let answer = try await gateway.post(Message.call(id: "5"), fields: Self.fields(session))
            #expect(answer.status == 404)
            #expect(answer.json["id"] as? Int == 5)
            let calls = gateway.upstream.requests.filter { $0.method == "tools/call" }
            #expect(calls.count == (refusesInitialize ? 1 : 2))
            #expect(gateway.gateway.sessions.count == 0)
        }
    }

    @Test("One of the old transport that cannot be opened again ends with its stream")
    func legacyOver() async throws {
        let isFirst = Self.once()
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            let wasFirst = isFirst()
            switch turn.request.method {
            case "initialize" where wasFirst: turn.behave(session: "once")
            case "notifications/initialized": turn.behave()
            // It would find out as well that the session is lost, and perhaps before the call does.
            case _ where turn.request.httpMethod == "GET": turn.answer(405, "", type: nil, fields: ["Allow: POST"])
            default: turn.answer(404, "", type: nil)
            }
        }) { gateway in
            let client = try await gateway.connect()
            client.send("GET /echo/sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
            let opening = try await client.read(until: "\n\n\r\n")
            let line = try #require(opening.split(whereSeparator: \.isNewline).first { $0.hasPrefix("data: ") })
            let place = String(line.dropFirst("data: ".count))
            for message in [Message.initialize, Message.call(id: "5")] {
                let caller = try await gateway.connect()
                expect(try await caller.exchange(TestGateway.post(message, to: place)).status, is: 202)
                try await client.read(until: #""id":\#(message == Message.initialize ? 0 : 5)"#)
                caller.close()
            }
            try await client.read(until: "0\r\n\r\n")
            try await gateway.metric(#"mcp_proxy_sessions{server="echo"}"#, is: "0")
            #expect(gateway.gateway.sessions.count == 0)
        }
    }

    // MARK: Limits

    @Test("At sessionsPerToken the longest idle session of the same token makes room, never one in use or another's")
    func perToken() async throws {
        try await withGateway {
            $0.upstream.inboundTokens = [Secret("token-one"), Secret("token-two")]
            $0.limits.sessionsPerToken = 2
        } script: { turn in
            if turn.request.text.contains("hang") { return }
            turn.behave(session: "s\(turn.number)")
        } _: { gateway in
            let (one, two) = (["Authorization: Bearer token-one"], ["Authorization: Bearer token-two"])
            func usable(_ session: String?, _ fields: [String]) async throws -> Bool {
                try await gateway.post(Message.ping, fields: fields + Self.fields(session)).status == 200
            }
            let others = try await gateway.initialize(fields: two)
            let first = try await gateway.initialize(fields: one)
            let second = try await gateway.initialize(fields: one)
            #expect(try await usable(first, one))
            // `second` has been idle for longer now.
            let third = try await gateway.initialize(fields: one)
            #expect(try await !usable(second, one))
            #expect(try await usable(first, one))
            #expect(try await usable(third, one))
            // With a call on each nobody can go.
            let busy = [try await gateway.connect(), try await gateway.connect()]
            for (client, session) in zip(busy, [first, third]) {
                client.send(TestGateway.post(Message.call("hang"), fields: one + Self.fields(session)))
            }
            try await gateway.upstream.requests(2) { $0.text.contains("hang") }
            let refused = try await gateway.post(Message.initialize, fields: one)
            #expect(refused.status == 503)
            #expect(refused["retry-after"] != nil)
            #expect(try await usable(others, two))
            for client in busy { client.close() }
        }
    }

    @Test("One that is idle for sessionIdle ends here and upstream; one with a stream does not")
    func idle() async throws {
        try await withGateway {
            $0.limits.sessionIdle = .seconds(1)
            $0.isRunning = true
        } script: { turn in
            guard turn.request.httpMethod == "GET" else { return turn.behave(session: "s\(turn.number)") }
            turn.beginEvents()
        } _: { gateway in
            let streaming = try #require(try await gateway.initialize())
            let client = try await gateway.connect()
            client.send(
                "GET /echo/mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: \(streaming)\r\n\r\n"
            )
            try await client.read(until: "\r\n\r\n")
            let idle = try #require(try await gateway.initialize())
            let own = try await gateway.upstream.requests(3) { $0.method == "initialize" }.count
            #expect(own >= 2)
            try await gateway.metric(#"mcp_proxy_sessions{server="echo"}"#, is: "1")
            expect(try await gateway.post(Message.ping, fields: Self.fields(idle)).status, is: 404)
            expect(try await gateway.post(Message.ping, fields: Self.fields(streaming)).status, is: 200)
            client.close()
        }
    }
}

@Suite("The GET stream of a session", .timeLimit(.minutes(1))) struct ListenTests {
    static func get(_ session: String?, fields: [String] = []) -> String {
        let more = (SessionTests.fields(session) + fields).map { "\($0)\r\n" }.joined()
        return "GET /echo/mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\(more)\r\n"
    }

    static let changed = #"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#

    /// Answers everything but GET, whose turns the test takes.
    static func script(_ gets: Inbox<[UpstreamTurn]>) -> ScriptedUpstream.Script {
        { turn in
            guard turn.request.httpMethod == "GET" else { return turn.behave(session: "s") }
            gets.change { $0.append(turn) }
        }
    }

    static func next(_ gets: Inbox<[UpstreamTurn]>) async throws -> UpstreamTurn {
        try await gets.wait("a GET at the upstream") { $0.isEmpty ? nil : $0.removeFirst() }
    }

    @Test("Carries events as they come under ids of ours, survives the upstream's end, and takes up where it was")
    func survives() async throws {
        let gets = Inbox<[UpstreamTurn]>([])
        try await withGateway(script: Self.script(gets)) { gateway in
            let session = try #require(try await gateway.initialize())
            let client = try await gateway.connect()
            client.send(Self.get(session, fields: ["Last-Event-ID: 41", "MCP-Protocol-Version: 2025-11-25"]))
            let first = try await Self.next(gets)
            // What our ids are is nothing to the upstream, and the other way round.
            #expect(first.request["last-event-id"] == nil)
            #expect(first.request["mcp-session-id"] == "s")
            #expect(first.request["mcp-protocol-version"] == "2025-11-25")
            first.beginEvents()
            first.chunk("retry: 10\nid: 42\nevent: message\ndata: \(Self.changed)\n\n")
            try await client.read(until: "id: 0-1\nretry: 1000\ndata: \n\n")
            try await client.read(until: "id: 0-2\nevent: message\ndata: \(Self.changed)\n\n")
            first.endChunks()
            let second = try await Self.next(gets)
            #expect(second.request["last-event-id"] == "42")
            second.beginEvents()
            second.event(Self.changed)
            try await client.read(until: "id: 0-3\nevent: message\ndata: \(Self.changed)\n\n")
            #expect(client.inbox.now.ending == nil)
            client.close()
            try await gateway.metric(#"mcp_proxy_streams{server="echo"}"#, is: "0")
        }
    }

    @Test("A caller that lost its connection gets what it missed, and then what comes", arguments: [1, 2])
    func resumes(threads: Int) async throws {
        let gets = Inbox<[UpstreamTurn]>([])
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway({ $0.threads = threads }, script: Self.script(gets)) { gateway in
            let session = try #require(try await gateway.initialize())
            let client = try await gateway.connect()
            client.send(Self.get(session))
            let turn = try await Self.next(gets)
            turn.beginEvents()
            turn.event(Self.changed)
            try await client.read(until: "id: 0-2\n")
            client.reset()
            try await gateway.metric(#"mcp_proxy_streams{server="echo"}"#, is: "0")
            for _ in 3...5 { turn.event(Self.changed) }
            // Each connection is on the next event loop.
            for _ in 0..<threads {
                let again = try await gateway.connect()
                again.send(Self.get(session, fields: ["Last-Event-ID: 0-2"]))
                let text = try await again.read(until: "id: 0-5\n")
                #expect(text.contains("id: 0-3\n") && text.contains("id: 0-4\n") && !text.contains("id: 0-2\n"))
                again.close()
                try await gateway.metric(#"mcp_proxy_streams{server="echo"}"#, is: "0")
            }
            // The upstream's stream stayed open all the time.
            #expect(gets.now.isEmpty)
        }
    }

    @Test("A second one of the same session takes the place of the first, which ends in order")
    func replaced() async throws {
        let gets = Inbox<[UpstreamTurn]>([])
        try await withGateway(script: Self.script(gets)) { gateway in
            let session = try #require(try await gateway.initialize())
            let (one, two) = (try await gateway.connect(), try await gateway.connect())
            one.send(Self.get(session))
            let turn = try await Self.next(gets)
            turn.beginEvents()
            try await one.read(until: "\r\n\r\n")
            two.send(Self.get(session))
            try await two.read(until: "\r\n\r\n")
            try await one.read(until: "0\r\n\r\n")
            turn.event(Self.changed)
            try await two.read(until: Self.changed)
            // DELETE ends what is left.
            expect(
                try await gateway.request("DELETE /echo/mcp", fields: SessionTests.fields(session)).status,
                is: 204
            )
            try await two.read(until: "0\r\n\r\n")
        }
    }

    @Test("An upstream that has none says so with 405, and any other refusal is tried again behind an open stream")
    func refused() async throws {
        let gets = Inbox<[UpstreamTurn]>([])
        try await withGateway(script: Self.script(gets)) { gateway in
            let session = try #require(try await gateway.initialize())
            let client = try await gateway.connect()
            client.send(Self.get(session))
            try await Self.next(gets).answer(405, "", type: nil, fields: ["Allow: POST"])
            expect(try await client.answer().status, is: 405)
            // For a moment nobody asks again.
            client.send(Self.get(session))
            expect(try await client.answer().status, is: 405)
            #expect(gets.now.isEmpty)
            client.send(Self.get(try await gateway.initialize()))
            try await Self.next(gets).answer(503, "", type: nil)
            try await client.read(until: "\r\n\r\n")
            try await Self.next(gets).beginEvents()
            client.close()
        }
    }

    @Test("Where the upstream says that it has none, a second connection that had the stream already keeps it")
    func refusedLate() async throws {
        let gets = Inbox<[UpstreamTurn]>([])
        try await withGateway(script: Self.script(gets)) { gateway in
            let session = try #require(try await gateway.initialize())
            let (one, two) = (try await gateway.connect(), try await gateway.connect())
            one.send(Self.get(session))
            let turn = try await Self.next(gets)
            two.send(Self.get(session))
            try await two.read(until: "id: 0-1\n")
            turn.answer(405, "", type: nil, fields: ["Allow: POST"])
            expect(try await one.answer().status, is: 405)
            // Were it ended, its caller would ask again, and so on; so the upstream is asked.
            let again = try await Self.next(gets)
            again.beginEvents()
            again.event(Self.changed)
            try await two.read(until: Self.changed)
            one.close()
            two.close()
        }
    }

    @Test("At `streams` one more is refused with 503")
    func limit() async throws {
        let gets = Inbox<[UpstreamTurn]>([])
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway({ $0.limits.streams = 1 }, script: Self.script(gets)) { gateway in
            let sessions = [try await gateway.initialize(), try await gateway.initialize()]
            let client = try await gateway.connect()
            client.send(Self.get(sessions[0]))
            try await Self.next(gets).beginEvents()
            try await client.read(until: "\r\n\r\n")
            let refused = try await gateway.request(
                "GET /echo/mcp",
                fields: ["Accept: text/event-stream"] + SessionTests.fields(sessions[1])
            )
            #expect(refused.status == 503)
            #expect(refused["retry-after"] != nil)
            client.close()
        }
    }
}
