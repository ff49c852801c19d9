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

/// Callers that take `application/json` and no event stream, at a server that answers by events.
@Suite("Callers that take JSON alone", .timeLimit(.minutes(1))) struct JSONAloneTests {
    static let progress =
        #"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1}}"#
    static let sampling = #"{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{}}"#

    /// One POST of a caller that takes JSON alone, on a connection of its own.
    private static func post(_ gateway: TestGateway, _ body: String, fields: [String] = []) async throws -> RawAnswer {
        let client = try await gateway.connect()
        defer { client.close() }
        return try await client.exchange(TestGateway.post(body, fields: fields, accept: "application/json"))
    }

    /// A whole answer, not one in parts, under the caller's own id.
    private static func expectJSON(_ answer: RawAnswer, _ result: String) {
        #expect(answer.status == 200)
        #expect(answer.values("content-type") == ["application/json"])
        #expect(answer["content-length"] != nil && answer["transfer-encoding"] == nil)
        #expect(answer.text == #"{"jsonrpc":"2.0","id":1,"result":\#(result)}"#)
    }

    static let accepts: [(String?, Bool)] = [
        ("application/json", true), ("application/*", true), ("application/json, text/event-stream;q=0", true),
        ("*/*, text/*;q=0", true), ("application/json;q=0.1, text/html", true),
        (nil, false), ("", false), ("*/*", false), ("application/json, text/event-stream", false),
        ("application/json, */*;q=0.1", false), ("application/json, text/event-stream;q=0.1", false),
        ("text/event-stream", false),
    ]

    @Test("What a caller takes decides: the answer alone, or the stream", arguments: [true, false])
    func accept(isStateless: Bool) async throws {
        try await withGateway {
            $0.upstream.protocolPin = isStateless ? .stateless : .handshake
        } script: { turn in
            turn.beginEvents(fields: ["Cache-Control: no-cache"])
            turn.chunk(": hello\n\n")
            turn.event(Self.progress)
            turn.event(turn.resultText(#"{"mine":true}"#))
            turn.endChunks()
        } _: { gateway in
            let (body, fields) = isStateless ? Message.stateless("tools/call", name: "work") : (Message.call(), [])
            for (accept, isJSON) in Self.accepts {
                let client = try await gateway.connect()
                defer { client.close() }
                let answer = try await client.exchange(TestGateway.post(body, fields: fields, accept: accept))
                if isJSON {
                    Self.expectJSON(answer, #"{"mine":true}"#)
                } else {
                    #expect(answer["content-type"] == "text/event-stream", "\(accept ?? "none")")
                    #expect(answer.text.contains(Self.progress))
                }
                // The connection goes on.
                expect(try await client.exchange(ConnectionTests.health).status, is: 200)
            }
        }
    }

    @Test("The answer to initialize, and what the gateway says where there is none, are JSON too")
    func initializeAndErrors() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            switch turn.request.method {
            case "initialize":
                turn.beginEvents(fields: ["Mcp-Session-Id: s"])
                turn.event(turn.resultText(#"{"protocolVersion":"2025-11-25","capabilities":{}}"#))
                turn.endChunks()
            case "tools/call":
                turn.beginEvents()
                turn.event(Self.progress)
                turn.endChunks()
            default: turn.behave()
            }
        }) { gateway in
            let opened = try await Self.post(gateway, Message.initialize)
            #expect(opened.values("content-type") == ["application/json"])
            #expect((opened.json["result"] as? [String: Any])?["protocolVersion"] as? String == "2025-11-25")
            let session = try #require(opened["mcp-session-id"])
            let failed = try await Self.post(gateway, Message.call(), fields: ["Mcp-Session-Id: \(session)"])
            #expect(failed.values("content-type") == ["application/json"] && failed["content-length"] != nil)
            #expect(failed.reason == "upstream_closed")
        }
    }

    @Test("A filtered list of tools is filtered all the same")
    func filtered() async throws {
        try await withGateway {
            $0.upstream.toolFilter = ToolFilter(mode: .allow, names: ["a"])
        } script: { turn in
            turn.beginEvents()
            turn.event(turn.resultText(#"{"tools":[{"name":"a"},{"name":"b"}]}"#))
            turn.endChunks()
        } _: { gateway in
            Self.expectJSON(try await Self.post(gateway, Message.list), #"{"tools":[{"name":"a"}]}"#)
        }
    }

    @Test("A server that asks a caller that cannot be asked hears so at once, and its ping is answered")
    func nobodyToAsk() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: nil) { gateway in
            let client = try await gateway.connect()
            defer { client.close() }
            client.send(TestGateway.post(Message.call(), accept: "application/json"))
            let call = try await gateway.upstream.turn()
            call.beginEvents()
            call.event(Self.sampling)
            let told = try await gateway.upstream.turn()
            #expect(told.request.id == #""q""#)
            #expect((told.request.json["error"] as? [String: Any])?["code"] as? Int == -32_601)
            told.answer(202, "", type: nil)
            call.event(#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#)
            let pong = try await gateway.upstream.turn()
            #expect(pong.request.id == "7" && pong.request.json["result"] != nil)
            pong.answer(202, "", type: nil)
            call.event(call.resultText())
            call.endChunks()
            Self.expectJSON(try await client.answer(), "{}")
        }
    }

    @Test("A server that asks without end in one call is not answered without end")
    func questionsAreBounded() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            guard turn.request.method == "tools/call" else { return turn.answer(202, "", type: nil) }
            turn.beginEvents()
            for number in 0..<500 {
                turn.event(#"{"jsonrpc":"2.0","id":\#(number),"method":"sampling/createMessage","params":{}}"#)
            }
            turn.event(turn.resultText())
            turn.endChunks()
        }) { gateway in
            Self.expectJSON(try await Self.post(gateway, Message.call()), "{}")
            try await gateway.upstream.requests(100) { $0.text.contains("-32601") }
            expect(try await gateway.post(Message.ping).status, is: 200)
            #expect(gateway.upstream.requests.filter { $0.text.contains("-32601") }.count == 100)
        }
    }

    @Test("A caller that listens is asked on its GET stream, and told there if the question is taken back")
    func askedElsewhere() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            switch (turn.request.httpMethod, turn.request.method) {
            case ("GET", _): turn.beginEvents()
            case (_, "tools/call"):
                turn.beginEvents()
                turn.event(Self.progress)
                turn.event(Self.sampling)
                turn.event(
                    #"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"q","reason":"enough"}}"#
                )
                turn.event(turn.resultText())
                turn.endChunks()
            default: turn.behave(session: "s")
            }
        }) { gateway in
            let session = "Mcp-Session-Id: \(try #require(try await gateway.initialize()))"
            let listener = try await gateway.connect()
            defer { listener.close() }
            listener.send(RefusalCase.request("GET /echo/mcp", "Accept: text/event-stream", session))
            try await listener.read(until: "\r\n\r\n")
            Self.expectJSON(try await Self.post(gateway, Message.call(), fields: [session]), "{}")
            let text = try await listener.read(until: "enough")
            #expect(text.contains(Self.sampling) && !text.contains("progress"))
            #expect(!gateway.upstream.requests.contains { $0.text.contains("-32601") })
        }
    }

    @Test("subscriptions/listen, which is answered by nothing but a stream, is refused with 406")
    func listen() async throws {
        try await withGateway {
            $0.upstream.protocolPin = .stateless
        } _: { gateway in
            let (body, fields) = Message.stateless("subscriptions/listen")
            let answer = try await Self.post(gateway, body, fields: fields)
            #expect(answer.status == 406 && answer.code == -32_600)
            #expect(answer.json["id"] as? Int == 1)
            #expect(gateway.upstream.requests.isEmpty)
        }
    }
}
