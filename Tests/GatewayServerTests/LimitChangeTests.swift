// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayRuntime
import GatewayTesting
import GatewayWire
import Testing

@Suite("Other limits while the gateway serves", .timeLimit(.minutes(5))) struct LimitChangeTests {
    /// Goes by other limits from now on, with the server as it is.
    private static func tune(_ gateway: TestGateway, _ change: (inout Limits) -> Void) async throws {
        var limits = gateway.gateway.listener.limits
        change(&limits)
        let applied = try await gateway.apply([gateway.server("echo")], ["echo": .same], limits: limits)
        #expect(applied.same == ["echo"])
    }

    @Test("What a message may be counts from the next one on, also on a connection that is there", arguments: [1, 4])
    func messages(threads: Int) async throws {
        try await withGateway {
            $0.threads = threads
        } _: { gateway in
            let client = try await gateway.connect()
            defer { client.close() }
            let nested = Message.call(arguments: #"{"x":[[[[[[[[]]]]]]]]}"#)
            for (depth, status) in [(64, 200), (8, 400), (64, 200)] {
                try await Self.tune(gateway) { $0.jsonDepth = depth }
                expect(try await client.exchange(TestGateway.post(nested)).status, is: status)
                expect(try await gateway.post(nested).status, is: status)
            }
        }
    }

    @Test("What a connection may do counts for those that are accepted from then on")
    func connections() async throws {
        try await withGateway { gateway in
            let before = try await gateway.connect()
            defer { before.close() }
            let large = Message.call(arguments: #"{"x":"\#(String(repeating: "x", count: 1000))"}"#)
            expect(try await before.exchange(TestGateway.post(large)).status, is: 200)
            try await Self.tune(gateway) {
                $0.bodyBytes = 100
                $0.requestsPerConnection = 1
            }
            expect(try await before.exchange(TestGateway.post(large)).status, is: 200)
            expect(try await before.exchange(TestGateway.post(large)).status, is: 200)
            expect(try await gateway.post(large).status, is: 413)
            let after = try await gateway.connect()
            defer { after.close() }
            expect(try await after.exchange(ConnectionTests.health)["connection"], is: "close")
            try await Self.tune(gateway) {
                $0.bodyBytes = 10_000
                $0.requestsPerConnection = 10
            }
            expect(try await gateway.post(large).status, is: 200)
        }
    }

    @Test("Connections from one address are counted before there is a bound, and nobody who is there has to go")
    func perAddress() async throws {
        try await withGateway { gateway in
            let held = [try await gateway.connect(), try await gateway.connect()]
            for client in held { expect(try await client.exchange(ConnectionTests.health).status, is: 200) }
            try await Self.tune(gateway) { $0.connectionsPerAddress = 2 }
            for client in held { expect(try await client.exchange(ConnectionTests.health).status, is: 200) }
            let more = try await gateway.connect()
            more.send(ConnectionTests.health)
            expect(try await more.answer().status, is: 503)
            try await Self.tune(gateway) { $0.connectionsPerAddress = nil }
            expect(try await gateway.request("GET /_healthz").status, is: 200)
            for client in held + [more] { client.close() }
        }
    }

    @Test("The number of connections is what it was at the start")
    func ofStart() async throws {
        try await withGateway { gateway in
            let before = gateway.gateway.listener.limits.connections
            try await Self.tune(gateway) { $0.connections = 1 }
            #expect(gateway.gateway.listener.limits.connections == before)
            let held = [try await gateway.connect(), try await gateway.connect()]
            for client in held { expect(try await client.exchange(ConnectionTests.health).status, is: 200) }
            for client in held { client.close() }
        }
    }

    @Test("The place that a call leaves, or that there is more, is taken by one that waits")
    func places() async throws {
        let held = EndpointChangeTests.Held([])
        try await withGateway {
            $0.limits.inFlightPerUpstream = 1
            $0.limits.queueWait = .seconds(60)
        } script: {
            EndpointChangeTests.script(held)($0)
        } _: { gateway in
            let callers = [try await gateway.connect(), try await gateway.connect()]
            callers[0].send(TestGateway.post(Message.call("hold")))
            let first = try await held.wait("a call that is held") { $0.first }
            callers[1].send(TestGateway.post(Message.call("hold")))
            while gateway.gateway.held.queued == 0 { try await Task.sleep(for: .milliseconds(5)) }
            try await Self.tune(gateway) { $0.inFlightPerUpstream = 2 }
            let second = try await held.wait("the one that waited") { $0.count == 2 ? $0.last : nil }
            try await Self.tune(gateway) {
                $0.inFlightPerUpstream = 1
                $0.queuePerUpstream = 0
            }
            expect(try await gateway.post(Message.call()).reason, is: "overloaded")
            for turn in [first, second] { turn.result() }
            for caller in callers {
                expect(try await caller.answer().status, is: 200)
                caller.close()
            }
        }
    }

    @Test("Calls over all servers are counted by the limit of now")
    func inFlight() async throws {
        let held = EndpointChangeTests.Held([])
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { EndpointChangeTests.script(held)($0) }) { gateway in
            let caller = try await gateway.connect()
            caller.send(TestGateway.post(Message.call("hold")))
            let turn = try await held.wait("a call that is held") { $0.first }
            try await Self.tune(gateway) { $0.inFlight = 1 }
            expect(try await gateway.post(Message.call()).reason, is: "overloaded")
            try await Self.tune(gateway) { $0.inFlight = 2 }
            expect(try await gateway.post(Message.call()).status, is: 200)
            turn.result()
            expect(try await caller.answer().status, is: 200)
            caller.close()
        }
    }

    @Test("Fewer sessions of a token end none; the next one takes the place of another, or is refused")
    func sessions() async throws {
        try await withGateway {
            $0.upstream.inboundTokens = [Secret("token")]
        } script: { turn in
            turn.behave(session: "s\(turn.number)")
        } _: { gateway in
            let token = ["Authorization: Bearer token"]
            var open: [String] = []
            for _ in 0..<3 { open.append(try #require(try await gateway.initialize(fields: token))) }
            try await Self.tune(gateway) { $0.sessionsPerToken = 1 }
            for session in open {
                let fields = token + SessionTests.fields(session)
                expect(try await gateway.post(Message.ping, fields: fields).status, is: 200)
            }
            open.append(try #require(try await gateway.initialize(fields: token)))
            #expect(gateway.gateway.sessions.count == 3)
            let first = token + SessionTests.fields(open[0])
            expect(try await gateway.post(Message.ping, fields: first).status, is: 404)
            try await Self.tune(gateway) { $0.sessionsPerToken = 4 }
            open.append(try #require(try await gateway.initialize(fields: token)))
            #expect(gateway.gateway.sessions.count == 4)
        }
    }

    @Test("A shorter sessionIdle ends sessions that are there")
    func sessionIdle() async throws {
        try await withGateway {
            // Without the change it would be over after this time, and it is looked for every quarter of it.
            $0.limits.sessionIdle = .seconds(12)
            $0.isRunning = true
        } script: { turn in
            turn.behave(session: "s\(turn.number)")
        } _: { gateway in
            let session = try await gateway.initialize()
            expect(try await gateway.post(Message.ping, fields: SessionTests.fields(session)).status, is: 200)
            let began = ContinuousClock.now
            try await Self.tune(gateway) { $0.sessionIdle = .milliseconds(100) }
            while gateway.gateway.sessions.count > 0, ContinuousClock.now - began < .seconds(10) {
                try await Task.sleep(for: .milliseconds(10))
            }
            #expect(gateway.gateway.sessions.count == 0)
            try await gateway.metric(#"mcp_proxy_sessions{server="echo"}"#, is: "0")
        }
    }

    @Test("Fewer streams end none, and no more begin than may be now")
    func streams() async throws {
        try await EndpointChangeTests.serving { gateway, _ in
            var sessions: [String] = []
            for _ in 0..<3 { sessions.append(try #require(try await gateway.initialize())) }
            let listener = try await gateway.listen(in: sessions[0])
            try await Self.tune(gateway) { $0.streams = 1 }
            let refused = try await gateway.request(
                "GET /echo/mcp",
                fields: ["Accept: text/event-stream"] + SessionTests.fields(sessions[1])
            )
            #expect(refused.status == 503)
            #expect(listener.inbox.now.ending == nil)
            try await Self.tune(gateway) { $0.streams = 2 }
            let second = try await gateway.listen(in: sessions[2])
            #expect(gateway.gateway.streamCount == 2)
            for client in [listener, second] { client.close() }
        }
    }

    @Test("What an upstream may answer counts from the next call on")
    func answers() async throws {
        try await withGateway { _ in
        } script: { turn in
            turn.beginEvents()
            turn.event(turn.resultText(#"{"t":"\#(String(repeating: "x", count: 8_192))"}"#))
            turn.endChunks()
        } _: { gateway in
            for (bytes, isTaken) in [(16_384, true), (4_096, false), (16_384, true)] {
                try await Self.tune(gateway) { $0.eventBytes = bytes }
                let answer = try await gateway.post(Message.call())
                #expect(answer.text.contains(#""result":{"t":"x"#) == isTaken)
            }
        }
    }

    @Test("Those that serve sessions of a server that was replaced go by other limits, too")
    func leaving() async throws {
        let held = EndpointChangeTests.Held([])
        try await withGateway {
            $0.isRunning = true
        } script: {
            EndpointChangeTests.script(held)($0)
        } _: { gateway in
            let session = try #require(try await gateway.initialize())
            let fields = SessionTests.fields(session)
            try await gateway.apply([gateway.server("echo", at: 1)], ["echo": .replaced])
            var limits = gateway.gateway.listener.limits
            (limits.inFlightPerUpstream, limits.queuePerUpstream) = (1, 0)
            try await gateway.apply([gateway.server("echo", at: 1)], ["echo": .same], limits: limits)
            let caller = try await gateway.connect()
            caller.send(TestGateway.post(Message.call("hold"), fields: fields))
            let turn = try await held.wait("a call that is held") { $0.first }
            expect(try await gateway.post(Message.call(), fields: fields).reason, is: "overloaded")
            turn.result()
            expect(try await caller.answer().status, is: 200)
            caller.close()
        }
    }
}
