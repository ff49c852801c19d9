// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayTesting
import GatewayWire
import NIOCore
import Testing

@Suite("An answer in events", .timeLimit(.minutes(1))) struct EventStreamTests {
    static let progress =
        #"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1}}"#

    @Test("Each event arrives when it was sent, and the answer ends the stream")
    func asTheyCome() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: nil) { gateway in
            let client = try await gateway.connect()
            client.send(TestGateway.post(Message.call()))
            let turn = try await gateway.upstream.turn()
            turn.beginEvents(fields: ["Cache-Control: no-cache"])
            turn.chunk(": hello\n\n")
            try await client.read(until: ": hello\n\n")
            turn.event(Self.progress)
            try await client.read(until: "data: \(Self.progress)\n\n")
            // Cut anywhere, an event goes out when it is whole.
            let last = "id: 7\nevent: message\ndata: \(turn.resultText())\n\n"
            turn.chunk(String(last.prefix(20)))
            turn.chunk(String(last.dropFirst(20)))
            // The upstream's ids of events are nothing to the caller, who has no session to use them in.
            try await client.read(until: "\(last.dropFirst("id: 7\n".count))\r\n0\r\n\r\n")
            // The upstream leaves its stream open: the caller has its answer all the same, and its connection.
            let next = try await client.exchange(ConnectionTests.health)
            #expect(next.status == 200)
            client.close()
        }
    }

    @Test("Events that come with the end of their stream go out before it is taken up again")
    func endsInOnePiece() async throws {
        let gets = Inbox<[UpstreamTurn]>([])
        try await withGateway { _ in
        } script: { turn in
            guard turn.request.method == "tools/call" else { return ListenTests.script(gets)(turn) }
            let event = "retry: 10\nid: 1\nevent: message\ndata: \(Self.progress)\n\n"
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            turn.send(head + String(event.utf8.count, radix: 16) + "\r\n\(event)\r\n0\r\n\r\n")
        } _: { gateway in
            let session = try #require(try await gateway.initialize())
            let client = try await gateway.connect()
            client.send(TestGateway.post(Message.call(), fields: SessionTests.fields(session)))
            // Nobody has answered the GET that takes it up again.
            try await client.read(until: "data: \(Self.progress)\n\n")
            let get = try await ListenTests.next(gets)
            #expect(get.request["last-event-id"] == "1")
            get.answer(405, "", type: nil)
            try await client.read(until: "0\r\n\r\n")
            client.close()
        }
    }

    @Test(
        "What belongs to nobody is dropped: other answers, and in the stateless era requests",
        arguments: [true, false]
    )
    func foreign(isStateless: Bool) async throws {
        try await withGateway {
            $0.upstream.protocolPin = isStateless ? .stateless : .handshake
        } script: { turn in
            turn.beginEvents()
            turn.event(#"{"jsonrpc":"2.0","id":"1","result":{"type":"differs"}}"#)
            turn.event(#"{"jsonrpc":"2.0","id":2,"result":{}}"#)
            turn.event(#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}"#)
            turn.event(turn.resultText(#"{"mine":true}"#))
            turn.event(turn.resultText(#"{"second":true}"#))
            turn.endChunks()
        } _: { gateway in
            let (body, fields) = isStateless ? Message.stateless("tools/call", name: "work") : (Message.call(), [])
            let text = try await gateway.post(body, fields: fields).text
            #expect(!text.contains("differs") && !text.contains(#""id":2"#) && !text.contains("second"))
            #expect(text.contains("sampling") == !isStateless)
            #expect(text.hasSuffix("\"result\":{\"mine\":true}}\n\n"))
        }
    }

    struct Broken: Sendable, CustomTestStringConvertible {
        var name: String
        var reason: String
        var executed: String
        var script: ScriptedUpstream.Script

        var testDescription: String { self.name }
    }

    static let broken = [
        Broken(name: "ends", reason: "upstream_closed", executed: "unknown") { turn in
            turn.beginEvents()
            turn.event(progress)
            turn.endChunks()
        },
        Broken(name: "breaks", reason: "upstream_closed", executed: "unknown") { turn in
            turn.beginEvents()
            turn.event(progress)
            turn.close()
        },
        Broken(name: "breaks inside an event", reason: "upstream_closed", executed: "unknown") { turn in
            turn.beginEvents()
            turn.event(progress)
            turn.chunk("data: {\"jsonrpc\"")
            turn.close()
        },
        Broken(name: "is no JSON", reason: "upstream_protocol", executed: "yes") { turn in
            turn.beginEvents()
            turn.event(progress)
            turn.event("hello")
        },
        Broken(name: "is endless in one line", reason: "upstream_protocol", executed: "yes") { turn in
            turn.beginEvents()
            turn.event(progress)
            for _ in 0..<80 { turn.chunk("data: " + String(repeating: "x", count: 1024)) }
        },
    ]

    @Test("A stream without the answer ends with an error as its last event", arguments: Self.broken)
    func lastEvent(row: Broken) async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway({ $0.limits.eventBytes = 64 * 1024 }, script: row.script) { gateway in
            let answer = try await gateway.post(Message.call())
            #expect(answer.status == 200)
            let events = answer.text.components(separatedBy: "\n\n").filter { !$0.isEmpty }
            #expect(events.count == 2)
            #expect(events.first == "event: message\ndata: \(Self.progress)")
            let last = events.last ?? ""
            #expect(last.hasPrefix(#"event: message\#ndata: {"jsonrpc":"2.0","id":1,"error":{"#))
            #expect(last.contains(#""reason":"\#(row.reason)""#) && last.contains(#""executed":"\#(row.executed)""#))
        }
    }

    @Test("An event one under and at eventBytes passes, one over does not", arguments: [-1, 0, 1])
    func eventLimit(over: Int) async throws {
        let limit = 4096
        try await withGateway {
            $0.limits.eventBytes = limit
        } script: { turn in
            let frame = "event: message\ndata: \(turn.resultText(#"{"t":""}"#))\n\n".utf8.count
            turn.beginEvents()
            turn.event(turn.resultText(#"{"t":"\#(String(repeating: "x", count: limit + over - frame))"}"#))
            turn.endChunks()
        } _: { gateway in
            let answer = try await gateway.post(Message.call())
            #expect(answer.text.contains(#""reason":"upstream_protocol""#) == (over > 0))
            #expect(over > 0 || answer.text.contains(#""result":{"t":"x"#))
        }
    }

    @Test("Progress of a call starts its clock again, and nothing else does")
    func progressRestarts() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway({ $0.upstream.timeout = .milliseconds(900) }, script: nil) { gateway in
            let client = try await gateway.connect()
            client.send(TestGateway.post(Message.call()))
            let turn = try await gateway.upstream.turn()
            turn.beginEvents()
            let began = ContinuousClock.now
            // Twice as long as the timeout, kept alive by progress.
            while ContinuousClock.now - began < .milliseconds(1800) {
                turn.event(Self.progress)
                try await client.read(until: "\(Self.progress)\n\n")
                try await Task.sleep(for: .milliseconds(100))
            }
            turn.event(#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#)
            let text = try await client.read(until: "0\r\n\r\n")
            #expect(text.contains(#""reason":"upstream_timeout""#) && text.contains(#""executed":"unknown""#))
            // A handshake upstream is told to stop.
            let cancelled = try await gateway.upstream.requests(1) { $0.method == "notifications/cancelled" }
            #expect(cancelled[0].text.contains(#""requestId":1"#))
        }
    }
}
