// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayStdio
import GatewayTesting
import NIOCore
import Testing

@Suite("A program as a server", .timeLimit(.minutes(1))) struct ProgramTests {
    typealias Isolation = UpstreamConfiguration.Isolation

    /// A gateway in front of a program that answers as `script` says.
    static func serving(
        _ isolation: Isolation = .session,
        _ setUp: (inout GatewaySetup) -> Void = { _ in },
        script: @escaping ScriptedProgram.Script = { $0.behave() },
        failure: (@Sendable (Int) -> StdioChild.Ending?)? = nil,
        _ body: (TestGateway, ScriptedProgram) async throws -> Void
    ) async throws {
        let program = ScriptedProgram(script, failure: failure)
        try await withGateway {
            $0.program = program
            $0.upstream.isolation = isolation
            setUp(&$0)
        } _: { gateway in
            try await body(gateway, program)
        }
    }

    // MARK: Messages

    @Test("A call goes to it as one line, and its answer comes back under the caller's id", arguments: [1, 2])
    func relays(threads: Int) async throws {
        for isolation in [Isolation.session, .shared] {
            // swift-format-ignore: OnlyOneTrailingClosureArgument
            try await Self.serving(isolation, { $0.threads = threads }) { gateway, program in
                let session = try #require(try await gateway.initialize())
                // Line ends inside a message would end the line.
                let call = Message.call(id: #""mine""#, arguments: "{\r\n\"a\":\n1.00}")
                for _ in 0..<4 {
                    let answer = try await gateway.post(call, fields: SessionTests.fields(session))
                    #expect(answer.status == 200)
                    #expect(answer.json["id"] as? String == "mine")
                }
                let calls = try await program.turns(4) { $0.method == "tools/call" }
                #expect(calls.allSatisfy { $0.line.contains("{  \"a\": 1.00}") && !$0.line.contains("mine") })
                #expect(Set(calls.map(\.id)).count == 4)
            }
        }
    }

    @Test("Each session has a child of its own, which ends with it; callers who share have one", arguments: [2, 3])
    func children(callers: Int) async throws {
        for isolation in [Isolation.session, .shared] {
            try await Self.serving(isolation) { gateway, program in
                var sessions: [String] = []
                for _ in 0..<callers { sessions.append(try #require(try await gateway.initialize())) }
                for session in sessions {
                    let answer = try await gateway.post(Message.call(), fields: SessionTests.fields(session))
                    #expect(answer.json["result"] != nil)
                }
                let calls = try await program.turns(callers) { $0.method == "tools/call" }
                #expect(Set(calls.map(\.child)).count == (isolation == .shared ? 1 : callers))
                for session in sessions {
                    expect(
                        try await gateway.request("DELETE /echo/mcp", fields: SessionTests.fields(session)).status,
                        is: 204
                    )
                }
                _ = try await program.journal.wait("the end of the children") { journal in
                    journal.running.count == (isolation == .shared ? 1 : 0) ? true : nil
                }
            }
        }
    }

    @Test("What it asks a caller goes along with the call, and the answer comes back under its own id")
    func asks() async throws {
        try await Self.serving { _ in
        } script: { turn in
            switch turn.method {
            case "tools/call":
                turn.say(#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}"#)
                turn.say(#"{"jsonrpc":"2.0","id":"ask-1","method":"elicitation/create","params":{"message":"?"}}"#)
            default: turn.behave()
            }
        } _: { gateway, program in
            let opened = try await gateway.post(SuccessionTests.initialize)
            let fields = SessionTests.fields(opened["mcp-session-id"])
            let client = try await gateway.connect()
            client.send(TestGateway.post(Message.call(), fields: fields))
            let text = try await client.read(until: "elicitation/create")
            let id = try #require(text.firstMatch(of: /"id":([^,]+),"method":"elicitation/)?.output.1)
            let answer = #"{"jsonrpc":"2.0","id":\#(id),"result":{"action":"accept"}}"#
            expect(try await gateway.post(answer, fields: fields).status, is: 202)
            let heard = try await program.turns(1) { $0.line.contains("accept") }
            #expect(heard[0].id == #""ask-1""#)
            let call = try await program.turns(1) { $0.method == "tools/call" }
            call[0].result(#"{"done":true}"#)
            try await client.read(until: #""done":true"#)
            client.close()
        }
    }

    @Test(
        "Its ping is answered by the gateway, and what nobody can answer is refused",
        arguments: [
            (#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#, #"{"jsonrpc":"2.0","id":7,"result":{}}"#),
            (#"{"jsonrpc":"2.0","id":"s","method":"sampling/createMessage","params":{}}"#, "-32601"),
        ]
    )
    func pings(question: String, answer: String) async throws {
        try await Self.serving(.shared) { _ in
        } script: { turn in
            if turn.method == "notifications/initialized" { turn.say(question) }
            turn.behave()
        } _: { gateway, program in
            let session = try await gateway.initialize()
            expect(try await gateway.post(Message.call(), fields: SessionTests.fields(session)).status, is: 200)
            let heard = try await program.turns(1) { $0.method.isEmpty }
            #expect(heard[0].line.contains(answer), "\(heard[0].line)")
        }
    }

    @Test("A call that its caller takes back is taken back at the program", arguments: [true, false])
    func cancelled(isShared: Bool) async throws {
        try await Self.serving(isShared ? .shared : .session) { _ in
        } script: { turn in
            if turn.method != "tools/call" { turn.behave() }
        } _: { gateway, program in
            let fields = SessionTests.fields(try await gateway.initialize())
            let client = try await gateway.connect()
            client.send(TestGateway.post(Message.call(id: "77"), fields: fields))
            let call = try await program.turns(1) { $0.method == "tools/call" }
            let cancel = #"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":77}}"#
            expect(try await gateway.post(cancel, fields: fields).status, is: 202)
            let heard = try await program.turns(1) { $0.method == "notifications/cancelled" }
            #expect(heard[0].line.contains(#""requestId":\#(call[0].id)"#), "\(heard[0].line)")
            client.close()
        }
    }

    @Test("A session that ends takes its calls back, and what it subscribed to where others share the program")
    func leaves() async throws {
        try await Self.serving(.shared) { _ in
        } script: { turn in
            if turn.method != "tools/call" { turn.behave() }
        } _: { gateway, program in
            let fields = SessionTests.fields(try await gateway.initialize())
            let subscribe = #"{"jsonrpc":"2.0","id":5,"method":"resources/subscribe","params":{"uri":"file:///a"}}"#
            expect(try await gateway.post(subscribe, fields: fields).status, is: 200)
            let client = try await gateway.connect()
            client.send(TestGateway.post(Message.call(), fields: fields))
            let call = try await program.turns(1) { $0.method == "tools/call" }
            expect(try await gateway.request("DELETE /echo/mcp", fields: fields).status, is: 204)
            let answer = try await client.answer()
            #expect(answer.reason == "child_exited" && answer.executed == "unknown")
            let cancelled = try await program.turns(1) { $0.method == "notifications/cancelled" }
            #expect(cancelled[0].line.contains(call[0].id))
            let left = try await program.turns(1) { $0.method == "resources/unsubscribe" }
            #expect(left[0].line.contains("file:///a"))
            client.close()
        }
    }

    @Test("What a caller asked a shared program for is asked for again where another child takes its place")
    func restores() async throws {
        try await Self.serving(.shared) { gateway, program in
            let fields = SessionTests.fields(try await gateway.initialize())
            let subscribe = #"{"jsonrpc":"2.0","id":5,"method":"resources/subscribe","params":{"uri":"file:///a"}}"#
            let level = #"{"jsonrpc":"2.0","id":6,"method":"logging/setLevel","params":{"level":"debug"}}"#
            for message in [subscribe, level] {
                expect(try await gateway.post(message, fields: fields).status, is: 200)
            }
            let first = try await program.turns(1) { $0.method == "resources/subscribe" }
            first[0].end(.exited(code: 0))
            for method in ["resources/subscribe", "logging/setLevel"] {
                let again = try await program.turns(1) { $0.method == method && $0.child > 0 }
                #expect(again.count == 1)
            }
            expect(try await gateway.post(Message.call(), fields: fields).status, is: 200)
        }
    }

    // MARK: What is no message

    @Test("Lines that are no message are skipped and in the log once of each kind", arguments: [true, false])
    func garbage(isShared: Bool) async throws {
        try await Self.serving(isShared ? .shared : .session) { _ in
        } script: { turn in
            if turn.method == "tools/call" {
                for line in ["Server started", "Server listens", "{\"level\":\"info\"}", "[1,2", "\u{1b}[31mred"] {
                    turn.say(line)
                }
            }
            turn.behave()
        } _: { gateway, _ in
            let session = try await gateway.initialize()
            for _ in 0..<2 {
                let answer = try await gateway.post(Message.call(), fields: SessionTests.fields(session))
                #expect(answer.json["result"] != nil)
            }
            let lines = gateway.log.lines.filter { $0.contains("standard output has a line that is no message") }
            #expect(lines.count == 10)
            let warnings = lines.filter { $0.contains(#""level":"warning""#) }
            #expect((1...4).contains(warnings.count), "\(warnings)")
        }
    }

    @Test("Whoever writes a thousand of them in a minute is restarted")
    func chatter() async throws {
        try await Self.serving(.shared) { _ in
        } script: { turn in
            if turn.method == "tools/call", turn.child == 0 {
                for number in 0...1_000 { turn.say("line \(number)") }
            } else {
                turn.behave()
            }
        } _: { gateway, program in
            let session = try await gateway.initialize()
            let answer = try await gateway.post(Message.call(), fields: SessionTests.fields(session))
            #expect(answer.reason == "child_exited")
            let again = try await gateway.post(Message.call(), fields: SessionTests.fields(session))
            #expect(again.json["result"] != nil, "\(again.text)")
            #expect(program.journal.now.started == 2)
        }
    }

    // MARK: Ends

    struct End: Sendable, CustomTestStringConvertible {
        var ending: StdioChild.Ending
        var cause: String
        var executed = "unknown"

        var testDescription: String { self.cause }
    }

    static let ends = [
        End(ending: .exited(code: 3), cause: "exited"), End(ending: .signalled(9), cause: "signalled"),
        End(ending: .lineTooLong, cause: "too_large", executed: "yes"),
        End(ending: .closedOutput, cause: "closed_output"), End(ending: .stopped, cause: "stopped"),
    ]

    @Test("Its end is told to the calls that it has, and the next one starts another child", arguments: Self.ends)
    func end(row: End) async throws {
        for isolation in [Isolation.session, .shared] {
            try await Self.serving(isolation) { _ in
            } script: { turn in
                if turn.method == "tools/call", turn.child == 0 { turn.end(row.ending) } else { turn.behave() }
            } _: { gateway, program in
                let session = try await gateway.initialize()
                let answer = try await gateway.post(Message.call(), fields: SessionTests.fields(session))
                #expect(answer.status == 200 && answer.reason == "child_exited", "\(answer.text)")
                #expect(answer.data["cause"] as? String == row.cause)
                #expect(answer.executed == row.executed)
                let again = try await gateway.post(Message.call(), fields: SessionTests.fields(session))
                #expect(again.json["result"] != nil, "\(again.text)")
                #expect(program.journal.now.started == 2)
            }
        }
    }

    static let failures: [(StdioChild.Ending, String)] = [
        (.notStarted("no such file"), "child_exited"), (.noDescriptors, "overloaded"),
        (.exited(code: 127), "child_exited"),
    ]

    @Test("A program that cannot be started is told to whoever wants it, and nothing ran", arguments: Self.failures)
    func failure(ending: StdioChild.Ending, reason: String) async throws {
        for isolation in [Isolation.session, .shared] {
            // swift-format-ignore: OnlyOneTrailingClosureArgument
            try await Self.serving(isolation, failure: { _ in ending }) { gateway, _ in
                let answer = try await gateway.post(Message.initialize)
                #expect(answer.reason == reason, "\(answer.text)")
                #expect(answer.executed == "no")
            }
        }
    }

    struct Refusal: Sendable, CustomTestStringConvertible {
        var name: String
        var script: ScriptedProgram.Script

        var testDescription: String { self.name }
    }

    static let refusals = [
        Refusal(name: "an error") { $0.error(-32603, "no") }
    ]

    @Test("A program that does not answer initialize as it should opens no session", arguments: Self.refusals)
    func refuses(row: Refusal) async throws {
        for isolation in [Isolation.session, .shared] {
            try await Self.serving(isolation, script: row.script) { gateway, _ in
                let answer = try await gateway.post(Message.initialize)
                #expect(answer["mcp-session-id"] == nil, "\(answer.text)")
                #expect(answer.json["error"] != nil, "\(answer.text)")
            }
        }
    }

    // MARK: Eras

    /// A program that speaks the stateless era, alone or beside the other one.
    static func stateless(andHandshake: Bool) -> ScriptedProgram.Script {
        { turn in
            switch turn.method {
            case "server/discover":
                turn.result(
                    #"{"supportedVersions":["2026-07-28"],"capabilities":{},"serverInfo":{"name":"u","version":"1"}}"#
                )
            case "initialize" where !andHandshake:
                turn.error(-32022, "Unsupported protocol version")
            default: turn.behave()
            }
        }
    }

    @Test("A request of the stateless era is answered by a program that speaks it", arguments: [true, false])
    func eras(andHandshake: Bool) async throws {
        let script = Self.stateless(andHandshake: andHandshake)
        try await Self.serving(.shared) {
            $0.upstream.protocolPin = .auto
        } script: {
            script($0)
        } _: { gateway, program in
            let (body, fields) = Message.stateless("tools/call", name: "work")
            let answer = try await gateway.post(body, fields: fields)
            #expect(answer.json["result"] != nil, "\(answer.text)")
            let opened = try await gateway.post(Message.initialize)
            #expect((opened["mcp-session-id"] != nil) == andHandshake, "\(opened.text)")
            // One child at most for each era.
            #expect(program.journal.now.running.count <= 2)
        }
    }

    @Test("A program of the handshake era alone is tried once, and then answers for it", arguments: [1, 3])
    func trial(callers: Int) async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await Self.serving(.shared, { $0.upstream.protocolPin = .auto }) { gateway, program in
            let (body, fields) = Message.stateless("tools/call", name: "work")
            for _ in 0..<callers {
                let answer = try await gateway.post(body, fields: fields)
                #expect(answer.code == -32022, "\(answer.text)")
            }
            expect(try await gateway.post(Message.initialize).status, is: 200)
            #expect(program.lines.count { $0.contains("server/discover") } <= 2)
            #expect(program.journal.now.running.count == 1)
        }
    }
}
