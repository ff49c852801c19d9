// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayTesting
import GatewayWire
import NIOCore
import Testing

@Suite("Events that carry no message", .timeLimit(.minutes(1))) struct SkippedEventTests {
    /// What servers send to keep a stream open.
    static let events = [
        "event: ping\ndata: ping\n\n", "event: ping\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n",
        "event: keepalive\n\n", "data:\n\n", "data: \n\n", "event: message\n\n", "id: 5\ndata\n\n", "retry: 3000\n\n",
        ": comment\n\n",
    ]

    @Test("Before the answer of a call they are skipped, in every era", arguments: [true, false])
    func call(isStateless: Bool) async throws {
        try await withGateway {
            $0.upstream.protocolPin = isStateless ? .stateless : .handshake
        } script: { turn in
            turn.beginEvents()
            for event in Self.events { turn.chunk(event) }
            turn.event(turn.resultText(#"{"mine":true}"#))
            turn.endChunks()
        } _: { gateway in
            let (body, fields) = isStateless ? Message.stateless("tools/call", name: "work") : (Message.call(), [])
            let text = try await gateway.post(body, fields: fields).text
            #expect(text.replacing(": comment\n\n", with: "").hasPrefix("event: message\ndata: {"), "\(text)")
            #expect(text.hasSuffix("\"result\":{\"mine\":true}}\n\n"))
            #expect(text.matches(of: /data:/).count == 1)
        }
    }

    @Test(
        "initialize is answered behind them, and so is what the gateway itself asks",
        arguments: [UpstreamConfiguration.Isolation.session, .shared]
    )
    func initialize(isolation: UpstreamConfiguration.Isolation) async throws {
        try await withGateway {
            $0.upstream.isolation = isolation
        } script: { turn in
            guard turn.request.method == "initialize" else { return turn.behave() }
            let result = #"{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"u","version":"1"}}"#
            turn.beginEvents(fields: ["Mcp-Session-Id: s"])
            for event in Self.events { turn.chunk(event) }
            turn.event(turn.resultText(result))
            turn.endChunks()
        } _: { gateway in
            let session = try await gateway.initialize()
            #expect(session != nil)
        }
    }

    @Test("On the stream of a GET they reach nobody, but their id counts where it is taken up again")
    func get() async throws {
        let gets = Inbox<[UpstreamTurn]>([])
        try await withGateway(script: ListenTests.script(gets)) { gateway in
            let session = try #require(try await gateway.initialize())
            let client = try await gateway.connect()
            client.send(ListenTests.get(session))
            let first = try await ListenTests.next(gets)
            first.beginEvents()
            first.chunk("retry: 10\n\n")
            for event in Self.events where !event.hasPrefix("retry") { first.chunk(event) }
            first.chunk("id: of-a-ping\nevent: ping\ndata: ping\n\n")
            first.event(ListenTests.changed)
            let text = try await client.read(until: "\(ListenTests.changed)\n\n")
            #expect(!text.contains("ping") && text.matches(of: /event: message/).count == 1, "\(text)")
            first.endChunks()
            let second = try await ListenTests.next(gets)
            #expect(second.request["last-event-id"] == "of-a-ping")
            client.close()
        }
    }

    @Test("They keep no call alive")
    func timeout() async throws {
        try await withGateway {
            $0.upstream.timeout = .milliseconds(600)
        } script: { turn in
            turn.beginEvents()
            turn.chunk(Self.events[0])
        } _: { gateway in
            let call = try await gateway.post(Message.call())
            #expect(call.text.contains(#""reason":"upstream_timeout""#))
        }
    }

    @Test("They count among the bytes of a stream without its answer")
    func bounds() async throws {
        try await withGateway {
            $0.limits.responseBufferBytes = 4096
        } script: { turn in
            turn.beginEvents()
            for _ in 0..<300 { turn.chunk(Self.events[0]) }
        } _: { gateway in
            let initialize = try await gateway.post(Message.initialize)
            #expect(initialize.reason == "upstream_protocol")
        }
    }

    // MARK: The transport of 2024-11-05

    /// A server of it that answers on its one stream what is posted; `opening` comes before the endpoint.
    static func script(_ streams: Inbox<[UpstreamTurn]>, opening: [String]) -> ScriptedUpstream.Script {
        { turn in
            if turn.request.httpMethod == "GET" {
                turn.beginEvents()
                for event in opening { turn.chunk(event) }
                // Before it is told where to post: the first message may come at once, on another event loop.
                streams.change { $0.append(turn) }
                turn.chunk("event: endpoint\ndata: /post\n\n")
                for event in Self.events { turn.chunk(event) }
                return
            }
            turn.answer(202, "", type: nil)
            guard let stream = streams.now.first, turn.request.json["id"] != nil else { return }
            let version = #"{"protocolVersion":"2024-11-05","capabilities":{},"serverInfo":{"name":"u","version":"1"}}"#
            stream.chunk(Self.events[0])
            stream.event(turn.resultText(turn.request.method == "initialize" ? version : "{}"))
        }
    }

    @Test("Before and after the endpoint of HTTP+SSE they are skipped")
    func legacy() async throws {
        let streams = Inbox<[UpstreamTurn]>([])
        try await withGateway {
            $0.kind = .sse
        } script: {
            Self.script(streams, opening: Self.events)($0)
        } _: { gateway in
            let session = try await gateway.initialize()
            let answer = try await gateway.post(Message.call(), fields: SessionTests.fields(session))
            #expect(answer.text.contains("\"result\":{}"), "\(answer.text)")
            #expect(!answer.text.contains("ping"))
        }
    }

    @Test("A message before the endpoint, and skipped events without end, are no HTTP+SSE", arguments: [true, false])
    func noEndpoint(isMessage: Bool) async throws {
        try await withGateway {
            $0.kind = .sse
            $0.limits.eventBytes = 64 * 1024
        } script: { turn in
            guard turn.request.httpMethod == "GET" else { return turn.answer(202, "", type: nil) }
            turn.beginEvents()
            guard !isMessage else { return turn.event(ListenTests.changed) }
            for _ in 0..<80 { turn.chunk("event: ping\ndata: \(String(repeating: "x", count: 1024))\n\n") }
        } _: { gateway in
            let answer = try await gateway.post(Message.initialize)
            #expect(answer.reason == "upstream_protocol", "\(answer.text)")
        }
    }

    // MARK: Sizes

    @Test("A session id of a server may have 16 KiB, and one more is none", arguments: [4_000, 16_384, 16_385])
    func sessionIDs(length: Int) async throws {
        let id = String(repeating: "s", count: length)
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { $0.behave(session: id) }) { gateway in
            let session = try await gateway.initialize()
            #expect((session != nil) == (length <= 16_384))
            guard session != nil else { return }
            expect(try await gateway.post(Message.call(), fields: SessionTests.fields(session)).status, is: 200)
            #expect(gateway.upstream.requests.last?["mcp-session-id"] == id)
        }
    }

    @Test("By default an event may have 16 MiB", arguments: [-1, 0, 1])
    func largeEvents(over: Int) async throws {
        let limit = 16 * 1024 * 1024
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            let frame = "event: message\ndata: \(turn.resultText(#"{"t":""}"#))\n\n".utf8.count
            turn.beginEvents()
            turn.event(turn.resultText(#"{"t":"\#(String(repeating: "x", count: limit + over - frame))"}"#))
            turn.endChunks()
        }) { gateway in
            let client = try await gateway.connect()
            client.send(TestGateway.post(Message.call()))
            let bytes = try await client.inbox.wait("the end", seconds: 30) { state in
                state.bytes.suffix(5).elementsEqual("0\r\n\r\n".utf8) ? state.bytes : nil
            }
            #expect((bytes.count > limit - 1024) == (over <= 0))
            client.close()
        }
    }
}

@Suite("An upstream that refuses early", .timeLimit(.minutes(1))) struct EarlyRefusalTests {
    @Test(
        "And closes without a word does not get the next attempt on the same connection",
        arguments: [100_000, 3_000_000]
    )
    func freshConnection(size: Int) async throws {
        try await withGateway {
            $0.credentials = LostSessionTests.pool
            $0.headScript = { turn in
                guard turn.request["authorization"] == "Bearer one" else { return false }
                // The body is never read: closing with it unread breaks the connection.
                turn.channel.setOption(.autoRead, value: false)
                    .whenComplete { _ in
                        turn.answer(401, "", type: nil)
                        turn.close()
                    }
                return true
            }
        } _: { gateway in
            let call = Message.call(arguments: #"{"pad":"\#(String(repeating: "x", count: size))"}"#)
            let answer = try await gateway.post(call)
            #expect(answer.json["result"] != nil, "\(answer.text)")
            // Which of them is noted first is up to their event loops.
            #expect(Set(gateway.upstream.requests.map(\.connection)) == [0, 1])
        }
    }
}
