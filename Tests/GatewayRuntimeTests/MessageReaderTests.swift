// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayObservability
import NIOCore
import Testing

@testable import GatewayRuntime

@Suite("Message reader") struct MessageReaderTests {
    /// What came of an answer, one line for each step but `needsMore`.
    private static func read(
        _ text: String,
        as form: MessageReader.Form,
        pieces: Int,
        bounds: MessageReader.Bounds = .init(event: 1_000, body: 1_000)
    ) -> [String] {
        let ledger = BufferLedger(total: Gauge(), limit: 1_000_000)
        var reader = MessageReader(bounds, in: ledger)
        reader.begin(form)
        var seen: [String] = []
        var rest = ByteBuffer(string: text)
        while let piece = rest.readSlice(length: min(pieces, rest.readableBytes)), piece.readableBytes > 0 {
            reader.append(piece)
            reading: while true {
                switch reader.next() {
                case .needsMore: break reading
                case .tooLarge: return seen + ["too large"]
                case .skipped: seen.append("skipped")
                case .endpoint(let place): seen.append("endpoint \(String(buffer: place))")
                case .message(let message): seen.append(String(buffer: message))
                }
            }
        }
        let body = reader.end()
        return body.readableBytes > 0 ? seen + ["end \(String(buffer: body))"] : seen
    }

    @Test(
        "A stream gives its messages, its place for messages and what is skipped, however it is cut",
        arguments: 1...9
    )
    func events(pieces: Int) {
        let text = """
            event: endpoint
            data: /m

            : c

            data: {"a":
            data: 1}

            event: ping
            data: x

            id: 7
            retry: 300
            data:

            event: message
            data: {}

            data: cut
            """
        #expect(
            Self.read(text, as: .events, pieces: pieces) == ["endpoint /m", "{\"a\":\n1}", "skipped", "skipped", "{}"]
        )
    }

    @Test("A body is what came when the answer ends", arguments: 1...9)
    func whole(pieces: Int) {
        #expect(Self.read(#"{"id":1}"#, as: .whole, pieces: pieces) == [#"end {"id":1}"#])
        #expect(Self.read("", as: .whole, pieces: pieces) == [])
    }

    @Test("A body, an event and a stream are given up above their bounds, and not at them")
    func bounds() {
        let body = String(repeating: "x", count: 10)
        #expect(Self.read(body, as: .whole, pieces: 3, bounds: .init(event: 1, body: 10)) == ["end \(body)"])
        #expect(Self.read(body, as: .whole, pieces: 3, bounds: .init(event: 99, body: 9)) == ["too large"])
        let event = "data: \(body)\n\n"
        let length = event.utf8.count
        #expect(Self.read(event, as: .events, pieces: 3, bounds: .init(event: length)) == [body])
        #expect(Self.read(event, as: .events, pieces: 3, bounds: .init(event: 10)) == ["too large"])
        #expect(Self.read(event, as: .events, pieces: 3, bounds: .init(event: length, stream: length)) == [body])
        #expect(
            Self.read(event + event, as: .events, pieces: 3, bounds: .init(event: length, stream: length))
                == [body, "too large"]
        )
    }

    @Test("Where a stream can be taken up again survives its end, also from events that are skipped")
    func resumption() {
        let ledger = BufferLedger(total: Gauge(), limit: 1_000_000)
        var reader = MessageReader(.init(event: 1_000), in: ledger, after: Resumption())
        reader.begin(.events)
        reader.append(ByteBuffer(string: "id: 7\nretry: 300\ndata:\n\n"))
        while case .skipped = reader.next() {}
        reader.begin(.events)
        #expect(reader.resumption?.lastEventID.map { String(buffer: $0) } == "7")
        #expect(reader.resumption?.lastRetry == .milliseconds(300))
    }
}
