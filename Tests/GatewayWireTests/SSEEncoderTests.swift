// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Event stream encoder")
struct SSEEncoderTests {
    private func event(type: String? = nil, id: String? = nil, _ data: String) -> String {
        var output: [UInt8] = []
        let bytes = Array(data.utf8)
        SSEEncoder.append(type: type, id: id, data: bytes.span, to: &output)
        return String(decoding: output, as: UTF8.self)
    }

    @Test("An event is written with its fields and a blank line")
    func writesEvents() {
        #expect(self.event("{}") == "data: {}\n\n")
        #expect(self.event(type: "endpoint", id: "1-2", "/x") == "event: endpoint\nid: 1-2\ndata: /x\n\n")
        #expect(self.event(id: "", "") == "id: \ndata: \n\n")
    }

    @Test(
        "Every line of data is a field of its own",
        arguments: [
            ("a\nb", "data: a\ndata: b\n\n"), ("a\r\nb\rc", "data: a\ndata: b\ndata: c\n\n"),
            ("\n", "data: \ndata: \n\n"),
            ("a\n\n", "data: a\ndata: \ndata: \n\n"), ("\r\r\n", "data: \ndata: \ndata: \n\n"),
        ]
    )
    func splitsData(_ data: String, _ expected: String) {
        #expect(self.event(data) == expected)
    }

    @Test(
        "An id or type that would break the stream is left out",
        arguments: ["a\nb", "a\rb", "a\u{0}b", "\n", "a\r\n\r\ndata: x"]
    )
    func leavesOutBrokenFields(_ value: String) {
        #expect(self.event(type: value, id: value, "x") == "data: x\n\n")
    }

    @Test("Comments and reconnection times are blocks that carry no event")
    func writesCommentsAndRetry() {
        var output: [UInt8] = []
        SSEEncoder.append(comment: "keep-alive", to: &output)
        SSEEncoder.append(comment: "two\nlines\r\n", to: &output)
        SSEEncoder.append(retryMilliseconds: 1500, to: &output)
        SSEEncoder.append(retryMilliseconds: -5, to: &output)
        #expect(
            String(decoding: output, as: UTF8.self)
                == ": keep-alive\n: two\n: lines\n: \nretry: 1500\n\nretry: 0\n\n"
        )
    }
}
