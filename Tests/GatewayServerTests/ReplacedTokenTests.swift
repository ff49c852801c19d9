// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewayRuntime
import GatewayTesting
import GatewayWire
import NIOCore
import Synchronization
import Testing

@Suite("Tokens that are replaced while calls run", .timeLimit(.minutes(3))) struct ReplacedTokenTests {
    static func pool(
        _ tokens: [String],
        names: [String?] = [],
        mode: CredentialPoolConfiguration.RotationMode = .roundRobin,
        affinity: CredentialPoolConfiguration.Affinity = .request
    ) -> CredentialPoolConfiguration {
        CredentialPoolConfiguration(
            tokens: tokens.map { Secret("canary-\($0)") },
            names: names,
            mode: mode,
            attemptLimit: mode == .roundRobin ? 1 : tokens.count,
            retryOn: [401, 403],
            affinity: affinity
        )
    }

    /// An upstream that keeps calls until it is told to answer them, and issues sessions if it is to.
    final class Server: Sendable {
        private struct State {
            var isHolding = false
            var held: [UpstreamTurn] = []
            var sessions = 0
        }

        private let state = Mutex(State())
        private let hasSessions: Bool

        init(hasSessions: Bool = false) { self.hasSessions = hasSessions }

        var heldCount: Int { self.state.withLock { $0.held.count } }

        func hold() { self.state.withLock { $0.isHolding = true } }
        /// What comes from now on is answered at once.
        func stopHolding() { self.state.withLock { $0.isHolding = false } }
        func release() {
            let held = self.state.withLock { state in
                defer { state.held = [] }
                return state.held
            }
            for turn in held { turn.behave() }
        }

        func answer(_ turn: UpstreamTurn) {
            if turn.request.method == "initialize", self.hasSessions {
                let number = self.state.withLock { state in
                    state.sessions += 1
                    return state.sessions
                }
                return turn.behave(session: "up-\(number)")
            }
            let isHeld = self.state.withLock { state in
                guard state.isHolding, turn.request.method == "tools/call" else { return false }
                state.held.append(turn)
                return true
            }
            if !isHeld { turn.behave() }
        }
    }

    static func tokens(_ requests: some Sequence<ArrivedRequest>) -> [String] {
        requests.map { ($0["authorization"] ?? "none").replacing("Bearer canary-", with: "") }
    }

    /// The counter of accepted attempts of a slot or name.
    static func accepted(_ label: String) -> String {
        "mcp_proxy_credential_requests_total{server=\"echo\",credential=\"\(label)\",outcome=\"accepted\"}"
    }

    @Test("One of three is replaced while 500 calls are in flight: all are answered, and only the new one is used anew")
    func underLoad() async throws {
        let server = Server()
        server.hold()
        try await withGateway {
            $0.credentials = Self.pool(["one", "two", "three"])
        } script: {
            server.answer($0)
        } _: { gateway in
            let answers = try await withThrowingTaskGroup(of: RawAnswer.self) { group in
                for id in 0..<500 {
                    group.addTask { try await gateway.post(Message.call(id: "\(id)")) }
                }
                try await gateway.upstream.requests(500)
                for _ in 0..<1_000 where server.heldCount < 500 {
                    // The last one has arrived, and is kept a moment later.
                    try await Task.sleep(for: .milliseconds(5))
                }
                server.stopHolding()
                try gateway.replace(Self.pool(["one", "new", "three"]))
                gateway.redactor.configure([])
                for id in 500..<506 { expect(try await gateway.post(Message.call(id: "\(id)")).status, is: 200) }
                let after = Self.tokens(gateway.upstream.requests.dropFirst(500))
                #expect(after == ["three", "one", "new", "three", "one", "new"])
                try await gateway.inFlight(is: [167, 0, 166])
                #expect(gateway.redactor.value.redacted("canary-two canary-new") == "••• •••")
                server.release()
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(answers.allSatisfy { $0.status == 200 && $0.json["result"] != nil })
            try await gateway.metric(Self.accepted("0"), is: "169")
            try await gateway.metric(Self.accepted("1"), is: "2")
            try await gateway.metric(Self.accepted("2"), is: "168")
            try await gateway.inFlight(is: [0, 0, 0])
            let text = try await gateway.metrics() + gateway.request("GET /_status").text + gateway.log.lines.joined()
            for token in ["canary-one", "canary-two", "canary-three", "canary-new"] { #expect(!text.contains(token)) }
            for _ in 0..<200 where gateway.redactor.value.redacted("canary-two") != "canary-two" {
                // The last exchange is let go a moment after its answer; there is no event to wait for.
                try await Task.sleep(for: .milliseconds(10))
            }
            #expect(gateway.redactor.value.redacted("canary-two canary-new") == "canary-two •••")
        }
    }

    @Test(
        "Another order changes nothing: sessions keep their token, counters those of their names",
        arguments: [UpstreamConfiguration.Isolation.session, .shared]
    )
    func reordered(isolation: UpstreamConfiguration.Isolation) async throws {
        let server = Server(hasSessions: true)
        try await withGateway {
            $0.upstream.isolation = isolation
            $0.credentials = Self.pool(["one", "two"], names: ["a", "b"], affinity: .session)
        } script: {
            server.answer($0)
        } _: { gateway in
            let first = SessionTests.fields(try await gateway.initialize())
            let second = SessionTests.fields(try await gateway.initialize())
            for fields in [first, second, second] {
                expect(try await gateway.post(Message.call(), fields: fields).status, is: 200)
            }
            try await gateway.metric(Self.accepted("a"), is: "2")
            try await gateway.metric(Self.accepted("b"), is: "3")
            let before = gateway.upstream.requests.count
            try gateway.replace(Self.pool(["two", "one"], names: ["b", "a"], affinity: .session))
            for fields in [first, second, second] {
                expect(try await gateway.post(Message.call(), fields: fields).status, is: 200)
            }
            let after = gateway.upstream.requests.dropFirst(before)
            #expect(after.map(\.method) == ["tools/call", "tools/call", "tools/call"])
            #expect(Self.tokens(after) == ["one", "two", "two"])
            #expect(after.map { $0["mcp-session-id"] } == ["up-1", "up-2", "up-2"])
            try await gateway.metric(Self.accepted("a"), is: "3")
            try await gateway.metric(Self.accepted("b"), is: "5")
        }
    }

    @Test(
        "A session whose token is removed goes on with another one from its next message, with what it subscribed to",
        arguments: [UpstreamConfiguration.Isolation.session, .shared],
        [["one", "two"], ["one"]]
    )
    func removedFromSession(isolation: UpstreamConfiguration.Isolation, before: [String]) async throws {
        let server = Server(hasSessions: true)
        for mode in [CredentialPoolConfiguration.RotationMode.roundRobin, .onFirstFailed] {
            try await withGateway {
                $0.upstream.isolation = isolation
                $0.credentials = Self.pool(before, mode: before.count == 1 ? .static : mode)
            } script: {
                server.answer($0)
            } _: { gateway in
                let fields = SessionTests.fields(try await gateway.initialize())
                let subscribe =
                    #"{"jsonrpc":"2.0","id":7,"method":"resources/subscribe","params":{"uri":"file:///a"}}"#
                expect(try await gateway.post(subscribe, fields: fields).status, is: 200)
                let old = gateway.upstream.requests.count
                #expect(Self.tokens(gateway.upstream.requests).first == "one")
                try gateway.replace(Self.pool(["two"], mode: .static))
                let answer = try await gateway.post(Message.call(id: "8"), fields: fields)
                #expect(answer.status == 200 && answer.json["result"] != nil, "\(answer.text)")
                let replayed = try await gateway.upstream.requests(2) { $0.method == "resources/subscribe" }
                #expect(replayed.last?["authorization"] == "Bearer canary-two")
                #expect(replayed.last?["mcp-session-id"] != replayed.first?["mcp-session-id"])
                expect(try await gateway.post(Message.call(id: "9"), fields: fields).status, is: 200)
                let after = gateway.upstream.requests.dropFirst(old)
                #expect(Set(Self.tokens(after)) == ["two"])
                #expect(after.count { $0.method == "initialize" } == 1)
                #expect(gateway.gateway.sessions.count == 1)
            }
        }
    }

    @Test("A call whose token is removed and then refused goes on with the new one")
    func refusedInFlight() async throws {
        let setUp = { (setup: inout GatewaySetup) in setup.credentials = Self.pool(["one"], mode: .static) }
        try await withGateway(setUp, script: nil) { gateway in
            async let answer = gateway.post(Message.call())
            let first = try await gateway.upstream.turn()
            try gateway.replace(Self.pool(["two"], mode: .static))
            first.answer(401, "", type: nil)
            let second = try await gateway.upstream.turn()
            #expect(second.request["authorization"] == "Bearer canary-two")
            second.behave()
            expect(try await answer.status, is: 200)
            #expect(!gateway.log.lines.joined().contains("credential rejected"))
        }
    }

    @Test("What a removed token made is asked of the current one, and the upstream says what that means")
    func releasedPins() async throws {
        try await withGateway {
            $0.upstream.protocolPin = .stateless
            $0.credentials = Self.pool(["one", "two", "three"])
        } script: { turn in
            turn.result(#"{"resultType":"input_required","requestState":"state-of-one","inputRequests":{}}"#)
        } _: { gateway in
            let (body, fields) = Message.stateless("tools/call", name: "work")
            expect(try await gateway.post(body, fields: fields).status, is: 200)
            let again = body.replacing(#""name":"work""#, with: #""name":"work","requestState":"state-of-one""#)
            expect(try await gateway.post(again, fields: fields).status, is: 200)
            #expect(Self.tokens(gateway.upstream.requests) == ["one", "one"])
            try gateway.replace(Self.pool(["two", "three"]))
            expect(try await gateway.post(again, fields: fields).status, is: 200)
            #expect(Self.tokens(gateway.upstream.requests).last == "two")
        }
    }

    @Test("Whatever the lists are, every call is answered, and none starts with a token that was removed before")
    func anyLists() async throws {
        let server = Server(hasSessions: true)
        try await withGateway {
            $0.threads = 2
            $0.credentials = Self.pool(["0", "1", "2"])
        } script: {
            server.answer($0)
        } _: { gateway in
            let isOver = Inbox(false)
            let failures = try await withThrowingTaskGroup(of: [String].self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        var failures: [String] = []
                        let fields = SessionTests.fields(try await gateway.initialize())
                        var id = 0
                        while !isOver.now {
                            id += 1
                            let answer = try await gateway.post(Message.call(id: "\(id)"), fields: fields)
                            if answer.json["result"] == nil { failures.append(answer.text) }
                        }
                        return failures
                    }
                }
                for number in 0..<60 {
                    let list = (0..<(1 + number % 4)).map { "\((number + $0 * 2) % 5)" }
                    try gateway.replace(Self.pool(list))
                    let before = gateway.upstream.requests.count
                    try await gateway.upstream.requests(before + 10)
                }
                isOver.change { $0 = true }
                return try await group.reduce(into: []) { $0 += $1 }
            }
            #expect(failures == [])
            let last = gateway.upstream.requests.count
            let fields = SessionTests.fields(try await gateway.initialize())
            for id in 0..<4 {
                expect(try await gateway.post(Message.call(id: "\(id)"), fields: fields).status, is: 200)
            }
            let configured = try gateway.slots.count
            #expect(Set(Self.tokens(gateway.upstream.requests.dropFirst(last))).count == configured)
            #expect(try gateway.slots.allSatisfy { $0.slot.inFlight == 0 })
        }
    }
}

extension TestGateway {
    private var credentials: UpstreamCredentials {
        get throws {
            try #require(self.echo.credentials)
        }
    }

    fileprivate func replace(_ pool: CredentialPoolConfiguration) throws { try self.credentials.replace(with: pool) }

    fileprivate var slots: [UpstreamCredentials.SlotReport] { get throws { try self.credentials.report.slots } }

    /// Waits until so many calls hold each credential.
    fileprivate func inFlight(is expected: [Int]) async throws {
        var held: [Int] = []
        for _ in 0..<200 {
            held = try self.slots.map(\.slot.inFlight)
            if held == expected { return }
            // A call lets go of its credential a moment after its answer; there is no event to wait for.
            try await Task.sleep(for: .milliseconds(10))
        }
        throw TestTimeout(description: "calls that hold a credential are \(held), not \(expected)")
    }
}
