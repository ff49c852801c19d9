// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayRuntime
import GatewayTesting
import GatewayWire
import NIOCore
import Testing

@Suite("A server of the transport of 2024-11-05", .timeLimit(.minutes(1))) struct SSEServerTests {
    typealias Isolation = UpstreamConfiguration.Isolation

    /// A server whose stream a test keeps; `posted` answers a POST of a call, and true means that it did.
    static func script(
        _ streams: Inbox<[UpstreamTurn]>,
        posted: @escaping @Sendable (UpstreamTurn) -> Bool = { _ in false }
    ) -> ScriptedUpstream.Script {
        { turn in
            if turn.request.httpMethod == "GET" {
                turn.beginEvents()
                streams.change { $0.append(turn) }
                return turn.chunk("event: endpoint\ndata: /post\n\n")
            }
            if turn.request.method == "tools/call", posted(turn) { return }
            turn.answer(202, "", type: nil)
            guard let stream = streams.now.last, turn.request.json["id"] != nil, !turn.request.method.isEmpty else {
                return
            }
            let version = #"{"protocolVersion":"2024-11-05","capabilities":{},"serverInfo":{"name":"u","version":"1"}}"#
            stream.event(turn.resultText(turn.request.method == "initialize" ? version : "{}"))
        }
    }

    // MARK: The stream

    struct Opening: Sendable, CustomTestStringConvertible {
        var name: String
        var reason: String
        var cause: String
        var script: ScriptedUpstream.Script

        var testDescription: String { self.name }
    }

    static let openings = [
        Opening(name: "404", reason: "upstream_status", cause: "http_4xx") { $0.answer(404, "", type: nil) },
        Opening(name: "405", reason: "upstream_status", cause: "http_4xx") { $0.answer(405, "", type: nil) },
        Opening(name: "500", reason: "upstream_status", cause: "http_5xx") { $0.answer(500, "", type: nil) },
        Opening(name: "401", reason: "credential_rejected", cause: "auth_401") { $0.answer(401, "", type: nil) },
        Opening(name: "403", reason: "credential_rejected", cause: "auth_403") { $0.answer(403, "", type: nil) },
        Opening(name: "a web page", reason: "upstream_protocol", cause: "web_page") { turn in
            turn.answer(200, "<html></html>", type: "text/html")
        },
        Opening(name: "JSON", reason: "upstream_protocol", cause: "bad_content_type") { $0.answer(200, "{}") },
        Opening(name: "a redirect elsewhere", reason: "upstream_protocol", cause: "redirect") { turn in
            turn.answer(302, "", type: nil, fields: ["Location: http://elsewhere.example/sse"])
        },
        Opening(name: "a redirect to itself", reason: "upstream_protocol", cause: "redirect") { turn in
            turn.answer(307, "", type: nil, fields: ["Location: /mcp"])
        },
        Opening(name: "a coding that nobody asked for", reason: "upstream_protocol", cause: "bad_encoding") { turn in
            turn.beginEvents(fields: ["Content-Encoding: br"])
        },
        Opening(name: "a place at another origin", reason: "upstream_protocol", cause: "foreign_endpoint") { turn in
            turn.beginEvents()
            turn.chunk("event: endpoint\ndata: http://elsewhere.example/post\n\n")
        },
        Opening(name: "its end", reason: "upstream_closed", cause: "stream_ended") { turn in
            turn.beginEvents()
            turn.endChunks()
        },
        Opening(name: "a break", reason: "upstream_closed", cause: "truncated_body") { turn in
            turn.beginEvents()
            turn.close()
        },
        Opening(name: "an endless event", reason: "upstream_protocol", cause: "event_too_large") { turn in
            turn.beginEvents()
            for _ in 0..<80 { turn.chunk("data: " + String(repeating: "x", count: 1024)) }
        },
    ]

    @Test("Whoever answers the GET with something else is told apart, and nothing ran", arguments: Self.openings)
    func opening(row: Opening) async throws {
        for isolation in [Isolation.session, .shared] {
            try await withGateway {
                $0.kind = .sse
                $0.upstream.isolation = isolation
                $0.limits.eventBytes = 64 * 1024
            } script: { turn in
                if turn.request.httpMethod == "GET" { row.script(turn) } else { turn.answer(202, "", type: nil) }
            } _: { gateway in
                let answer = try await gateway.post(Message.initialize)
                #expect(answer.reason == row.reason, "\(answer.text)")
                #expect(answer.data["cause"] as? String == row.cause, "\(answer.text)")
                #expect(answer.executed == "no")
            }
        }
    }

    @Test("A redirect within the origin is followed, and messages go to where the stream says from there")
    func redirect() async throws {
        let streams = Inbox<[UpstreamTurn]>([])
        let script = Self.script(streams)
        try await withGateway {
            $0.kind = .sse
        } script: { turn in
            if turn.request.line.hasPrefix("GET /mcp ") {
                return turn.answer(307, "", type: nil, fields: ["Location: /deeper/sse"])
            }
            script(turn)
        } _: { gateway in
            let session = try await gateway.initialize()
            let answer = try await gateway.post(Message.call(), fields: SessionTests.fields(session))
            #expect(answer.json["result"] != nil, "\(answer.text)")
            #expect(gateway.upstream.requests.contains { $0.line == "GET /deeper/sse HTTP/1.1" })
            #expect(gateway.upstream.requests.contains { $0.line == "POST /post HTTP/1.1" })
        }
    }

    @Test("With several tokens the stream is opened with the next one where one is refused", arguments: [true, false])
    func tokens(isShared: Bool) async throws {
        let streams = Inbox<[UpstreamTurn]>([])
        let script = Self.script(streams)
        try await withGateway {
            $0.kind = .sse
            $0.upstream.isolation = isShared ? .shared : .session
            $0.credentials = LostSessionTests.pool
        } script: { turn in
            guard turn.request["authorization"] == "Bearer two" else { return turn.answer(401, "", type: nil) }
            script(turn)
        } _: { gateway in
            let session = try await gateway.initialize()
            let answer = try await gateway.post(Message.call(), fields: SessionTests.fields(session))
            #expect(answer.json["result"] != nil, "\(answer.text)")
            let posts = gateway.upstream.requests.filter { $0.httpMethod == "POST" }
            #expect(!posts.isEmpty && posts.allSatisfy { $0["authorization"] == "Bearer two" })
        }
    }

    // MARK: Messages

    struct Refusal: Sendable, CustomTestStringConvertible {
        var status: Int
        var reason: String
        var executed: String
        var fields: [String] = []

        var testDescription: String { "\(self.status)" }
    }

    static let refusals = [
        Refusal(status: 400, reason: "upstream_status", executed: "no"),
        Refusal(status: 401, reason: "credential_rejected", executed: "no"),
        Refusal(status: 403, reason: "credential_rejected", executed: "no"),
        Refusal(status: 413, reason: "upstream_status", executed: "no"),
        Refusal(status: 429, reason: "rate_limited", executed: "no"),
        Refusal(status: 302, reason: "upstream_protocol", executed: "no", fields: ["Location: http://e.example/"]),
        Refusal(status: 500, reason: "upstream_status", executed: "unknown"),
    ]

    @Test("A call whose POST is refused is told so; the session stays for the next one", arguments: Self.refusals)
    func refused(row: Refusal) async throws {
        for isolation in [Isolation.session, .shared] {
            let streams = Inbox<[UpstreamTurn]>([])
            try await withGateway {
                $0.kind = .sse
                $0.upstream.isolation = isolation
            } script: { turn in
                let script = Self.script(streams) { turn in
                    guard turn.request.text.contains("refuse") else { return false }
                    turn.answer(row.status, "", type: nil, fields: row.fields)
                    return true
                }
                script(turn)
            } _: { gateway in
                let fields = SessionTests.fields(try await gateway.initialize())
                let answer = try await gateway.post(Message.call("refuse"), fields: fields)
                #expect(answer.reason == row.reason, "\(answer.text)")
                #expect(answer.executed == row.executed, "\(answer.text)")
                let again = try await gateway.post(Message.call(), fields: fields)
                #expect(again.json["result"] != nil, "\(again.text)")
                #expect(streams.now.count == 1)
            }
        }
    }

    @Test("A server that forgot the session of its stream gets a new one, and the call there, once")
    func forgot() async throws {
        let streams = Inbox<[UpstreamTurn]>([])
        try await withGateway {
            $0.kind = .sse
        } script: { turn in
            let script = Self.script(streams) { turn in
                guard streams.now.count == 1 else { return false }
                turn.answer(404, "", type: nil)
                return true
            }
            script(turn)
        } _: { gateway in
            let session = try await gateway.initialize()
            let answer = try await gateway.post(Message.call(), fields: SessionTests.fields(session))
            #expect(answer.json["result"] != nil, "\(answer.text)")
            #expect(streams.now.count == 2)
            #expect(gateway.upstream.requests.count { $0.method == "tools/call" } == 2)
        }
    }

    @Test("A stream that ends while a call runs loses it, and the next call opens another", arguments: [true, false])
    func ended(inOrder: Bool) async throws {
        for isolation in [Isolation.session, .shared] {
            let streams = Inbox<[UpstreamTurn]>([])
            try await withGateway {
                $0.kind = .sse
                $0.upstream.isolation = isolation
            } script: { turn in
                let script = Self.script(streams) { turn in
                    guard streams.now.count == 1, let stream = streams.now.first else { return false }
                    turn.answer(202, "", type: nil)
                    if inOrder { stream.endChunks() } else { stream.reset() }
                    return true
                }
                script(turn)
            } _: { gateway in
                let fields = SessionTests.fields(try await gateway.initialize())
                let answer = try await gateway.post(Message.call(), fields: fields)
                #expect(answer.reason == "upstream_closed" && answer.executed == "unknown", "\(answer.text)")
                let again = try await gateway.post(Message.call(), fields: fields)
                #expect(again.json["result"] != nil, "\(again.text)")
            }
        }
    }

    @Test("A call that gets no answer in time is told so, and the server is told to stop")
    func timeout() async throws {
        let streams = Inbox<[UpstreamTurn]>([])
        try await withGateway {
            $0.kind = .sse
            $0.upstream.timeout = .milliseconds(300)
        } script: { turn in
            let script = Self.script(streams) { turn in
                turn.answer(202, "", type: nil)
                return true
            }
            script(turn)
        } _: { gateway in
            let fields = SessionTests.fields(try await gateway.initialize())
            let answer = try await gateway.post(Message.call(), fields: fields)
            #expect(answer.reason == "upstream_timeout" && answer.executed == "unknown", "\(answer.text)")
            try await gateway.upstream.requests(1) { $0.method == "notifications/cancelled" }
        }
    }
}

@Suite("A caller of the transport of 2024-11-05", .timeLimit(.minutes(1))) struct SSECallerTests {
    /// Opens the stream; gives it and the place for messages.
    static func open(_ gateway: TestGateway) async throws -> (stream: RawClient, place: String) {
        let client = try await gateway.connect()
        client.send("GET /echo/sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        let opening = try await client.read(until: "\n\n\r\n")
        let line = try #require(opening.split(whereSeparator: \.isNewline).first { $0.hasPrefix("data: ") })
        return (client, String(line.dropFirst("data: ".count)))
    }

    static func post(_ message: String, _ gateway: TestGateway, _ place: String) async throws -> RawAnswer {
        try await gateway.post(message, to: place)
    }

    enum Server: String, CaseIterable, Sendable { case http, shared, program, sharedProgram }

    @Test("Answers to what it posts come on its stream, whatever its server is", arguments: Server.allCases, [1, 2])
    func answers(server: Server, threads: Int) async throws {
        try await withGateway {
            $0.threads = threads
            if server == .shared || server == .sharedProgram { $0.upstream.isolation = .shared }
            if server == .program || server == .sharedProgram { $0.program = ScriptedProgram() }
        } script: {
            $0.behave(session: "s")
        } _: { gateway in
            let (stream, place) = try await Self.open(gateway)
            for (message, answer) in [
                (Message.initialize, #""id":0,"result""#),
                (Message.call(id: "5"), #""id":5,"result""#), (Message.ping, #""id":1,"result":{}"#),
            ] {
                expect(try await Self.post(message, gateway, place).status, is: 202)
                try await stream.read(until: answer)
            }
            expect(try await Self.post(Message.initialized, gateway, place).status, is: 202)
            stream.close()
            // Its session is over with its stream.
            try await gateway.metric(#"mcp_proxy_sessions{server="echo"}"#, is: "0")
            let late = try await Self.post(Message.call(), gateway, place)
            #expect(late.status == 404)
        }
    }

    @Test("What it gets wrong is said in the answer to its POST, or on its stream if that is a message")
    func wrong() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { $0.behave(session: "s") }) { gateway in
            let (stream, place) = try await Self.open(gateway)
            expect(try await Self.post("{", gateway, place).status, is: 400)
            expect(try await Self.post(Message.call(), gateway, "\(place)0").status, is: 404)
            // Before initialize nothing goes to the server.
            _ = try await Self.post(Message.call(id: "9"), gateway, place)
            #expect(!gateway.upstream.requests.contains { $0.method == "tools/call" })
            stream.close()
        }
    }
}
