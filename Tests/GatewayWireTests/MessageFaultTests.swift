// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("What is wrong with a line that is no message") struct MessageFaultTests {
    static let texts: [(line: String, fault: MessageFault)] = [
        // A greeting and log lines, also such as begin like JSON.
        ("Welcome to server 1.0!", .text), ("[INFO] Listening on stdio", .text),
        ("[2026-11-29 10:00:00] started", .text), ("\"quoted\" words", .text), ("42", .text), ("null", .text),
        ("<html>", .text), ("Content-Length: 42", .text), ("- item", .text), ("  at line 3", .text),
        // Colours, also in front of a message.
        ("\u{1b}[32mready\u{1b}[0m", .terminalCodes),
        (#"\#u{1b}[0m{"jsonrpc":"2.0","id":1,"result":{}}"#, .terminalCodes),
        // A message over several lines, line by line.
        ("{", .partOfJSON), (#"  "jsonrpc": "2.0","#, .partOfJSON), (#"  "id": 1,"#, .partOfJSON),
        ("\t\"result\": {", .partOfJSON), (#"  "a\"b" : ["#, .partOfJSON), ("    },", .partOfJSON),
        ("  ]", .partOfJSON), ("}", .partOfJSON), ("}, {", .partOfJSON), ("[", .partOfJSON),
        (#"{"jsonrpc": "2.0","#, .partOfJSON), (#"{"jsonrpc":"2.0","id":1,"result":{}} and more"#, .partOfJSON),
        // JSON of something else.
        (#"{"level":"info","msg":"started"}"#, .otherJSON), ("{}", .otherJSON), ("[]", .otherJSON),
        (" [1, 2] ", .otherJSON),
    ]

    static let encodings: [[UInt8]] = [
        // Latin-1 in a message, UTF-16 with and without its mark, colours in latin-1.
        Array(#"{"jsonrpc":"2.0","id":1,"result":{"text":"caf"#.utf8) + [0xe9, 0x22, 0x7d, 0x7d],
        [0xff, 0xfe, 0x7b, 0x00, 0x7d, 0x00],
        [0x7b, 0x00, 0x7d, 0x00],
        [0x1b, 0x5b, 0x33, 0x6d, 0xe4],
    ]

    @Test("Each kind is told from the others", arguments: 0..<texts.count)
    func table(index: Int) {
        let row = Self.texts[index]
        #expect(MessageFault(of: Array(row.line.utf8).span) == row.fault)
    }

    @Test(
        "A line that was to be a message has its first member",
        arguments: [
            (#"  "jsonrpc": "2.0","#, true), (#"\#u{1b}[0m{"jsonrpc":"2.0"}"#, true), (#""jsonrpc""#, true),
            (#"{"jsonrp""#, false), ("jsonrpc", false), ("", false), ("\"", false), (#""json"#, false),
        ]
    )
    func wasMessage(_ line: String, _ expected: Bool) {
        #expect(MessageFault.wasMessage(Array(line.utf8).span) == expected)
    }

    @Test("Text in another encoding is told from all of them", arguments: encodings)
    func encoding(line: [UInt8]) {
        #expect(MessageFault(of: line.span) == .notUTF8)
    }
}
