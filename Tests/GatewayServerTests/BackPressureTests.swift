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

@Suite("A side that does not read", .timeLimit(.minutes(1))) struct BackPressureTests {
    static let piece = String(repeating: "x", count: 64 * 1024)
    static let pieces = 1024
    /// What the sockets of both sides may hold between them; far below what is sent.
    static let between = 24 * 1024 * 1024

    /// Sends 64 MiB, each piece written when the one before has left.
    static func flood(_ turn: UpstreamTurn, _ sent: Inbox<Int>, asEvents: Bool) {
        let piece =
            asEvents
            ? "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"data\":\"\(Self.piece)\"}}\n\n"
            : Self.piece
        if asEvents {
            turn.beginEvents()
        } else {
            turn.send(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: \(2 + Self.pieces * Self.piece.count)\r\n\r\n{}"
            )
        }
        @Sendable func next(_ number: Int) {
            guard number < Self.pieces else {
                if asEvents {
                    turn.event(turn.resultText())
                    turn.endChunks()
                }
                return
            }
            let text = asEvents ? String(piece.utf8.count, radix: 16) + "\r\n" + piece + "\r\n" : piece
            turn.channel.writeAndFlush(ByteBuffer(string: text))
                .whenSuccess {
                    sent.change { $0 += Self.piece.count }
                    next(number + 1)
                }
        }
        next(0)
    }

    /// Waits until what was sent no longer grows.
    static func standstill(_ sent: Inbox<Int>) async throws -> Int {
        var last = -1
        while sent.now != last {
            last = sent.now
            // That nothing happens is no event: it is looked at twice.
            try await Task.sleep(for: .milliseconds(300))
        }
        return last
    }

    @Test(
        "Of a caller that does not read the upstream is not read either, and nothing is lost",
        arguments: [false, true]
    )
    func pauses(asEvents: Bool) async throws {
        let sent = Inbox(0)
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { Self.flood($0, sent, asEvents: asEvents) }) { gateway in
            let client = try await gateway.connect(isReading: false, receiveBuffer: 64 * 1024)
            client.send(TestGateway.post(Message.call()))
            _ = try await sent.wait("a first piece") { $0 > 0 ? true : nil }
            let held = try await Self.standstill(sent)
            #expect(held < Self.between)
            // Others are not held up by it.
            expect(try await gateway.request("GET /_healthz").status, is: 200)
            client.startReading()
            // Looked at once: to read the answer again with each piece of it would take minutes.
            let end = Array((asEvents ? "0\r\n\r\n" : "x").utf8)
            let bytes = try await client.inbox.wait("the whole answer", seconds: 40) { state in
                let isWhole =
                    state.bytes.count > Self.pieces * Self.piece.count && state.bytes.suffix(end.count) == end[...]
                return isWhole ? state.bytes : nil
            }
            let answer = try #require(RawAnswer(bytes, isHead: false, hasEnded: false))
            #expect(answer.body.count { $0 == UInt8(ascii: "x") } == Self.pieces * Self.piece.count)
            client.close()
        }
    }

    @Test(
        "A caller that takes nothing for slowReader is cut off, and its call upstream as well",
        arguments: [false, true]
    )
    func cutOff(asEvents: Bool) async throws {
        let sent = Inbox(0)
        try await withGateway {
            $0.limits.slowReader = .seconds(1)
        } script: {
            Self.flood($0, sent, asEvents: asEvents)
        } _: { gateway in
            let client = try await gateway.connect(isReading: false, receiveBuffer: 64 * 1024)
            client.send(TestGateway.post(Message.call()))
            _ = try await sent.wait("a first piece") { $0 > 0 ? true : nil }
            try await gateway.upstream.closed(0)
            try await gateway.metric(
                #"mcp_proxy_requests_total{server="echo",method="tools/call",outcome="slow_reader"}"#,
                is: "1"
            )
            client.startReading()
            // Not a clean end: nobody may take what came for the whole of it.
            let rest = try await client.readToEnd(seconds: 20)
            #expect(
                rest.ending == .reset || !String(decoding: rest.bytes.suffix(5), as: UTF8.self).hasSuffix("0\r\n\r\n")
            )
        }
    }
}
