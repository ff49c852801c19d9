// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayRuntime
import GatewayTesting
import GatewayWire
import NIOCore
import Testing

@Suite("Another configuration while the gateway serves", .timeLimit(.minutes(5))) struct EndpointChangeTests {
    /// Calls that the upstream does not answer by itself.
    typealias Held = Inbox<[UpstreamTurn]>

    /// Opens sessions, has a stream for each GET, and leaves calls of `hold` to the test.
    static func script(_ held: Held = Held([])) -> ScriptedUpstream.Script {
        { turn in
            switch (turn.request.httpMethod, turn.request.method) {
            case ("GET", _): turn.beginEvents()
            case (_, "tools/call") where turn.request.text.contains("hold"): held.change { $0.append(turn) }
            default: turn.behave(session: "s")
            }
        }
    }

    /// Serves `echo`, with everything running, for callers with one of these tokens; for all without any.
    static func serving(
        tokens: [String] = [],
        threads: Int = 1,
        _ body: (TestGateway, Held) async throws -> Void
    ) async throws {
        let held = Held([])
        try await withGateway {
            $0.isRunning = true
            $0.threads = threads
            $0.upstream.inboundTokens = tokens.map { Secret($0) }
        } script: {
            Self.script(held)($0)
        } _: { gateway in
            try await body(gateway, held)
        }
    }

    @Test("A server that is added answers at once, and the one that was there notices nothing")
    func added() async throws {
        try await Self.serving { gateway, _ in
            let session = try #require(try await gateway.initialize())
            let listener = try await gateway.listen(in: session)
            expect(try await gateway.post(Message.initialize, to: "/more/mcp").status, is: 404)
            let applied = try await gateway.apply([gateway.server("echo"), gateway.server("more")], ["echo": .same])
            #expect(applied.added == ["more"] && applied.same == ["echo"] && applied.replaced.isEmpty)
            expect(try await gateway.post(Message.initialize, to: "/more/mcp").status, is: 200)
            expect(try await gateway.post(Message.call(), fields: SessionTests.fields(session)).status, is: 200)
            #expect(listener.inbox.now.ending == nil)
            #expect(gateway.gateway.registry.everyUpstream.count == 2)
            listener.close()
        }
    }

    @Test("The session of one server is nobody's at another, whoever stands where it stood")
    func otherServer() async throws {
        try await Self.serving { gateway, _ in
            let session = try #require(try await gateway.initialize())
            try await gateway.apply([gateway.server("other"), gateway.server("echo")], ["echo": .same])
            let fields = SessionTests.fields(session)
            expect(try await gateway.post(Message.call(), to: "/other/mcp", fields: fields).status, is: 404)
            expect(try await gateway.post(Message.call(), fields: fields).status, is: 200)
        }
    }

    @Test(
        "A server that is removed is unknown at once; its call is answered, its stream ended in order, its session ended"
    )
    func removed() async throws {
        try await Self.serving { gateway, held in
            let session = try #require(try await gateway.initialize())
            let fields = SessionTests.fields(session)
            let listener = try await gateway.listen(in: session)
            let caller = try await gateway.connect()
            caller.send(TestGateway.post(Message.call("hold"), fields: fields))
            let turn = try await held.wait("a call that is held") { $0.first }
            let applied = try await gateway.apply([])
            #expect(applied.removed == ["echo"])
            expect(try await gateway.post(Message.call(), fields: fields).status, is: 404)
            expect(try await gateway.post(Message.initialize).status, is: 404)
            // What is under way keeps its stream for what the server asks meanwhile.
            #expect(listener.inbox.now.ending == nil && gateway.gateway.sessions.count == 1)
            turn.result(#"{"late":true}"#)
            let answer = try await caller.answer()
            #expect(answer.status == 200 && answer.text.contains("late"))
            try await listener.read(until: "0\r\n\r\n")
            try await gateway.hasDrained()
            #expect(gateway.gateway.sessions.count == 0)
            try await gateway.upstream.requests(1) { $0.httpMethod == "DELETE" && $0["mcp-session-id"] == "s" }
            expect(try await gateway.metrics().contains(#"server="echo""#), is: false)
            caller.close()
            listener.close()
        }
    }

    @Test("A call that outlasts the time that a removed server has is told that the server is gone")
    func outlasts() async throws {
        try await Self.serving { gateway, held in
            let session = try #require(try await gateway.initialize())
            let caller = try await gateway.connect()
            caller.send(TestGateway.post(Message.call("hold"), fields: SessionTests.fields(session)))
            _ = try await held.wait("a call that is held") { $0.first }
            try await gateway.apply([], drainTime: .milliseconds(100))
            let answer = try await caller.answer()
            #expect(answer.reason == "upstream_closed" && answer.executed == "unknown")
            try await gateway.hasDrained()
            caller.close()
        }
    }

    @Test("A server that is removed and comes back is another one: its old session is lost, its figures begin anew")
    func comesBack() async throws {
        try await Self.serving { gateway, _ in
            let session = try #require(try await gateway.initialize())
            try await gateway.apply([])
            try await gateway.hasDrained()
            let applied = try await gateway.apply([gateway.server("echo")])
            #expect(applied.added == ["echo"])
            expect(try await gateway.post(Message.call(), fields: SessionTests.fields(session)).status, is: 404)
            let line = #"mcp_proxy_requests_total{server="echo",method="initialize",outcome="ok"} "#
            expect(try await gateway.metrics().contains(line), is: false)
            expect(try await gateway.post(Message.initialize).status, is: 200)
        }
    }

    @Test("A server that is replaced keeps the sessions that it has, and new ones are the successor's")
    func replaced() async throws {
        let successor = try await ScriptedUpstream.start { $0.behave(session: "new") }
        try await Self.serving { gateway, _ in
            let old = try #require(try await gateway.initialize())
            let listener = try await gateway.listen(in: old)
            let changed = gateway.server("echo", at: successor.port)
            let applied = try await gateway.apply([changed], ["echo": .replaced])
            #expect(applied.replaced == ["echo"])
            let before = gateway.gateway.registry.everyUpstream.count
            #expect(before == 2)
            let new = try #require(try await gateway.initialize())
            for (session, upstream) in [(old, gateway.upstream), (new, successor)] {
                let call = Message.call("of-\(session)")
                expect(try await gateway.post(call, fields: SessionTests.fields(session)).status, is: 200)
                try await upstream.requests(1) { $0.text.contains("of-\(session)") }
            }
            #expect(listener.inbox.now.ending == nil)
            try await gateway.metric(#"mcp_proxy_sessions{server="echo"}"#, is: "2")
            // The last session of the old one is its end.
            expect(try await gateway.request("DELETE /echo/mcp", fields: SessionTests.fields(old)).status, is: 204)
            listener.close()
            try await gateway.hasDrained()
            try await gateway.metric(#"mcp_proxy_sessions{server="echo"}"#, is: "1")
            expect(try await gateway.post(Message.call(), fields: SessionTests.fields(new)).status, is: 200)
        }
        await successor.stop()
    }

    @Test("A session of a replaced server is found though its endpoint passes on other headers now")
    func otherHeaders() async throws {
        try await Self.serving { gateway, _ in
            var changed = gateway.server("echo")
            changed.forwardHeaders = ["x-user"]
            try await gateway.apply([changed], ["echo": .replaced])
            let mine = ["X-User: me", "X-Team: us"]
            let old = try #require(try await gateway.initialize(fields: mine))
            changed.forwardHeaders = ["x-team"]
            try await gateway.apply([changed], ["echo": .replaced])
            let fields = SessionTests.fields(old)
            expect(try await gateway.post(Message.call("of-old"), fields: fields + mine).status, is: 200)
            // Beside it the new unit looks at the upstream.
            let ofOld = try await gateway.upstream.requests(1) { $0.text.contains("of-old") }
            #expect(ofOld.last?["x-user"] == "me" && ofOld.last?["x-team"] == nil)
            let listener = try await gateway.listen(in: old, fields: mine)
            expect(try await gateway.post(Message.call(), fields: fields + ["X-User: you"]).status, is: 404)
            let new = try #require(try await gateway.initialize(fields: mine))
            let call = Message.call("of-new")
            expect(try await gateway.post(call, fields: SessionTests.fields(new) + mine).status, is: 200)
            let ofNew = try await gateway.upstream.requests(1) { $0.text.contains("of-new") }
            #expect(ofNew.last?["x-team"] == "us" && ofNew.last?["x-user"] == nil)
            expect(try await gateway.request("DELETE /echo/mcp", fields: fields + mine).status, is: 204)
            listener.close()
        }
    }

    @Test("A session that stays too long with a replaced server ends with 404, and its stream in order")
    func tooLong() async throws {
        let successor = try await ScriptedUpstream.start { $0.behave(session: "new") }
        try await Self.serving { gateway, _ in
            let old = try #require(try await gateway.initialize())
            let listener = try await gateway.listen(in: old)
            let changed = gateway.server("echo", at: successor.port)
            try await gateway.apply([changed], ["echo": .replaced], drainTime: .milliseconds(200))
            try await listener.read(until: "0\r\n\r\n")
            try await gateway.hasDrained()
            expect(try await gateway.post(Message.call(), fields: SessionTests.fields(old)).status, is: 404)
            try await gateway.upstream.requests(1) { $0.httpMethod == "DELETE" && $0["mcp-session-id"] == "s" }
            listener.close()
        }
        await successor.stop()
    }

    @Test("A server that is tuned goes by the new settings with its next call, in the session that it has")
    func tuned() async throws {
        try await Self.serving { gateway, _ in
            let session = try #require(try await gateway.initialize())
            var changed = gateway.server("echo")
            changed.timeout = .milliseconds(300)
            changed.toolFilter = ToolFilter(mode: .block, names: ["hidden"])
            let unit = gateway.echo.id
            let applied = try await gateway.apply([changed], ["echo": .tuned])
            #expect(applied.tuned == ["echo"] && gateway.echo.id == unit)
            let fields = SessionTests.fields(session)
            expect(try await gateway.post(Message.call("hidden"), fields: fields).code, is: -32_602)
            expect(try await gateway.post(Message.call("hold"), fields: fields).reason, is: "upstream_timeout")
            expect(try await gateway.post(Message.call(), fields: fields).status, is: 200)
        }
    }

    @Test("Another order of the inbound tokens changes nothing for any session")
    func reordered() async throws {
        try await Self.serving(tokens: ["token-a", "token-b"]) { gateway, _ in
            let a = try #require(try await gateway.initialize(fields: SessionTests.fields(nil, token: "token-a")))
            let b = try #require(try await gateway.initialize(fields: SessionTests.fields(nil, token: "token-b")))
            let listener = try await gateway.listen(in: a, fields: SessionTests.fields(nil, token: "token-a"))
            var changed = gateway.server("echo")
            changed.inboundTokens.reverse()
            try await gateway.apply([changed], ["echo": .tuned])
            for (session, token, status) in [
                (a, "token-a", 200), (b, "token-b", 200), (a, "token-b", 404), (b, "token-a", 404),
            ] {
                let answer = try await gateway.post(Message.call(), fields: SessionTests.fields(session, token: token))
                #expect(answer.status == status, "\(token)")
            }
            #expect(listener.inbox.now.ending == nil && gateway.gateway.sessions.count == 2)
            listener.close()
        }
    }

    @Test("A token that is revoked ends its fifty streams without waiting for calls, and none of anybody else")
    func revoked() async throws {
        try await Self.serving(tokens: ["token-a", "token-b"], threads: 2) { gateway, held in
            let (a, b) = (SessionTests.fields(nil, token: "token-a"), SessionTests.fields(nil, token: "token-b"))
            var listeners: [RawClient] = []
            for _ in 0..<50 {
                let session = try #require(try await gateway.initialize(fields: a))
                listeners.append(try await gateway.listen(in: session, fields: a))
            }
            let other = try #require(try await gateway.initialize(fields: b))
            let otherListener = try await gateway.listen(in: other, fields: b)
            let busy = try #require(try await gateway.initialize(fields: a))
            let caller = try await gateway.connect()
            caller.send(TestGateway.post(Message.call("hold"), fields: a + SessionTests.fields(busy)))
            let turn = try await held.wait("a call that is held") { $0.first }
            var changed = gateway.server("echo")
            changed.inboundTokens = [Secret("token-b")]
            // Longer than the test may take.
            try await gateway.apply([changed], ["echo": .tuned], drainTime: .seconds(600))
            expect(try await gateway.post(Message.call(), fields: a + SessionTests.fields(busy)).status, is: 401)
            for listener in listeners { try await listener.read(until: "0\r\n\r\n") }
            #expect(otherListener.inbox.now.ending == nil)
            expect(try await gateway.post(Message.call(), fields: b + SessionTests.fields(other)).status, is: 200)
            // What it asked before is answered.
            turn.result()
            expect(try await caller.answer().status, is: 200)
            try await gateway.metric(#"mcp_proxy_sessions{server="echo"}"#, is: "1")
            for client in listeners + [otherListener, caller] { client.close() }
        }
    }

    @Test("The first token of an endpoint ends the sessions that had none")
    func firstToken() async throws {
        try await Self.serving { gateway, _ in
            let session = try #require(try await gateway.initialize())
            let listener = try await gateway.listen(in: session)
            var changed = gateway.server("echo")
            changed.inboundTokens = [Secret("token-a")]
            try await gateway.apply([changed], ["echo": .tuned])
            try await listener.read(until: "0\r\n\r\n")
            try await gateway.metric(#"mcp_proxy_sessions{server="echo"}"#, is: "0")
            let fields = SessionTests.fields(session, token: "token-a")
            expect(try await gateway.post(Message.call(), fields: fields).status, is: 404)
            listener.close()
        }
    }

    @Test("A server that is replaced twice and then removed leaves neither of its old units")
    func twiceReplaced() async throws {
        try await Self.serving { gateway, _ in
            for round in 1...3 {
                _ = try await gateway.initialize()
                let servers = round < 3 ? [gateway.server("echo")] : []
                try await gateway.apply(servers, ["echo": .replaced])
                if round < 3 { #expect(gateway.gateway.registry.everyUpstream.count == round + 1) }
            }
            try await gateway.hasDrained()
            #expect(gateway.gateway.registry.everyUpstream.isEmpty && gateway.gateway.sessions.count == 0)
        }
    }

    @Test("A configuration that cannot be built changes nothing: neither table nor unit nor figure")
    func notBuilt() async throws {
        try await Self.serving { gateway, _ in
            let session = try #require(try await gateway.initialize())
            let unit = gateway.echo.id
            var twin = gateway.server("twin")
            twin.route = "echo"
            await #expect(throws: RouteTable.Collision.self) {
                try await gateway.apply([gateway.server("echo"), twin], ["echo": .replaced])
            }
            #expect(gateway.echo.id == unit && gateway.gateway.registry.everyUpstream.count == 1)
            expect(try await gateway.post(Message.call(), fields: SessionTests.fields(session)).status, is: 200)
            let text = try await gateway.metrics()
            #expect(text.contains(#"server="echo""#) && !text.contains("twin"))
        }
    }

    @Test("Changes at the same time come one after the other, and every event loop goes by the last")
    func together() async throws {
        try await Self.serving(threads: 2) { gateway, _ in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<20 {
                    let guest = gateway.server("guest-\(number)")
                    group.addTask {
                        try await gateway.apply([gateway.server("echo"), guest], ["echo": .same], drainTime: .zero)
                    }
                }
                try await group.waitForAll()
            }
            let guest = try #require(gateway.gateway.endpoints.all.last?.name)
            let runtime = gateway.gateway
            for loop in gateway.loops {
                let names = try await loop.eventLoop.submit { runtime.endpoints(on: loop)?.all.map(\.name) ?? [] }.get()
                #expect(names == ["echo", guest])
            }
            try await gateway.hasDrained()
            #expect(gateway.gateway.registry.everyUpstream.count == 2)
        }
    }

    @Test("Of a server that came later nobody hears a first verdict, which could end the process")
    func noVerdict() async throws {
        try await Self.serving { gateway, _ in
            try await gateway.verdicts.wait("the verdict on echo") { $0.isEmpty ? nil : () }
            // Nobody listens there.
            let late = gateway.server("late", at: 1)
            try await gateway.apply([gateway.server("echo"), late], ["echo": .same])
            for _ in 0..<1_000 where gateway.gateway.upstreams[1].currentVerdict == .none {
                // Nobody says when it was looked at.
                try await Task.sleep(for: .milliseconds(10))
            }
            #expect(gateway.gateway.upstreams[1].currentVerdict == .unreachable)
            #expect(gateway.verdicts.now == ["echo"])
        }
    }

    @Test("Nothing comes to a gateway that has stopped")
    func stopped() async throws {
        try await Self.serving { gateway, _ in
            await gateway.gateway.close(within: .milliseconds(100))
            await #expect(throws: CancellationError.self) {
                try await gateway.apply([gateway.server("echo"), gateway.server("late")], ["echo": .same])
            }
            #expect(gateway.gateway.registry.everyUpstream.map(\.name) == ["echo"])
        }
    }

    @Test("A shared session that is closed while it opens tells its callers, and ends what the server opened")
    func sharedOpening() async throws {
        let held = Held([])
        let isHeld = Inbox(false)
        try await withGateway {
            $0.isRunning = true
            $0.upstream.isolation = .shared
        } script: { turn in
            if turn.request.method == "initialize", isHeld.now {
                held.change { $0.append(turn) }
            } else {
                turn.behave(session: "of-a-look")
            }
        } _: { gateway in
            // From then on only callers have a session opened.
            try await gateway.verdicts.wait("the verdict on echo") { $0.isEmpty ? nil : () }
            isHeld.change { $0 = true }
            let caller = try await gateway.connect()
            caller.send(TestGateway.post(Message.initialize))
            let turn = try await held.wait("the opening of the session") { $0.first }
            try await gateway.apply([], drainTime: .milliseconds(50))
            expect(try await caller.answer().reason, is: "upstream_closed")
            try await gateway.hasDrained()
            turn.behave(session: "late")
            try await gateway.upstream.requests(1) { $0.httpMethod == "DELETE" && $0["mcp-session-id"] == "late" }
            caller.close()
        }
    }

    @Test("Eighty changes leave no unit, no session, no connection and no figure behind")
    func eighty() async throws {
        let other = try await ScriptedUpstream.start { $0.behave(session: "o") }
        weak var first: Upstream?
        try await Self.serving { gateway, _ in
            first = gateway.echo
            _ = try await gateway.initialize()
            let lines = try await gateway.metrics().split(separator: "\n").count
            for round in 0..<80 {
                let echo = gateway.server("echo", at: round % 2 == 0 ? other.port : nil)
                let servers = round % 4 == 0 ? [echo, gateway.server("guest-\(round)")] : [echo]
                try await gateway.apply(servers, ["echo": .replaced], drainTime: .milliseconds(100))
                let session = try #require(try await gateway.initialize())
                let answer = try await gateway.post(Message.call(), fields: SessionTests.fields(session))
                #expect(answer.status == 200)
            }
            try await gateway.apply([gateway.server("echo")], ["echo": .replaced], drainTime: .zero)
            try await gateway.hasDrained()
            #expect(first == nil, "a unit that is gone is forgotten by everybody")
            #expect(gateway.gateway.sessions.count == 0)
            let held = gateway.gateway.held
            #expect(held.exchanges == 0 && held.queued == 0 && held.upstreamConnections == 0)
            let text = try await gateway.metrics()
            #expect(!text.contains("guest-"))
            #expect(text.split(separator: "\n").count <= lines + 20, "figures of other methods and outcomes")
        }
        await other.stop()
    }
}
