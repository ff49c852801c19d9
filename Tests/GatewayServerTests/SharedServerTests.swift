// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayRuntime
import GatewayTesting
import NIOCore
import Testing

@Suite("A server that callers share", .timeLimit(.minutes(1))) struct SharedServerTests {
    enum Server: String, CaseIterable, Sendable { case http, events, program }

    /// What a test can do at a server, whatever kind it is.
    struct Hands: Sendable {
        /// Says something beside every call.
        let say: @Sendable (String) async throws -> Void
        /// Says something in the call that a test took.
        let calls: Inbox<[HeldCall]>
        /// The messages that it got, as text.
        let heard: Inbox<[String]>

        /// A call that waits for the test.
        func call(_ name: String) async throws -> HeldCall {
            try await self.calls.wait("the call \(name)", seconds: 10) { calls in
                calls.firstIndex { $0.text.contains(name) }.map { calls.remove(at: $0) }
            }
        }

        func hears(_ text: String) async throws -> String {
            try await self.heard.wait(text, seconds: 10) { heard in heard.first { $0.contains(text) } }
        }
    }

    struct HeldCall: Sendable {
        let text: String
        let id: String
        let say: @Sendable (String) -> Void
        let answer: @Sendable () -> Void
    }

    /// Calls whose names begin with `hold` wait for the test.
    static func serving(
        _ server: Server,
        threads: Int = 1,
        _ body: (TestGateway, Hands) async throws -> Void
    ) async throws {
        let streams = Inbox<[UpstreamTurn]>([])
        let children = Inbox<[ChildTurn]>([])
        let hands = Hands(
            say: { text in
                if server == .program {
                    try await children.wait("a child") { $0.last }.say(text)
                } else {
                    try await streams.wait("a stream") { $0.last }.event(text)
                }
            },
            calls: Inbox([]),
            heard: Inbox([])
        )
        let program = ScriptedProgram { turn in
            hands.heard.change { $0.append(turn.line) }
            if turn.method == "initialize" { children.change { $0.append(turn) } }
            guard turn.line.contains(#""name":"hold"#) else { return turn.behave() }
            let held = HeldCall(text: turn.line, id: turn.id, say: { turn.say($0) }, answer: { turn.result() })
            hands.calls.change { $0.append(held) }
        }
        try await withGateway {
            $0.threads = threads
            $0.upstream.isolation = .shared
            if server == .events { $0.kind = .sse }
            if server == .program { $0.program = program }
        } script: { turn in
            if turn.request.httpMethod == "GET" {
                turn.beginEvents()
                streams.change { $0.append(turn) }
                if server == .events { turn.chunk("event: endpoint\ndata: /post\n\n") }
                return
            }
            hands.heard.change { $0.append(turn.request.text) }
            if turn.request.text.contains(#""name":"hold"#) {
                let held: HeldCall
                if server == .events {
                    turn.answer(202, "", type: nil)
                    let stream = streams.now.last
                    held = HeldCall(
                        text: turn.request.text,
                        id: turn.request.id,
                        say: { stream?.event($0) },
                        answer: { stream?.event(turn.resultText()) }
                    )
                } else {
                    turn.beginEvents()
                    held = HeldCall(
                        text: turn.request.text,
                        id: turn.request.id,
                        say: { turn.event($0) },
                        answer: {
                            turn.event(turn.resultText())
                            turn.endChunks()
                        }
                    )
                }
                return hands.calls.change { $0.append(held) }
            }
            guard server == .events else { return turn.behave(session: "s") }
            turn.answer(202, "", type: nil)
            guard turn.request.json["id"] != nil, !turn.request.method.isEmpty else { return }
            let result =
                #"{"protocolVersion":"2024-11-05","capabilities":{},"serverInfo":{"name":"u","version":"1"}}"#
            streams.now.last?.event(turn.resultText(turn.request.method == "initialize" ? result : "{}"))
        } _: { gateway in
            try await body(gateway, hands)
        }
    }

    static func open(_ gateway: TestGateway, capabilities: String = "{}") async throws -> [String] {
        let message = Message.initialize.replacing(#""capabilities":{}"#, with: #""capabilities":\#(capabilities)"#)
        return SessionTests.fields(try await gateway.post(message)["mcp-session-id"])
    }

    static func listen(_ gateway: TestGateway, _ fields: [String]) async throws -> RawClient {
        let client = try await gateway.connect()
        let more = fields.map { "\($0)\r\n" }.joined()
        client.send("GET /echo/mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\(more)\r\n")
        try await client.read(until: "\r\n\r\n")
        return client
    }

    static func call(_ gateway: TestGateway, _ fields: [String], _ name: String, id: String) async throws -> RawClient {
        let client = try await gateway.connect()
        client.send(TestGateway.post(Message.call(name, id: id), fields: fields))
        return client
    }

    static let question = #"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}"#

    // MARK: Calls

    @Test("Equal ids of two callers are two calls, each answered to its own", arguments: Server.allCases, [1, 2])
    func ids(server: Server, threads: Int) async throws {
        try await Self.serving(server, threads: threads) { gateway, hands in
            var clients: [RawClient] = []
            for name in ["hold-a", "hold-b"] {
                let fields = try await Self.open(gateway)
                clients.append(try await Self.call(gateway, fields, name, id: "1"))
            }
            let (first, second) = (try await hands.call("hold-a"), try await hands.call("hold-b"))
            #expect(first.id != second.id)
            second.say(#"{"jsonrpc":"2.0","id":\#(second.id),"result":{"of":"b"}}"#)
            first.say(#"{"jsonrpc":"2.0","id":\#(first.id),"result":{"of":"a"}}"#)
            for (client, name) in zip(clients, ["a", "b"]) {
                try await client.read(until: #""id":1,"result":{"of":"\#(name)"}"#)
                client.close()
            }
        }
    }

    @Test(
        "A caller takes back its own call, by the id that the server knows, and never another's",
        arguments: Server.allCases
    )
    func cancels(server: Server) async throws {
        try await Self.serving(server) { gateway, hands in
            var clients: [RawClient] = []
            var sessions: [[String]] = []
            for name in ["hold-a", "hold-b"] {
                sessions.append(try await Self.open(gateway))
                clients.append(try await Self.call(gateway, sessions[sessions.count - 1], name, id: "5"))
            }
            let (first, second) = (try await hands.call("hold-a"), try await hands.call("hold-b"))
            let cancel = #"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#
            expect(try await gateway.post(cancel, fields: sessions[0]).status, is: 202)
            let told = try await hands.hears("notifications/cancelled")
            #expect(told.contains(#""requestId":\#(first.id)"#), "\(told)")
            second.answer()
            try await clients[1].read(until: #""id":5,"result""#)
            for client in clients { client.close() }
        }
    }

    // MARK: Questions

    @Test("A question goes to the only caller that has a call, and its answer back", arguments: Server.allCases)
    func asksOne(server: Server) async throws {
        try await Self.serving(server) { gateway, hands in
            let fields = try await Self.open(gateway, capabilities: #"{"elicitation":{}}"#)
            let idle = try await Self.open(gateway, capabilities: #"{"elicitation":{}}"#)
            let listener = try await Self.listen(gateway, idle)
            let client = try await Self.call(gateway, fields, "hold", id: "1")
            let call = try await hands.call("hold")
            call.say(Self.question)
            let text = try await client.read(until: "elicitation/create")
            let id = String(try #require(text.firstMatch(of: /"id":([^,]+),"method":"elicitation/)?.output.1))
            // Who was not asked has nothing to say.
            let lie = #"{"jsonrpc":"2.0","id":\#(id),"error":{"code":1,"message":"not yours"}}"#
            expect(try await gateway.post(lie, fields: idle).status, is: 202)
            let answer = #"{"jsonrpc":"2.0","id":\#(id),"result":{"action":"accept"}}"#
            expect(try await gateway.post(answer, fields: fields).status, is: 202)
            let heard = try await hands.hears("accept")
            #expect(heard.contains(#""id":"q""#))
            call.answer()
            try await client.read(until: #""id":1,"result""#)
            #expect(!hands.heard.now.contains { $0.contains("not yours") })
            #expect(!listener.inbox.now.text.contains("elicitation"))
            client.close()
            listener.close()
        }
    }

    @Test(
        "A question that nobody can answer, or that could be anyone's, is refused",
        arguments: Server.allCases,
        [1, 2]
    )
    func asksNobody(server: Server, callers: Int) async throws {
        try await Self.serving(server) { gateway, hands in
            let capabilities = callers == 1 ? "{}" : #"{"elicitation":{}}"#
            var clients: [RawClient] = []
            for number in 0..<callers {
                let fields = try await Self.open(gateway, capabilities: capabilities)
                clients.append(try await Self.call(gateway, fields, "hold-\(number)", id: "1"))
            }
            var calls: [HeldCall] = []
            for number in 0..<callers { calls.append(try await hands.call("hold-\(number)")) }
            // Along the stream of one call it would be for that caller.
            if server == .http, callers > 1 { try await hands.say(Self.question) } else { calls[0].say(Self.question) }
            let refused = try await hands.hears("-32601")
            #expect(refused.contains(#""id":"q""#))
            for call in calls { call.answer() }
            for client in clients {
                let text = try await client.read(until: #""id":1,"result""#)
                #expect(!text.contains("elicitation"))
                client.close()
            }
        }
    }

    // MARK: News

    @Test("A list that changed is told to everybody who listens, whatever its transport", arguments: Server.allCases)
    func everybody(server: Server) async throws {
        try await Self.serving(server) { gateway, hands in
            var listeners: [RawClient] = []
            for _ in 0..<2 { listeners.append(try await Self.listen(gateway, try await Self.open(gateway))) }
            let (legacy, place) = try await SSECallerTests.open(gateway)
            expect(try await gateway.post(Message.initialize, to: place).status, is: 202)
            try await legacy.read(until: #""id":0,"result""#)
            listeners.append(legacy)
            // Nobody gets what the protocol does not know.
            try await hands.say(#"{"jsonrpc":"2.0","method":"notifications/private","params":{"secret":"x"}}"#)
            try await hands.say(ListenTests.changed)
            for client in listeners {
                let text = try await client.read(until: ListenTests.changed)
                #expect(!text.contains("private"))
                client.close()
            }
        }
    }

    @Test(
        "An update of a resource is told to its subscribers, until nobody wants it any more",
        arguments: Server.allCases
    )
    func updates(server: Server) async throws {
        func message(_ method: String, _ uri: String) -> String {
            #"{"jsonrpc":"2.0","id":50,"method":"\#(method)","params":{"uri":"\#(uri)"}}"#
        }
        func update(_ uri: String) -> String {
            #"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"\#(uri)"}}"#
        }
        try await Self.serving(server) { gateway, hands in
            let (one, other) = (try await Self.open(gateway), try await Self.open(gateway))
            let (here, there) = (try await Self.listen(gateway, one), try await Self.listen(gateway, other))
            for (fields, uri) in [(one, "memo://a"), (other, "memo://a"), (other, "memo://b")] {
                let answer = try await gateway.post(message("resources/subscribe", uri), fields: fields)
                #expect(answer.json["result"] != nil, "\(answer.text)")
            }
            for uri in ["memo://a", "memo://b", "memo://c"] { try await hands.say(update(uri)) }
            try await hands.say(ListenTests.changed)
            let heard = [
                try await here.read(until: ListenTests.changed), try await there.read(until: ListenTests.changed),
            ]
            #expect(heard[0].contains("memo://a") && !heard[0].contains("memo://b"))
            #expect(heard[1].contains("memo://a") && heard[1].contains("memo://b"))
            #expect(!heard.joined().contains("memo://c"))
            _ = try await gateway.post(message("resources/unsubscribe", "memo://a"), fields: one)
            #expect(!hands.heard.now.contains { $0.contains("resources/unsubscribe") }, "the other still wants it")
            expect(try await gateway.request("DELETE /echo/mcp", fields: other).status, is: 204)
            _ = try await hands.hears("resources/unsubscribe")
            here.close()
            there.close()
        }
    }

    @Test(
        "What the server logs goes to the only caller that has a call, if its level admits it",
        arguments: Server.allCases
    )
    func logs(server: Server) async throws {
        try await Self.serving(server) { gateway, hands in
            let fields = try await Self.open(gateway)
            let level = #"{"jsonrpc":"2.0","id":9,"method":"logging/setLevel","params":{"level":"error"}}"#
            expect(try await gateway.post(level, fields: fields).status, is: 200)
            let client = try await Self.call(gateway, fields, "hold", id: "1")
            let call = try await hands.call("hold")
            for level in ["debug", "error"] {
                call.say(
                    #"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"\#(level)","data":"of-\#(level)"}}"#
                )
            }
            call.answer()
            let text = try await client.read(until: #""id":1,"result""#)
            #expect(text.contains("of-error") && !text.contains("of-debug"), "\(text)")
            client.close()
        }
    }
}
