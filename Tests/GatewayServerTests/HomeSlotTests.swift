// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewayRuntime
import GatewayTesting
import NIOCore
import Testing

@Suite("A session at a server with several tokens", .timeLimit(.minutes(1))) struct HomeSlotTests {
    /// A server whose sessions belong to tokens, and whose tokens can be refused.
    final class Server: Sendable {
        struct State: Sendable {
            var refused: Set<String> = []
            /// The open streams of GETs, by the token that they came with.
            var streams: [(token: String, turn: UpstreamTurn)] = []
            /// The tools of each token, as JSON.
            var tools: [String: String] = [:]
            /// Calls of `ask` that wait for the test.
            var asking: [(token: String, turn: UpstreamTurn)] = []
        }

        let state = Inbox(State())

        static func token(of request: ArrivedRequest) -> String {
            String((request["authorization"] ?? "").dropFirst("Bearer ".count))
        }

        func refuse(_ token: String) { self.state.change { $0.refused.insert(token) } }

        /// The stream that was opened last with a token.
        func stream(of token: String) async throws -> UpstreamTurn {
            try await self.state.wait("a stream of \(token)", seconds: 10) { state in
                state.streams.last { $0.token == token }?.turn
            }
        }

        func answer(_ turn: UpstreamTurn) {
            let token = Self.token(of: turn.request)
            guard !self.state.now.refused.contains(token) else {
                return turn.answer(401, "", type: nil, fields: ["WWW-Authenticate: Bearer"])
            }
            switch (turn.request.httpMethod, turn.request.method) {
            case ("POST", "initialize"):
                turn.behave(session: "of-\(token)")
            case (_, _) where turn.request["mcp-session-id"] != "of-\(token)":
                turn.answer(404, "", type: nil)
            case ("GET", _):
                turn.beginEvents()
                self.state.change { $0.streams.append((token, turn)) }
            case (_, "tools/list"):
                turn.result(#"{"tools":\#(self.state.now.tools[token] ?? "[]")}"#)
            case (_, "tools/call") where turn.request.text.contains("ask"):
                turn.beginEvents()
                turn.event(#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{}}"#)
                self.state.change { $0.asking.append((token, turn)) }
            default:
                turn.behave()
            }
        }
    }

    static func serving(
        _ mode: CredentialPool.Mode,
        isolation: UpstreamConfiguration.Isolation = .session,
        threads: Int = 1,
        _ body: (TestGateway, Server) async throws -> Void
    ) async throws {
        let server = Server()
        try await withGateway {
            $0.threads = threads
            $0.upstream.isolation = isolation
            $0.credentials = CredentialPoolConfiguration(
                tokens: [Secret("one"), Secret("two"), Secret("three")],
                mode: mode,
                attemptLimit: 3,
                retryOn: [401, 403],
                affinity: .request
            )
        } script: {
            server.answer($0)
        } _: { gateway in
            try await body(gateway, server)
        }
    }

    /// Which tokens the requests of a method came with, in their order.
    static func tokens(_ gateway: TestGateway, _ method: String) -> [String] {
        gateway.upstream.requests.filter { $0.method == method || $0.httpMethod == method }.map(Server.token)
    }

    static let subscribe = #"{"jsonrpc":"2.0","id":8,"method":"resources/subscribe","params":{"uri":"memo://a"}}"#
    static let level = #"{"jsonrpc":"2.0","id":9,"method":"logging/setLevel","params":{"level":"warning"}}"#

    @Test("What belongs to the session goes home, and calls take turns in the sessions of their tokens")
    func home() async throws {
        try await Self.serving(.roundRobin) { gateway, server in
            let session = try await gateway.initialize()
            let fields = SessionTests.fields(session)
            let client = try await gateway.listen(in: try #require(session))
            _ = try await server.stream(of: "one")
            for message in [Self.subscribe, Self.level, Message.ping] {
                expect(try await gateway.post(message, fields: fields).status, is: 200)
            }
            for _ in 0..<6 { expect(try await gateway.post(Message.call(), fields: fields).status, is: 200) }
            #expect(Set(Self.tokens(gateway, "tools/call")) == ["one", "two", "three"])
            for method in ["resources/subscribe", "logging/setLevel", "ping"] {
                #expect(Self.tokens(gateway, method) == ["one"])
            }
            // Each of them asks where it is at work.
            for token in ["two", "three"] { _ = try await server.stream(of: token) }
            expect(try await gateway.request("DELETE /echo/mcp", fields: fields).status, is: 204)
            try await gateway.upstream.requests(3) { $0.httpMethod == "DELETE" }
            #expect(Set(Self.tokens(gateway, "DELETE")) == ["one", "two", "three"])
            client.close()
        }
    }

    @Test(
        "When home is refused the next token becomes it, with the stream, subscriptions and the level",
        arguments: [1, 2]
    )
    func moves(threads: Int) async throws {
        try await Self.serving(.onFirstFailed, threads: threads) { gateway, server in
            server.state.change { $0.tools["two"] = #"[{"name":"more","inputSchema":{"type":"object"}}]"# }
            let session = try await gateway.initialize()
            let fields = SessionTests.fields(session)
            let client = try await gateway.listen(in: try #require(session))
            let first = try await server.stream(of: "one")
            first.event(ListenTests.changed)
            try await client.read(until: ListenTests.changed)
            for message in [Self.subscribe, Self.level, Message.list] {
                expect(try await gateway.post(message, fields: fields).status, is: 200)
            }
            server.refuse("one")
            expect(try await gateway.post(Message.call(), fields: fields).status, is: 200)
            let second = try await server.stream(of: "two")
            #expect(second.request["last-event-id"] == nil)
            for method in ["resources/subscribe", "logging/setLevel"] {
                let again = try await gateway.upstream.requests(1) {
                    $0.method == method && Server.token(of: $0) == "two"
                }
                #expect(again[0].text.contains(method == "logging/setLevel" ? "warning" : "memo://a"))
            }
            // Its tools are others, of which the caller hears where it listens.
            try await client.read(until: "notifications/tools/list_changed")
            second.event(
                #"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"mark"}}"#
            )
            try await client.read(until: "mark")
            #expect(client.inbox.now.ending == nil)
            client.close()
        }
    }

    @Test(
        "A stream alone finds a new home when it is refused",
        arguments: [CredentialPool.Mode.onFirstFailed, .roundRobin]
    )
    func alone(mode: CredentialPool.Mode) async throws {
        try await Self.serving(mode) { gateway, server in
            let session = try await gateway.initialize()
            let client = try await gateway.listen(in: try #require(session))
            let first = try await server.stream(of: "one")
            server.refuse("one")
            first.chunk("retry: 10\n\n")
            first.endChunks()
            let second = try await server.stream(of: "two")
            second.event(ListenTests.changed)
            try await client.read(until: ListenTests.changed)
            client.close()
        }
    }

    @Test("Two tokens that ask under the same id each get their own answer")
    func questions() async throws {
        try await Self.serving(.roundRobin) { gateway, server in
            let opened = try await gateway.post(SuccessionTests.initialize)
            let fields = SessionTests.fields(opened["mcp-session-id"])
            var asked: [(RawClient, String)] = []
            for id in ["71", "72"] {
                let client = try await gateway.connect()
                client.send(TestGateway.post(Message.call("ask", id: id), fields: fields))
                let text = try await client.read(until: "elicitation/create")
                let question = try #require(text.firstMatch(of: /"id":([^,]+),"method":"elicitation/)?.output.1)
                asked.append((client, String(question)))
            }
            #expect(asked[0].1 != asked[1].1)
            for (number, (_, id)) in asked.enumerated() {
                let answer = #"{"jsonrpc":"2.0","id":\#(id),"result":{"action":"accept","content":{"n":\#(number)}}}"#
                expect(try await gateway.post(answer, fields: fields).status, is: 202)
            }
            let answers = try await gateway.upstream.requests(2) { $0.text.contains("accept") }
            let tokens = server.state.now.asking.map(\.token)
            #expect(answers.map(Server.token) == tokens)
            #expect(answers.allSatisfy { $0.id == "7" })
            for ((client, _), asking) in zip(asked, server.state.now.asking) {
                asking.turn.event(asking.turn.resultText())
                asking.turn.endChunks()
                try await client.read(until: "\r\n0\r\n\r\n")
                client.close()
            }
        }
    }

    @Test("Callers who share a session share its homes: calls go on with the next token", arguments: [1, 2])
    func shared(threads: Int) async throws {
        try await Self.serving(.onFirstFailed, isolation: .shared, threads: threads) { gateway, server in
            var sessions: [[String]] = []
            for _ in 0..<2 { sessions.append(SessionTests.fields(try await gateway.initialize())) }
            for fields in sessions {
                for message in [Self.subscribe, Message.call()] {
                    expect(try await gateway.post(message, fields: fields).status, is: 200)
                }
            }
            let client = try await gateway.connect()
            client.send(
                "GET /echo/mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\(sessions[0][0])\r\n\r\n"
            )
            try await client.read(until: "\r\n\r\n")
            server.refuse("one")
            for fields in sessions { expect(try await gateway.post(Message.call(), fields: fields).status, is: 200) }
            let stream = try await server.stream(of: "two")
            try await gateway.upstream.requests(1) {
                $0.method == "resources/subscribe" && Server.token(of: $0) == "two"
            }
            stream.event(#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"memo://a"}}"#)
            try await client.read(until: "notifications/resources/updated")
            client.close()
        }
    }

    @Test("Where every token is refused a call is told so, and how often it was tried")
    func exhausted() async throws {
        try await Self.serving(.onFirstFailed) { gateway, server in
            let fields = SessionTests.fields(try await gateway.initialize())
            for token in ["one", "two", "three"] { server.refuse(token) }
            let answer = try await gateway.post(Message.call(), fields: fields)
            #expect(
                answer.reason == "credentials_exhausted" || answer.reason == "credential_rejected",
                "\(answer.text)"
            )
            #expect(answer.executed == "no")
            #expect(Self.tokens(gateway, "tools/call").count <= 3)
        }
    }
}
