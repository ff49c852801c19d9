// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GatewayModel
import GatewayRuntime
import GatewayTesting
import NIOCore
import Testing

@Suite("A batch of a caller of 2025-03-26", .timeLimit(.minutes(1))) struct BatchCallTests {
    enum Server: String, CaseIterable, Sendable { case http, shared, program }

    static let initialize = Message.initialize.replacing("2025-11-25", with: "2025-03-26")

    /// A gateway in front of a server of that revision, and the fields of a session there.
    static func serving(
        _ server: Server,
        setUp: (inout GatewaySetup) -> Void = { _ in },
        script: @escaping ScriptedUpstream.Script = { $0.behave(session: "s") },
        program: @escaping ScriptedProgram.Script = { $0.behave() },
        _ body: (TestGateway, [String]) async throws -> Void
    ) async throws {
        let answer = #"{"protocolVersion":"2025-03-26","capabilities":{},"serverInfo":{"name":"u","version":"1"}}"#
        try await withGateway {
            if server == .shared { $0.upstream.isolation = .shared }
            if server == .program {
                $0.program = ScriptedProgram { turn in
                    if turn.method == "initialize" { turn.result(answer) } else { program(turn) }
                }
            }
            setUp(&$0)
        } script: { turn in
            guard turn.request.method == "initialize" else { return script(turn) }
            turn.result(answer, fields: ["Mcp-Session-Id: s"])
        } _: { gateway in
            let opened = try await gateway.post(Self.initialize)
            let session = try #require(opened["mcp-session-id"], "\(opened.text)")
            try await body(gateway, SessionTests.fields(session) + ["MCP-Protocol-Version: 2025-03-26"])
        }
    }

    /// What was answered, in one array.
    static func elements(_ answer: RawAnswer) throws -> [[String: Any]] {
        try #require(try JSONSerialization.jsonObject(with: Data(answer.body)) as? [[String: Any]], "\(answer.text)")
    }

    @Test("Each request in it is answered once, under its id, and the rest is taken", arguments: Server.allCases)
    func mixed(server: Server) async throws {
        try await Self.serving(server) { gateway, fields in
            let batch = [
                Message.call(id: "1"), #"{"jsonrpc":"2.0","method":"notifications/x"}"#, Message.call(id: #""one""#),
                #"{"jsonrpc":"2.0","id":12345,"result":{}}"#, Message.ping.replacing(#""id":1"#, with: #""id":3"#), "7",
            ]
            let answer = try await gateway.post("[\(batch.joined(separator: ","))]", fields: fields)
            #expect(answer.status == 200)
            let found = try Self.elements(answer)
            #expect(found.count == 4)
            #expect(Set(found.compactMap { $0["id"] as? Int }) == [1, 3])
            #expect(found.contains { $0["id"] as? String == "one" && $0["result"] != nil })
            // What is no message is answered under no id.
            #expect(found.contains { !($0["id"] is Int) && !($0["id"] is String) && $0["error"] != nil })
        }
    }

    @Test("Where nothing is owed an answer it is 202", arguments: Server.allCases)
    func nothing(server: Server) async throws {
        try await Self.serving(server) { gateway, fields in
            let note = #"{"jsonrpc":"2.0","method":"notifications/x"}"#
            let answer = try await gateway.post("[\(note),\(note)]", fields: fields)
            #expect(answer.status == 202 && answer.body.isEmpty)
        }
    }

    @Test("As many elements as batchElements are taken, one more is refused as a whole", arguments: [-1, 0, 1])
    func most(over: Int) async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await Self.serving(.http, setUp: { $0.limits.batchElements = 4 }) { gateway, fields in
            let batch = (0..<(4 + over)).map { Message.call(id: "\($0)") }.joined(separator: ",")
            let answer = try await gateway.post("[\(batch)]", fields: fields)
            #expect(answer.status == (over > 0 ? 400 : 200))
            if over <= 0 { #expect(try Self.elements(answer).count == 4 + over) }
            #expect(gateway.upstream.requests.count { $0.method == "tools/call" } == (over > 0 ? 0 : 4 + over))
        }
    }

    @Test("A session of another revision has none, and neither has who has no session")
    func others() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { $0.behave(session: "s") }) { gateway in
            let session = try await gateway.initialize()
            let batch = "[\(Message.call())]"
            for fields in [SessionTests.fields(session), [], SessionTests.fields("0123456789abcdef0123456789abcdef")] {
                let answer = try await gateway.post(batch, fields: fields)
                #expect(answer.status == (fields.isEmpty || fields == SessionTests.fields(session) ? 400 : 404))
            }
            #expect(!gateway.upstream.requests.contains { $0.method == "tools/call" })
        }
    }

    @Test(
        "A message before the answers makes it a stream, with every answer on it",
        arguments: [Server.http, .program]
    )
    func stream(server: Server) async throws {
        let note = #"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"n"}}"#
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await Self.serving(
            server,
            script: { turn in
                guard turn.request.text.contains("talk") else { return turn.behave() }
                turn.beginEvents()
                turn.event(note)
                turn.event(turn.resultText())
                turn.endChunks()
            },
            program: { turn in
                if turn.line.contains("talk") { turn.say(note) }
                turn.behave()
            }
        ) { gateway, fields in
            let batch = "[\(Message.call(id: "1")),\(Message.call("talk", id: "2")),\(Message.call(id: "3"))]"
            let answer = try await gateway.post(batch, fields: fields)
            #expect(answer["content-type"]?.hasPrefix("text/event-stream") == true, "\(answer.text)")
            for id in 1...3 { #expect(answer.text.matches(of: try Regex("\"id\":\(id),\"result\"")).count == 1) }
            #expect(answer.text.contains(note))
        }
    }

    @Test("Answers that are too large together become errors under their ids; those that fit are given")
    func tooLarge() async throws {
        let text = String(repeating: "x", count: 3000)
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await Self.serving(
            .http,
            setUp: { $0.limits.responseBufferBytes = 8192 },
            script: { turn in
                if turn.request.method == "tools/call" { turn.result(#"{"t":"\#(text)"}"#) } else { turn.behave() }
            }
        ) { gateway, fields in
            let batch = (0..<5).map { Message.call(id: "\($0)") }.joined(separator: ",")
            let found = try Self.elements(try await gateway.post("[\(batch)]", fields: fields))
            #expect(Set(found.compactMap { $0["id"] as? Int }) == Set(0..<5))
            #expect(found.count { $0["result"] != nil } == 2)
            #expect(found.count { $0["error"] != nil } == 3)
        }
    }

    @Test("A caller that leaves is owed nothing, and what it had under way is over", arguments: Server.allCases)
    func leaves(server: Server) async throws {
        let held = Inbox(0)
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await Self.serving(
            server,
            script: { turn in
                if turn.request.text.contains("hold") { held.change { $0 += 1 } } else { turn.behave() }
            },
            program: { turn in
                if turn.line.contains("hold") { held.change { $0 += 1 } } else { turn.behave() }
            }
        ) { gateway, fields in
            let client = try await gateway.connect()
            client.send(
                TestGateway.post("[\(Message.call(id: "1")),\(Message.call("hold", id: "2"))]", fields: fields)
            )
            _ = try await held.wait("the call") { $0 > 0 ? true : nil }
            client.reset()
            try await gateway.hasNoCallers()
            expect(try await gateway.post(Message.call(), fields: fields).status, is: 200)
        }
    }
}
