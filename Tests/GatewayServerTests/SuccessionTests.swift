// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayRuntime
import GatewayTesting
import GatewayWire
import NIOCore
import Testing

@Suite("A server that callers share and that another one replaces", .timeLimit(.minutes(3))) struct SuccessionTests {
    typealias Held = Inbox<[UpstreamTurn]>

    /// Opens sessions, streams for GETs, asks the caller in calls of `ask`, and leaves both and calls of `hold` to the test.
    static func script(_ held: Held, session: String, tools: String = "[]") -> ScriptedUpstream.Script {
        { turn in
            let text = turn.request.text
            switch (turn.request.httpMethod, turn.request.method) {
            case ("GET", _): turn.beginEvents()
            case (_, "tools/list"): turn.result(#"{"tools":\#(tools)}"#)
            case (_, "tools/call") where text.contains("hold") || text.contains("ask"):
                if text.contains("ask") {
                    turn.beginEvents()
                    turn.event(#"{"jsonrpc":"2.0","id":"q-\#(session)","method":"elicitation/create","params":{}}"#)
                }
                held.change { $0.append(turn) }
            default: turn.behave(session: session)
            }
        }
    }

    /// An old and a new server that callers share, each with as many tokens.
    struct Servers {
        let gateway: TestGateway
        let successor: ScriptedUpstream
        let held: Held

        /// What the configuration says of the new one.
        var new: UpstreamConfiguration { self.gateway.server("echo", at: self.successor.port) }

        /// Lets the new one take the place of the old one.
        func succeed() async throws { try await self.replace(with: self.new) }

        /// Replaces what serves now, and waits until the other one does.
        func replace(with configuration: UpstreamConfiguration, drainTime: Duration = .seconds(20)) async throws {
            let before = self.gateway.echo.id
            let applied = try await self.gateway.apply([configuration], ["echo": .replaced], drainTime: drainTime)
            #expect(applied.replaced == ["echo"])
            for _ in 0..<1_000 where self.gateway.echo.id == before {
                // Nobody says when callers are led to the new one.
                try await Task.sleep(for: .milliseconds(10))
            }
            #expect(self.gateway.echo.id != before)
        }
    }

    static func serving(
        tokens: Int = 0,
        tools: String = "[]",
        _ body: (Servers) async throws -> Void
    ) async throws {
        let held = Held([])
        let successor = try await ScriptedUpstream.start { Self.script(held, session: "new", tools: tools)($0) }
        try await withGateway {
            $0.isRunning = true
            $0.upstream.isolation = .shared
            if tokens > 0 { $0.credentials = ReplacedTokenTests.pool((0..<tokens).map { "succession-\($0)" }) }
        } script: {
            Self.script(held, session: "old")($0)
        } _: { gateway in
            try await body(Servers(gateway: gateway, successor: successor, held: held))
        }
        await successor.stop()
    }

    static let initialize = Message.initialize.replacing(
        #""capabilities":{}"#,
        with: #""capabilities":{"elicitation":{}}"#
    )

    @Test("Sessions go on at the new one, and the call that runs is answered by the old one", arguments: [0, 2])
    func moves(tokens: Int) async throws {
        try await Self.serving(tokens: tokens) { servers in
            let gateway = servers.gateway
            let session = try #require(try await gateway.initialize())
            let fields = SessionTests.fields(session)
            let caller = try await gateway.connect()
            caller.send(TestGateway.post(Message.call("hold"), fields: fields))
            let old = try await servers.held.wait("the call") { $0.first }
            try await servers.succeed()
            for _ in 0..<3 { expect(try await gateway.post(Message.call("mine"), fields: fields).status, is: 200) }
            let mine = try await servers.successor.requests(3) { $0.text.contains("mine") }
            #expect(mine.allSatisfy { $0["mcp-session-id"] == "new" })
            old.result(#"{"of":"old"}"#)
            try await caller.read(until: #"{"of":"old"}"#)
            caller.close()
            try await gateway.hasDrained()
            expect(try await gateway.post(Message.call("mine"), fields: fields).status, is: 200)
            try await gateway.metric(#"mcp_proxy_sessions{server="echo"}"#, is: "1")
            // The upstream of the old one hears that its session is over.
            try await gateway.upstream.requests(1) { $0.httpMethod == "DELETE" && $0["mcp-session-id"] == "old" }
            expect(try await gateway.request("DELETE /echo/mcp", fields: fields).status, is: 204)
        }
    }

    @Test("What the old one asked is answered there, and what the new one asks has another id", arguments: [0, 2])
    func questions(tokens: Int) async throws {
        try await Self.serving(tokens: tokens) { servers in
            let gateway = servers.gateway
            let session = try #require(try await gateway.post(Self.initialize)["mcp-session-id"])
            let fields = SessionTests.fields(session)
            func ask(_ id: Int) async throws -> (RawClient, String) {
                let caller = try await gateway.connect()
                caller.send(TestGateway.post(Message.call("ask", id: "\(id)"), fields: fields))
                let text = try await caller.read(until: "elicitation/create")
                let question = try #require(text.firstMatch(of: /"id":([^,]+),"method":"elicitation/)?.output.1)
                return (caller, String(question))
            }
            let (first, old) = try await ask(71)
            try await servers.succeed()
            let (second, new) = try await ask(72)
            #expect(old != new)
            for id in [old, new] {
                let answer = #"{"jsonrpc":"2.0","id":\#(id),"result":{"action":"accept"}}"#
                expect(try await gateway.post(answer, fields: fields).status, is: 202)
            }
            for (upstream, name) in [(gateway.upstream, "old"), (servers.successor, "new")] {
                let answers = try await upstream.requests(1) { $0.text.contains("accept") }
                #expect(answers.count == 1 && answers[0].id == #""q-\#(name)""#)
            }
            for (turn, caller) in zip(servers.held.now, [first, second]) {
                turn.event(turn.resultText(#"{"is":"over"}"#))
                turn.endChunks()
                try await caller.read(until: #"{"is":"over"}"#)
                caller.close()
            }
            try await gateway.hasDrained()
        }
    }

    @Test("The new one is told what callers subscribed to and which level they set; callers, if its tools are others")
    func wishes() async throws {
        for tools in ["[]", #"[{"name":"more"}]"#] {
            try await Self.serving(tools: tools) { servers in
                let gateway = servers.gateway
                let session = try #require(try await gateway.initialize())
                let fields = SessionTests.fields(session)
                let subscribe = #"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"memo://a"}}"#
                let level = #"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"error"}}"#
                for body in [subscribe, level] { expect(try await gateway.post(body, fields: fields).status, is: 200) }
                let listener = try await gateway.listen(in: session)
                try await servers.succeed()
                try await servers.successor.requests(1) { $0.text.contains("memo://a") }
                try await servers.successor.requests(1) { $0.text.contains(#""level":"error""#) }
                try await gateway.hasDrained()
                if tools == "[]" {
                    #expect(!(listener.inbox.now.text).contains("list_changed"))
                } else {
                    try await listener.read(until: "notifications/tools/list_changed")
                }
                #expect(listener.inbox.now.ending == nil)
                listener.close()
            }
        }
    }

    @Test("A session that ends while the old one drains takes its call there along")
    func ends() async throws {
        try await Self.serving { servers in
            let gateway = servers.gateway
            let session = try #require(try await gateway.initialize())
            let fields = SessionTests.fields(session)
            let caller = try await gateway.connect()
            caller.send(TestGateway.post(Message.call("hold"), fields: fields))
            let call = try await servers.held.wait("the call") { $0.first }
            try await servers.succeed()
            expect(try await gateway.request("DELETE /echo/mcp", fields: fields).status, is: 204)
            try await gateway.upstream.requests(1) { $0.method == "notifications/cancelled" }
            #expect(gateway.gateway.sessions.count == 0)
            call.result()
            try await caller.read(until: #""result":{}"#)
            caller.close()
            try await gateway.hasDrained()
        }
    }

    @Test("One that is not up when the time is over takes the place all the same")
    func neverUp() async throws {
        try await Self.serving { servers in
            let gateway = servers.gateway
            let session = try #require(try await gateway.initialize())
            let broken = try await ScriptedUpstream.start { $0.answer(500, "broken", type: "text/plain") }
            let new = gateway.server("echo", at: broken.port)
            try await servers.replace(with: new, drainTime: .milliseconds(300))
            try await gateway.hasDrained()
            expect(try await gateway.post(Message.call(), fields: SessionTests.fields(session)).status, is: 404)
            #expect(try await gateway.post(Message.initialize).reason != nil)
            await broken.stop()
        }
    }

    @Test("However often it is replaced, nothing of the units before is left, and the session is the same")
    func again() async throws {
        try await Self.serving { servers in
            let gateway = servers.gateway
            let session = try #require(try await gateway.initialize())
            let listener = try await gateway.listen(in: session)
            for round in 0..<12 {
                try await servers.replace(with: round % 2 == 0 ? servers.new : gateway.server("echo"))
                expect(try await gateway.post(Message.call(), fields: SessionTests.fields(session)).status, is: 200)
            }
            try await gateway.hasDrained()
            #expect(gateway.gateway.registry.everyUpstream.count == 1 && gateway.gateway.sessions.count == 1)
            #expect(listener.inbox.now.ending == nil)
            listener.close()
        }
    }
}
