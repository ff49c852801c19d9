// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayRuntime
import GatewayTesting
import NIOCore
import Testing

@Suite("The stream of a call that breaks off", .timeLimit(.minutes(1))) struct ResumedCallTests {
    enum Server: String, CaseIterable, Sendable { case http, program }

    /// The way to say something in a call, whatever the server is.
    struct Call: Sendable {
        let say: @Sendable (String) -> Void
        let answer: @Sendable () -> Void
    }

    static func note(_ number: Int, _ text: String = "") -> String {
        #"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"note-\#(number).\#(text)"}}"#
    }

    /// A gateway in front of a server whose calls a test makes up.
    static func serving(
        _ server: Server,
        _ body: (_ gateway: TestGateway, _ fields: [String], _ next: () async throws -> Call) async throws -> Void
    ) async throws {
        let calls = Inbox<[Call]>([])
        try await withGateway {
            guard server == .program else { return }
            $0.program = ScriptedProgram { turn in
                guard turn.method == "tools/call" else { return turn.behave() }
                let call = Call(say: { turn.say($0) }, answer: { turn.result(#"{"is":"over"}"#) })
                calls.change { $0.append(call) }
            }
        } script: { turn in
            if turn.request.httpMethod == "GET" { return turn.beginEvents() }
            guard turn.request.method == "tools/call" else { return turn.behave(session: "s") }
            turn.beginEvents()
            let answer: @Sendable () -> Void = {
                turn.event(turn.resultText(#"{"is":"over"}"#))
                turn.endChunks()
            }
            calls.change { $0.append(Call(say: { turn.event($0) }, answer: answer)) }
        } _: { gateway in
            let fields = SessionTests.fields(try await gateway.initialize())
            try await body(gateway, fields + ["MCP-Protocol-Version: 2025-11-25"]) {
                try await calls.wait("a call") { $0.isEmpty ? nil : $0.removeFirst() }
            }
        }
    }

    static func notes(in text: String) -> [Int] {
        text.matches(of: /"note-(\d+)\./).compactMap { Int($0.output.1) }
    }

    static func lastID(in text: String) throws -> String {
        String(try #require(text.matches(of: /id: (\S+)\n/).last).output.1)
    }

    /// All that a stream brings that is taken up behind an event.
    static func resumed(_ gateway: TestGateway, _ fields: [String], after id: String) async throws -> String {
        let client = try await gateway.connect()
        defer { client.close() }
        let more = (fields + ["Last-Event-ID: \(id)"]).map { "\($0)\r\n" }.joined()
        client.send("GET /echo/mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\(more)\r\n")
        let answer = try await client.answer()
        #expect(answer.status == 200)
        return answer.text
    }

    @Test(
        "A caller that lost it gets what it missed, in order, and the answer last",
        arguments: Server.allCases,
        [true, false]
    )
    func missed(server: Server, isOver: Bool) async throws {
        try await Self.serving(server) { gateway, fields, next in
            let client = try await gateway.connect()
            client.send(TestGateway.post(Message.call(id: "7"), fields: fields))
            let call = try await next()
            for number in 0..<3 { call.say(Self.note(number)) }
            let seen = try await client.read(until: "note-2.\"}}\n\n")
            client.reset()
            for number in 3..<9 { call.say(Self.note(number)) }
            if isOver { call.answer() }
            async let rest = Self.resumed(gateway, fields, after: try Self.lastID(in: seen))
            if !isOver {
                try await Task.sleep(for: .milliseconds(20))
                call.answer()
            }
            let text = try await rest
            #expect(Self.notes(in: seen) + Self.notes(in: text) == Array(0..<9), "\(text)")
            #expect(text.hasSuffix("\"result\":{\"is\":\"over\"}}\n\n"), "\(text)")
        }
    }

    @Test("What was written may not have been read: it can be asked for again", arguments: Server.allCases)
    func again(server: Server) async throws {
        try await Self.serving(server) { gateway, fields, next in
            let client = try await gateway.connect()
            client.send(TestGateway.post(Message.call(id: "7"), fields: fields))
            let call = try await next()
            call.say(Self.note(0))
            let seen = try await client.read(until: "note-0.\"}}\n\n")
            call.say(Self.note(1))
            call.answer()
            try await client.read(until: "0\r\n\r\n")
            for _ in 0..<2 {
                let text = try await Self.resumed(gateway, fields, after: try Self.lastID(in: seen))
                #expect(Self.notes(in: text) == [1] && text.contains(#""id":7,"result""#), "\(text)")
            }
            client.close()
        }
    }

    @Test("At most 64 events or 256 KiB of it are kept, and they are the last", arguments: [0, 16 * 1024])
    func kept(size: Int) async throws {
        let count = size == 0 ? 200 : 50
        try await Self.serving(.http) { gateway, fields, next in
            let client = try await gateway.connect()
            client.send(TestGateway.post(Message.call(id: "7"), fields: fields))
            let call = try await next()
            call.say(Self.note(0))
            let seen = try await client.read(until: "note-0.\"}}\n\n")
            client.reset()
            let text = String(repeating: "x", count: size)
            for number in 1..<count { call.say(Self.note(number, text)) }
            call.answer()
            // It is over when its place is free.
            try await gateway.metric(
                #"mcp_proxy_requests_total{server="echo",method="tools/call",outcome="ok"}"#,
                is: "1"
            )
            let rest = try await Self.resumed(gateway, fields, after: try Self.lastID(in: seen))
            let notes = Self.notes(in: rest)
            #expect(notes == Array((count - notes.count)..<count))
            #expect(rest.contains(#""id":7,"result""#))
            #expect(size > 0 ? rest.utf8.count <= 260 * 1024 : notes.count <= 64)
        }
    }

    @Test("The ids of a stream are nothing to another session")
    func foreign() async throws {
        try await Self.serving(.http) { gateway, fields, next in
            let client = try await gateway.connect()
            client.send(TestGateway.post(Message.call(id: "7"), fields: fields))
            let call = try await next()
            call.say(Self.note(0))
            let seen = try await client.read(until: "note-0.\"}}\n\n")
            client.reset()
            call.say(Self.note(1))
            let other =
                SessionTests.fields(try await gateway.initialize()) + [
                    "MCP-Protocol-Version: 2025-11-25", "Last-Event-ID: \(try Self.lastID(in: seen))",
                ]
            let thief = try await gateway.connect()
            let more = other.map { "\($0)\r\n" }.joined()
            thief.send("GET /echo/mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\(more)\r\n")
            try await thief.read(until: "\r\n\r\n")
            call.answer()
            let text = try await Self.resumed(gateway, fields, after: try Self.lastID(in: seen))
            #expect(Self.notes(in: text) == [1])
            #expect(!thief.inbox.now.text.contains("note"))
            thief.close()
        }
    }

    // MARK: The upstream's side

    @Test(
        "Where the upstream's stream ends behind an event with an id it is taken up there, and the caller sees one stream"
    )
    func upstream() async throws {
        let gets = Inbox<[UpstreamTurn]>([])
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            if turn.request.httpMethod == "GET" { return gets.change { $0.append(turn) } }
            guard turn.request.method == "tools/call" else { return turn.behave(session: "s") }
            turn.beginEvents()
            turn.chunk("retry: 10\nid: up-1\nevent: message\ndata: \(Self.note(0))\n\n")
            turn.endChunks()
        }) { gateway in
            let fields = SessionTests.fields(try await gateway.initialize())
            let client = try await gateway.connect()
            client.send(TestGateway.post(Message.call(id: "7"), fields: fields))
            let get = try await ListenTests.next(gets)
            #expect(get.request["last-event-id"] == "up-1")
            get.beginEvents()
            get.event(Self.note(1))
            get.event(#"{"jsonrpc":"2.0","id":7,"result":{}}"#)
            let answer = try await client.answer()
            #expect(Self.notes(in: answer.text) == [0, 1])
            #expect(answer.text.contains(#""id":7,"result""#) && !answer.text.contains("up-1"))
            #expect(gateway.upstream.requests.count { $0.method == "tools/call" } == 1)
            client.close()
        }
    }

    @Test(
        "Where it cannot be taken up the caller is told so on its stream, and that the call may have run",
        arguments: [404, 405, 500]
    )
    func refused(status: Int) async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(
            { $0.upstream.timeout = .seconds(3) },
            script: { turn in
                if turn.request.httpMethod == "GET" { return turn.answer(status, "", type: nil) }
                guard turn.request.method == "tools/call" else { return turn.behave(session: "s") }
                turn.beginEvents()
                turn.chunk("retry: 10\nid: up-1\nevent: message\ndata: \(Self.note(0))\n\n")
                turn.endChunks()
            }
        ) { gateway in
            let fields = SessionTests.fields(try await gateway.initialize())
            let answer = try await gateway.post(Message.call(id: "7"), fields: fields)
            #expect(Self.notes(in: answer.text) == [0])
            #expect(answer.text.contains(#""executed":"unknown""#), "\(answer.text)")
        }
    }
}
