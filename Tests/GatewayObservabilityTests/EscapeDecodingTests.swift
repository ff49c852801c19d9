// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayObservability

@Suite("Decoding of escapes") struct EscapeDecodingTests {
    @Test(
        "Percent-encoding is undone where it is whole, and backslashes are left",
        arguments: [
            ("a%41b", "aAb"), ("%c3%A9", "é"), ("%25", "%"), ("%2525", "%25"), ("%4%41", "%4A"), ("\\n%41", "\\nA"),
            ("%", nil), ("%4", nil), ("%4g", nil), ("%g4", nil), ("a%", nil), ("", nil), ("plain\\n", nil),
        ] as [(String, String?)]
    )
    func percent(text: String, expected: String?) {
        let decoding = EscapeDecoding(text.utf8.span, undoing: .percent)
        #expect(decoding.map { String(decoding: $0.bytes, as: UTF8.self) } == expected)
    }

    @Test(
        "The escapes of a JSON string are undone where they are whole, and percent signs are left",
        arguments: [
            ("a\\\"b", "a\"b"), ("\\\\", "\\"), ("\\/", "/"), ("\\b\\f\\n\\r\\t", "\u{8}\u{c}\n\r\t"),
            ("\\u0041", "A"), ("\\u00e9", "é"), ("\\u20AC", "€"), ("\\x41", "A"), ("\\ud83d\\ude42!", "🙂!"),
            ("\\ud83d\\n", "\\ud83d\n"), ("\\n\\ud83d\\u0041", "\n\\ud83dA"), ("%41\\n", "%41\n"),
            ("\\\\n", "\\n"), ("\\", nil), ("\\q", nil), ("\\u12", nil), ("\\u12g4", nil), ("\\x4", nil),
            ("\\ud83d", nil), ("\\ude42", nil), ("%41", nil),
        ] as [(String, String?)]
    )
    func backslash(text: String, expected: String?) {
        let decoding = EscapeDecoding(text.utf8.span, undoing: .backslash)
        #expect(decoding.map { String(decoding: $0.bytes, as: UTF8.self) } == expected)
    }

    @Test("A range of what came out is the range of the escapes that it came from")
    func source() throws {
        let text = "ab\\u00e9\\ud83d\\ude42\\nz"
        let decoded = EscapeDecoding(text.utf8.span, undoing: .backslash)
        let decoding = try #require(decoded)
        #expect(decoding.bytes.count == 10)
        #expect(decoding.source(of: 0..<2) == 0..<2)
        #expect(decoding.source(of: 2..<4) == 2..<8)
        #expect(decoding.source(of: 4..<8) == 8..<20)
        #expect(decoding.source(of: 8..<10) == 20..<23)
        #expect(decoding.source(of: 0..<10) == 0..<23)
    }
}
