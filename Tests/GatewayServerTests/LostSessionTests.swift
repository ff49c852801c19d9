// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewayRuntime
import GatewayServer
import GatewayTesting
import GatewayWire
import NIOCore
import Synchronization
import Testing

@Suite("A session that the upstream does not know any more", .timeLimit(.minutes(1))) struct LostSessionTests {
    /// One way to say so, to any message with an id that is not known.
    struct Refusal: Sendable, CustomTestStringConvertible {
        var status: Int
        var body: String
        var type: String? = "application/json"

        var testDescription: String { "\(self.status) \(self.body)" }
    }

    static let refusals = [
        Refusal(status: 404, body: "", type: nil),
        Refusal(status: 400, body: "Bad Request: No valid session ID provided", type: "text/plain"),
        Refusal(status: 400, body: "what?", type: "text/plain"), Refusal(status: 400, body: "", type: nil),
        Refusal(status: 400, body: #"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request"}}"#),
        Refusal(
            status: 400,
            body: #"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"no valid session"}}"#
        ),
        Refusal(status: 400, body: #"{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":"not initialized"}}"#),
        Refusal(status: 404, body: #"{"jsonrpc":"2.0","id":ID,"error":{"code":-32001,"message":"gone"}}"#),
        Refusal(status: 404, body: #"{"jsonrpc":"2.0","id":ID,"error":{"code":-32600,"message":"no such session"}}"#),
        Refusal(status: 400, body: #"{"jsonrpc":"2.0","id":ID,"error":{"code":-32600,"message":"no such session"}}"#),
        Refusal(status: 401, body: "", type: nil), Refusal(status: 401, body: "no such session", type: "text/plain"),
        Refusal(status: 410, body: "", type: nil), Refusal(status: 422, body: #"{"detail":"unknown"}"#),
    ]

    /// An upstream with sessions that can be forgotten; it refuses some credentials, and a message in a session that it
    /// does not know in the way that it is told.
    final class Server: Sendable {
        private struct State {
            var sessions: Set<String> = []
            var count = 0
            var refusedTokens: Set<String> = []
        }

        private let state = Mutex(State())
        private let refusal: Refusal

        init(_ refusal: Refusal) { self.refusal = refusal }

        func forget() { self.state.withLock { $0.sessions = [] } }
        func refuse(_ token: String) { _ = self.state.withLock { $0.refusedTokens.insert("Bearer \(token)") } }

        func answer(_ turn: UpstreamTurn) {
            let request = turn.request
            let isRefused = self.state.withLock { $0.refusedTokens.contains(request["authorization"] ?? "") }
            if isRefused { return turn.answer(401, "", type: nil, fields: ["WWW-Authenticate: Bearer"]) }
            if request.method == "initialize" {
                let session = self.state.withLock { state in
                    state.count += 1
                    state.sessions.insert("up-\(state.count)")
                    return "up-\(state.count)"
                }
                return turn.behave(session: session)
            }
            guard let id = request["mcp-session-id"], self.state.withLock({ $0.sessions.contains(id) }) else {
                let body = self.refusal.body.replacing("ID", with: request.id)
                return turn.answer(self.refusal.status, body, type: self.refusal.type)
            }
            turn.behave()
        }
    }

    static let pool = CredentialPoolConfiguration(
        tokens: [Secret("one"), Secret("two")],
        mode: .onFirstFailed,
        attemptLimit: 2,
        retryOn: [401, 403],
        affinity: .request
    )

    static func count(_ gateway: TestGateway, _ method: String) -> Int {
        gateway.upstream.requests.count { $0.method == method }
    }

    @Test(
        "Is opened again once, with the same credential, and the messages are sent again, whatever it said",
        arguments: Self.refusals,
        [UpstreamConfiguration.Isolation.session, .shared]
    )
    func renewal(refusal: Refusal, isolation: UpstreamConfiguration.Isolation) async throws {
        let server = Server(refusal)
        try await withGateway {
            $0.upstream.isolation = isolation
            $0.credentials = Self.pool
        } script: {
            server.answer($0)
        } _: { gateway in
            let session = try #require(try await gateway.initialize())
            let fields = SessionTests.fields(session)
            expect(try await gateway.post(Message.initialized, fields: fields).status, is: 202)
            server.forget()
            let answers = try await withThrowingTaskGroup(of: RawAnswer.self) { group in
                for id in 1...8 {
                    group.addTask { try await gateway.post(Message.call(id: "\(id)"), fields: fields) }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            for answer in answers { #expect(answer.status == 200 && answer.json["result"] != nil, "\(answer.text)") }
            #expect(Self.count(gateway, "initialize") == 2)
            #expect(Self.count(gateway, "ping") <= 1)
            let tokens = Set(gateway.upstream.requests.map { $0["authorization"] })
            #expect(tokens == ["Bearer one"], "the pool has not moved")
            let metrics = try await gateway.metrics()
            #expect(metrics.contains("mcp_proxy_credential_failures{server=\"echo\",credential=\"0\"} 0\n"))
        }
    }

    @Test("A notification, and what has no pool, are no exception", arguments: Self.refusals)
    func notification(refusal: Refusal) async throws {
        let server = Server(refusal)
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { server.answer($0) }) { gateway in
            let session = try #require(try await gateway.initialize())
            server.forget()
            let progress = #"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#
            expect(try await gateway.post(progress, fields: SessionTests.fields(session)).status, is: 202)
            let sent = gateway.upstream.requests.filter { $0.method == "notifications/roots/list_changed" }
            #expect(sent.map { $0["mcp-session-id"] } == ["up-1", "up-2"])
        }
    }

    @Test("Only a refusal of the new session is the credential's: then the next one is used")
    func refusedCredential() async throws {
        let server = Server(Refusal(status: 401, body: "", type: nil))
        try await withGateway {
            $0.credentials = Self.pool
        } script: {
            server.answer($0)
        } _: { gateway in
            let session = try #require(try await gateway.initialize())
            server.refuse("one")
            for id in ["1", "2", "3"] {
                let answer = try await gateway.post(Message.call(id: id), fields: SessionTests.fields(session))
                #expect(answer.json["result"] != nil, "\(answer.text)")
            }
            let requests = gateway.upstream.requests
            let methods = requests.dropFirst().filter { $0["authorization"] == "Bearer one" }.map(\.method)
            #expect(methods == ["tools/call", "ping", "initialize"])
            #expect(requests.filter { $0.method == "tools/call" && $0["authorization"] == "Bearer two" }.count == 3)
        }
    }

    /// What is refused for itself, in a session that is there.
    static let ownRefusals = [
        Refusal(status: 400, body: "bad arguments", type: "text/plain"),
        Refusal(status: 422, body: #"{"detail":"no"}"#),
        Refusal(status: 401, body: "", type: nil),
    ]

    @Test("A message that is refused for itself is not sent again, and its session stays", arguments: Self.ownRefusals)
    func kept(refusal: Refusal) async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            guard turn.request.method == "tools/call" else { return turn.behave(session: "s") }
            turn.answer(refusal.status, refusal.body, type: refusal.type)
        }) { gateway in
            let session = try #require(try await gateway.initialize())
            for id in ["1", "2"] {
                let answer = try await gateway.post(Message.call(id: id), fields: SessionTests.fields(session))
                #expect(answer.reason == (refusal.status == 401 ? "credential_rejected" : "upstream_status"))
                #expect(answer.data["status"] as? Int == refusal.status)
            }
            #expect(Self.count(gateway, "tools/call") == 2)
            #expect(Self.count(gateway, "initialize") == 1)
            #expect(Self.count(gateway, "ping") == 1, "for a second the answer holds")
            #expect(gateway.gateway.sessions.count == 1)
        }
    }

    @Test(
        "A status with an answer to this very request is that answer",
        arguments: [(404, -32601), (400, -32602), (404, -32602), (500, -32603), (400, -32000), (400, -32001)]
    )
    func answers(status: Int, code: Int) async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            guard turn.request.method == "prompts/list" else { return turn.behave(session: "s") }
            turn.answer(status, #"{"jsonrpc":"2.0","id":\#(turn.request.id),"error":{"code":\#(code),"message":"x"}}"#)
        }) { gateway in
            let session = try #require(try await gateway.initialize())
            let list = #"{"jsonrpc":"2.0","id":4,"method":"prompts/list"}"#
            let answer = try await gateway.post(list, fields: SessionTests.fields(session))
            #expect(answer.status == status && answer.code == code && answer.json["id"] as? Int == 4)
            #expect(Self.count(gateway, "prompts/list") == 1)
            #expect(Self.count(gateway, "initialize") == 1)
            expect(try await gateway.post(Message.call(), fields: SessionTests.fields(session)).status, is: 200)
        }
    }

    @Test("An upstream that never remembers is asked for one reopening per request, and one a second")
    func pace() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            switch turn.request.method {
            case "initialize": turn.behave(session: "s\(turn.number)")
            case "tools/call" where turn.request.text.contains("lost"): turn.answer(404, "", type: nil)
            default: turn.behave()
            }
        }) { gateway in
            let began = ContinuousClock.now
            let session = try #require(try await gateway.initialize())
            // The one whose loss is certain ends the session; until then each of these opens it again.
            let lost = try await gateway.post(Message.call("lost"), fields: SessionTests.fields(session))
            #expect(lost.status == 404)
            let opened = Self.count(gateway, "initialize") - 1
            #expect(opened == 1 && ContinuousClock.now - began < .seconds(5))
            #expect(Self.count(gateway, "tools/call") == 2)
        }
    }
}
