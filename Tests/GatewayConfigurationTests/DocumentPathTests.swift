// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayConfiguration

@Suite("Document path") struct DocumentPathTests {
    @Test(
        "Plain keys stand after dots, others in quotes, and nothing in them can disturb a terminal",
        arguments: [
            (["a", "b-c", "d_1"], "a.b-c.d_1"), (["a", "b.c"], #"a["b.c"]"#), (["a/b"], #"["a/b"]"#),
            (["a", ""], #"a[""]"#), (["é\"\\"], #"["é\"\\"]"#), (["\u{1b}[31m\u{202e}"], #"["\u{1b}[31m\u{202e}"]"#),
        ]
    )
    func shown(keys: [String], expected: String) {
        let path = keys.reduce(DocumentPath.root) { $0.appending(key: $1) }
        #expect(path.description == expected)
        #expect(path.appending(index: 3).description == expected + "[3]")
    }

    @Test("A long key is shown in part", arguments: [64, 65])
    func long(count: Int) {
        let path = DocumentPath.root.appending(key: String(repeating: "k", count: count)).description
        #expect(path.contains("…") == (count > 64))
        #expect(path.count < 70)
    }
}
