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

@Suite("An answer in a content coding", .timeLimit(.minutes(1))) struct ContentCodingTests {
    /// Sends a whole answer in a coding, with a length.
    static func answer(
        _ turn: UpstreamTurn,
        _ body: [UInt8],
        _ coding: String = "gzip",
        status: Int = 200,
        fields: [String] = []
    ) {
        let more = fields.map { "\($0)\r\n" }.joined()
        let head =
            "HTTP/1.1 \(status) X\r\nContent-Type: application/json\r\nContent-Encoding: \(coding)\r\n"
            + "ETag: \"x\"\r\n\(more)Content-Length: \(body.count)\r\n\r\n"
        turn.send(Array(head.utf8) + body)
    }

    @Test(
        "Is decoded, short or long, and its caller gets neither coding nor length of what came",
        arguments: [
            ("gzip", Deflated.Format.gzip), ("X-Gzip", .gzip), ("identity, gzip", .gzip), ("deflate", .zlib),
            ("deflate", .raw),
        ],
        [10, 200_000, 3_000_000]
    )
    func json(coding: (String, Deflated.Format), size: Int) async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            #expect(turn.request["accept-encoding"] == "identity")
            let text = turn.resultText(#"{"pad":"\#(String(repeating: "x", count: size))"}"#)
            Self.answer(turn, Deflated.bytes(Array(text.utf8), as: coding.1), coding.0)
        }) { gateway in
            let answer = try await gateway.post(Message.call())
            #expect(answer.status == 200)
            #expect((answer.json["result"] as? [String: Any])?["pad"] as? String == String(repeating: "x", count: size))
            #expect(answer["content-encoding"] == nil && answer["etag"] == nil)
            // The connection is kept for the next one.
            _ = try await gateway.post(Message.call())
            #expect(Set(gateway.upstream.requests.map(\.connection)) == [0])
        }
    }

    @Test("Events arrive when they were sent, also on the stream of a GET")
    func events() async throws {
        let gets = Inbox<[UpstreamTurn]>([])
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            switch turn.request.method {
            case "tools/call": gets.change { $0.append(turn) }
            case "": gets.change { $0.append(turn) }
            default: turn.behave(session: "s")
            }
        }) { gateway in
            let session = try #require(try await gateway.initialize())
            for request in [
                TestGateway.post(Message.call(), fields: SessionTests.fields(session)), ListenTests.get(session),
            ] {
                let client = try await gateway.connect()
                client.send(request)
                let turn = try await ListenTests.next(gets)
                let texts = [EventStreamTests.progress, ListenTests.changed].map { "data: \($0)\n\n" }
                turn.beginEvents(fields: ["Content-Encoding: gzip"])
                for (piece, text) in zip(Deflated.pieces(texts.map { Array($0.utf8) } + [[]]), texts) {
                    turn.send(Array("\(String(piece.count, radix: 16))\r\n".utf8) + piece + Array("\r\n".utf8))
                    try await client.read(until: text)
                }
                client.close()
            }
        }
    }

    @Test("initialize, a refusal and an error answer are read in it, too")
    func others() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            switch turn.request.method {
            case "initialize":
                let result =
                    #"{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"u","version":"1"}}"#
                let body = Deflated.bytes(Array(turn.resultText(result).utf8))
                Self.answer(turn, body, fields: ["Mcp-Session-Id: s"])
            case "tools/call": Self.answer(turn, Deflated.bytes(Array("no".utf8)), status: 401)
            case "ping": turn.behave()
            default:
                let error = #"{"jsonrpc":"2.0","id":\#(turn.request.id),"error":{"code":-32601,"message":"none"}}"#
                Self.answer(turn, Deflated.bytes(Array(error.utf8)), status: 404)
            }
        }) { gateway in
            let session = try #require(try await gateway.initialize())
            let fields = SessionTests.fields(session)
            expect(try await gateway.post(Message.call(), fields: fields).reason, is: "credential_rejected")
            let listing = try await gateway.post(Message.list, fields: fields)
            #expect(listing.status == 404 && listing.code == -32_601)
        }
    }

    struct Bad: Sendable, CustomTestStringConvertible {
        var name: String
        var coding = "gzip"
        var body: [UInt8]
        var message: String

        var testDescription: String { self.name }
    }

    static let result = Array(#"{"jsonrpc":"2.0","id":1,"result":{}}"#.utf8)

    static let bad = [
        Bad(name: "brotli", coding: "br", body: [1, 2, 3], message: "the content coding br"),
        Bad(name: "zstd", coding: "ZSTD", body: [1, 2, 3], message: "the content coding zstd"),
        Bad(
            name: "twice",
            coding: "gzip, gzip",
            body: Deflated.bytes(Deflated.bytes(result)),
            message: "several content codings (gzip, gzip)"
        ),
        Bad(name: "no gzip", body: result, message: "says that it is gzip, and is not"),
        Bad(
            name: "cut off",
            body: Array(Deflated.bytes(result).dropLast(9)),
            message: "ends in the middle of its coding"
        ),
        Bad(
            name: "a bomb",
            body: Deflated.bytes(Array("{".utf8) + Array(repeating: 0x20, count: 40 << 20)),
            message: "grows by more than 1000"
        ),
    ]

    @Test("What cannot be decoded ends as upstream_protocol, which says why", arguments: Self.bad)
    func undecodable(row: Bad) async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { Self.answer($0, row.body, row.coding) }) { gateway in
            let client = try await gateway.connect()
            client.send(TestGateway.post(Message.call()))
            guard row.name != "a bomb" else {
                // Its beginning went out: what follows breaks off.
                let bytes = try await client.readToEnd(seconds: 20).bytes
                #expect(bytes.count < 17 << 20)
                #expect(RawAnswer(bytes, isHead: false, hasEnded: false) == nil)
                return
            }
            let answer = try await client.answer()
            #expect(answer.reason == "upstream_protocol" && answer.executed == "yes", "\(answer.text)")
            #expect((answer.error["message"] as? String)?.contains(row.message) == true, "\(answer.text)")
            client.close()
        }
    }

    @Test("A bomb where the whole answer is held ends at responseBufferBytes")
    func heldBomb() async throws {
        let body = Deflated.bytes(Array("{".utf8) + Array(repeating: 0x20, count: 12 << 20))
        try await withGateway {
            $0.limits.responseBufferBytes = 1 << 20
        } script: {
            Self.answer($0, body)
        } _: { gateway in
            let answer = try await gateway.post(Message.initialize)
            #expect(answer.reason == "upstream_protocol", "\(answer.text)")
            #expect((answer.error["message"] as? String)?.contains("limits.responseBufferBytes") == true)
        }
    }

    @Test("Of a caller that does not read no more is decoded than it takes")
    func backPressure() async throws {
        let count = 12 << 20
        let body = Deflated.bytes(Array("{".utf8) + Array(repeating: 0x20, count: count) + Array("}".utf8))
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { Self.answer($0, body) }) { gateway in
            let client = try await gateway.connect(isReading: false, receiveBuffer: 64 * 1024)
            client.send(TestGateway.post(Message.call()))
            for _ in 0..<500 where gateway.gateway.held.suspended == 0 { try await Task.sleep(for: .milliseconds(10)) }
            #expect(gateway.gateway.held.suspended == 1)
            #expect(gateway.gateway.buffers.bytes < 4 << 20)
            client.startReading()
            let bytes = try await client.inbox.wait("the whole answer", seconds: 40) { state in
                state.bytes.count > count && state.bytes.suffix(5).elementsEqual("0\r\n\r\n".utf8) ? state.bytes : nil
            }
            let answer = try #require(RawAnswer(bytes, isHead: false, hasEnded: false))
            #expect(answer.body.count == count + 2)
            client.close()
        }
    }
}
