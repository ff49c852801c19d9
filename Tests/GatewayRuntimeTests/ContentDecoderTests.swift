// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayTesting
import GatewayWire
import NIOCore
import NIOEmbedded
import Testing

@testable import GatewayTransport

@Suite("Content that comes in a coding", .timeLimit(.minutes(1))) struct ContentDecoderTests {
    static let text = Array((0..<5000).map { "line \($0 % 977) of a text\n" }.joined().utf8)

    /// What came of bytes that were added in pieces: the content, whether it was whole, and why it failed.
    private struct Outcome: Equatable {
        var content: [UInt8] = []
        var isComplete = false
        var failure: String?
    }

    private static func decode(_ bytes: [UInt8], as coding: ContentCoding, pieces size: Int) throws -> Outcome {
        let decoder = try #require(ContentDecoder(coding, in: nil) {})
        var outcome = Outcome()
        for start in stride(from: 0, to: bytes.count, by: size) {
            #expect(decoder.append(ByteBuffer(bytes: bytes[start..<min(start + size, bytes.count)])))
            reading: while true {
                switch decoder.next() {
                case .content(let piece):
                    #expect((1...64 * 1024).contains(piece.readableBytes))
                    outcome.content += piece.readableBytesView
                case .needsMore: break reading
                case .failed(let text):
                    outcome.failure = text
                    return outcome
                }
            }
        }
        outcome.isComplete = decoder.isComplete
        return outcome
    }

    @Test(
        "Is the same however it is cut, with the head that it should have or without",
        arguments: Deflated.Format.allCases
    )
    func whole(format: Deflated.Format) throws {
        let coding = format == .gzip ? ContentCoding.gzip : .deflate
        for content in [Self.text, [], [7], Array(repeating: 0, count: 3 << 20)] {
            let bytes = Deflated.bytes(content, as: format)
            let expected = Outcome(content: content, isComplete: true)
            for size in [1, 2, 3, 64 * 1024, bytes.count]
            where size <= bytes.count && (size > 3 || bytes.count < 1 << 16) {
                #expect(try Self.decode(bytes, as: coding, pieces: size) == expected, "\(content.count) by \(size)")
            }
        }
    }

    @Test("Every piece that was flushed can be read when it has come")
    func flushed() throws {
        let events = (0..<5).map { Array("data: {\"n\":\($0)}\n\n".utf8) }
        let decoder = try #require(ContentDecoder(.gzip, in: nil) {})
        for (event, piece) in zip(events, Deflated.pieces(events)) {
            #expect(decoder.append(ByteBuffer(bytes: piece)))
            guard case .content(let content) = decoder.next() else {
                Issue.record("nothing came")
                return
            }
            #expect(Array(content.readableBytesView) == event)
        }
    }

    @Test(
        "Several members of gzip are one content, and what stands behind the last is nothing of it",
        arguments: [[], [0], [0, 0, 0, 0], Array("\r\n".utf8), Array("trailer".utf8)]
    )
    func members(behind: [UInt8]) throws {
        let bytes = Deflated.bytes(Self.text) + Deflated.bytes([]) + Deflated.bytes(Array("end".utf8)) + behind
        for size in [1, 1000, bytes.count] {
            let outcome = try Self.decode(bytes, as: .gzip, pieces: size)
            #expect(outcome == Outcome(content: Self.text + Array("end".utf8), isComplete: true))
        }
    }

    @Test("One that is cut off is never whole, wherever", arguments: Deflated.Format.allCases)
    func cutOff(format: Deflated.Format) throws {
        let bytes = Deflated.bytes(Array(Self.text.prefix(400)), as: format)
        for end in 1..<bytes.count {
            let coding = format == .gzip ? ContentCoding.gzip : .deflate
            let outcome = try Self.decode(Array(bytes[..<end]), as: coding, pieces: end)
            #expect(!outcome.isComplete && outcome.failure == nil, "\(end) of \(bytes.count)")
        }
        let nothing = try Self.decode([], as: .gzip, pieces: 1)
        #expect(nothing == Outcome(isComplete: true))
    }

    @Test("One that is none, or is broken, fails", arguments: [ContentCoding.gzip, .deflate])
    func broken(coding: ContentCoding) throws {
        var damaged = Deflated.bytes(Self.text, as: coding == .gzip ? .gzip : .zlib)
        damaged[damaged.count - 3] ^= 0x55
        for bytes in [
            Array(#"{"jsonrpc":"2.0","id":1,"result":{}}"#.utf8), Array(repeating: 0xff, count: 100), damaged,
        ] {
            let outcome = try Self.decode(bytes, as: coding, pieces: bytes.count)
            #expect(outcome.failure?.hasPrefix("the answer says that it is") == true, "\(bytes.prefix(8))")
        }
    }

    @Test("One that grows by more than 1,000 ends soon after 16 MiB, and one within that does not")
    func bomb() throws {
        let bomb = try Self.decode(Deflated.bytes(Array(repeating: 0, count: 32 << 20)), as: .gzip, pieces: 4096)
        #expect(bomb.failure?.contains("grows by more than 1000") == true)
        #expect(bomb.content.count <= DecodedSize.free)
        let small = Array(repeating: UInt8(0), count: DecodedSize.free)
        let whole = try Self.decode(Deflated.bytes(small), as: .gzip, pieces: 4096)
        #expect(whole.content.count == small.count && whole.isComplete)
    }

    // MARK: Connections

    /// Reads one answer, and stops after every piece.
    private final class Reader: UpstreamReceiver {
        var connection: UpstreamConnection?
        var pieces: [Int] = []
        var ending: String?

        func upstreamConnected(_ connection: UpstreamConnection) {
            self.connection = connection
            connection.send(head: ByteBuffer(string: "GET / HTTP/1.1\r\n\r\n"), body: nil, receiver: self)
        }

        func upstreamAnswered(_ connection: UpstreamConnection) {}
        func upstreamSent(_ bytes: ByteBuffer) {
            self.pieces.append(bytes.readableBytes)
            self.connection?.isReadingPaused = true
        }
        func upstreamPaused() {}
        func upstreamEnded() { self.ending = "ended" }
        func upstreamFailed(_ error: TransportError) { self.ending = error.code.rawValue }
    }

    private static func connection(_ reader: Reader, ledger: BufferLedger) throws -> EmbeddedChannel {
        let loop = EmbeddedEventLoop()
        let origin = WebOrigin(scheme: .http, host: "upstream.test", isIPv6Literal: false, port: 80)
        let dialer = try Dialer(origin: origin, tls: TLSClientConfiguration(), timeout: .seconds(1))
        let pool = UpstreamPool(
            eventLoop: loop,
            dialer: dialer,
            sweeper: LoopSweeper(eventLoop: loop),
            buffers: ledger
        )
        let connection = UpstreamConnection(pool: pool, receiver: reader)
        let channel = EmbeddedChannel(loop: loop)
        try channel.pipeline.syncOperations.addHandler(connection)
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 80)).wait()
        connection.dialed(nil)
        return channel
    }

    @Test(
        "A receiver that stops gets one piece at a time, and the end when it took all, though the connection is gone",
        arguments: ["Content-Length", "chunked", "close"]
    )
    func backPressure(framing: String) throws {
        let reader = Reader()
        let ledger = BufferLedger(total: Gauge(), limit: 1 << 20)
        let channel = try Self.connection(reader, ledger: ledger)
        let content = Array(repeating: UInt8(ascii: " "), count: 1 << 20)
        let body = Deflated.bytes(content)
        var answer = Array("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n".utf8)
        switch framing {
        case "chunked":
            answer += Array("Transfer-Encoding: chunked\r\n\r\n\(String(body.count, radix: 16))\r\n".utf8) + body
            answer += Array("\r\n0\r\n\r\n".utf8)
        case "close": answer += Array("\r\n".utf8) + body
        default: answer += Array("Content-Length: \(body.count)\r\n\r\n".utf8) + body
        }
        try channel.writeInbound(ByteBuffer(bytes: answer))
        #expect(reader.pieces.count == 1 && reader.ending == nil)
        #expect(ledger.bytes > 0, "what it takes to decode is counted")
        if framing != "Content-Length" { channel.pipeline.fireChannelInactive() }
        for count in 2...100 where reader.ending == nil {
            #expect(reader.pieces.count == count - 1)
            reader.connection?.isReadingPaused = false
            channel.embeddedEventLoop.run()
        }
        #expect(reader.ending == "ended")
        #expect(reader.pieces.reduce(0, +) == content.count)
        #expect(ledger.bytes == 0)
        _ = try? channel.finish(acceptAlreadyClosed: true)
    }

    @Test(
        "A close in the middle, an end in the middle and a coding that is none are told apart",
        arguments: [
            ("Content-Length: 400\r\n", 200, "truncated_body"), ("Content-Length: 200\r\n", 200, "bad_encoding"),
            ("", 200, "truncated_body"), ("Content-Length: 3\r\n", 3, "bad_encoding"),
            ("Content-Length: 0\r\n", 0, "ended"),
        ]
    )
    func endings(framing: String, count: Int, ending: String) throws {
        let reader = Reader()
        let channel = try Self.connection(reader, ledger: BufferLedger(total: Gauge(), limit: 1 << 20))
        let body = Deflated.bytes((0..<1000).map { UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 13) })
            .prefix(count)
        let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\(framing)\r\n"
        try channel.writeInbound(ByteBuffer(bytes: Array(head.utf8) + body))
        for _ in 0..<10 where reader.ending == nil {
            reader.connection?.isReadingPaused = false
            channel.embeddedEventLoop.run()
        }
        if reader.ending == nil { channel.pipeline.fireChannelInactive() }
        #expect(reader.ending == ending)
        _ = try? channel.finish(acceptAlreadyClosed: true)
    }

    @Test("Where there is no room for what it takes to decode, the answer ends as overloaded")
    func noRoom() throws {
        let reader = Reader()
        let ledger = BufferLedger(total: Gauge(), limit: 1024)
        let channel = try Self.connection(reader, ledger: ledger)
        try channel.writeInbound(
            ByteBuffer(string: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 100\r\n\r\n")
        )
        channel.embeddedEventLoop.run()
        #expect(reader.ending == "buffered_bytes")
        #expect(ledger.bytes == 0)
        _ = try? channel.finish(acceptAlreadyClosed: true)
    }

    @Test("A coding that cannot be decoded ends the answer without a body")
    func unsupported() throws {
        let reader = Reader()
        let channel = try Self.connection(reader, ledger: BufferLedger(total: Gauge(), limit: 1 << 20))
        try channel.writeInbound(
            ByteBuffer(string: "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 4\r\n\r\nabcd")
        )
        #expect(reader.ending == "ended" && reader.pieces.isEmpty)
        _ = try? channel.finish(acceptAlreadyClosed: true)
    }
}
