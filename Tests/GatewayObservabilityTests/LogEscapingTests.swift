// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayTestRandom
import Testing

@testable import GatewayObservability

@Suite("Escaping of log text") struct LogEscapingTests {
    static func escape(_ bytes: [UInt8], _ style: LogEscaping.Style, limit: Int = .max) -> String {
        var output: [UInt8] = []
        _ = LogEscaping.append(bytes.span, to: &output, limit: limit, style: style)
        return String(decoding: output, as: UTF8.self)
    }

    @Test(
        "Nothing that can end a line, colour a terminal or turn text round gets through",
        arguments: [
            ("plain text", "plain text"), ("é漢🙂", "é漢🙂"), ("\n", "\\n"), ("\r\n", "\\r\\n"), ("\t", "\\t"),
            ("\u{0}", "\\u0000"), ("\u{1b}[31m", "\\u001b[31m"), ("\u{7}", "\\u0007"), ("\u{7f}", "\\u007f"),
            ("\u{80}", "\\u0080"), ("\u{9b}31m", "\\u009b31m"), ("\u{9f}", "\\u009f"), ("\u{a0}", "\u{a0}"),
            ("\u{2027}", "\u{2027}"), ("\u{2028}", "\\u2028"), ("\u{2029}", "\\u2029"), ("\u{202a}", "\\u202a"),
            ("\u{202e}", "\\u202e"), ("\u{202f}", "\u{202f}"), ("\u{2065}", "\u{2065}"), ("\u{2066}", "\\u2066"),
            ("\u{2069}", "\\u2069"), ("\u{206a}", "\u{206a}"), ("\u{200e}", "\\u200e"), ("\u{200f}", "\\u200f"),
            ("\u{61c}", "\\u061c"), ("\u{feff}", "\\ufeff"),
        ]
    )
    func hidden(text: String, expected: String) {
        for style in [LogEscaping.Style.json, .quoted, .bare] {
            #expect(Self.escape(Array(text.utf8), style) == expected)
        }
    }

    @Test("Quotes and backslashes are escaped inside quotes only")
    func quotes() {
        let bytes = Array("\"\\".utf8)
        #expect(Self.escape(bytes, .json) == "\\\"\\\\")
        #expect(Self.escape(bytes, .quoted) == "\\\"\\\\")
        #expect(Self.escape(bytes, .bare) == "\"\\")
    }

    @Test(
        "A byte that is not part of well-formed UTF-8 is shown as what it is",
        arguments: [
            ([0x80], "\\x80"), ([0xff], "\\xff"), ([0xc3], "\\xc3"), ([0xc3, 0x28], "\\xc3("),
            ([0xc0, 0xaf], "\\xc0\\xaf"), ([0xc1, 0xbf], "\\xc1\\xbf"), ([0xe2, 0x82], "\\xe2\\x82"),
            ([0xe0, 0x9f, 0xbf], "\\xe0\\x9f\\xbf"), ([0xed, 0xa0, 0x80], "\\xed\\xa0\\x80"),
            ([0xf0, 0x8f, 0xbf, 0xbf], "\\xf0\\x8f\\xbf\\xbf"), ([0xf4, 0x90, 0x80, 0x80], "\\xf4\\x90\\x80\\x80"),
            ([0xf5, 0x80, 0x80, 0x80], "\\xf5\\x80\\x80\\x80"), ([0xf0, 0x9f, 0x99, 0x82], "🙂"),
            ([0xe2, 0x82, 0xac], "€"), ([0xed, 0x9f, 0xbf], "\u{d7ff}"), ([0xf4, 0x8f, 0xbf, 0xbf], "\u{10ffff}"),
        ] as [([UInt8], String)]
    )
    func malformed(bytes: [UInt8], expected: String) {
        #expect(Self.escape(bytes, .quoted) == expected)
        #expect(Self.escape(bytes, .json) == expected.replacing("\\x", with: "\\\\x"))
    }

    @Test("Escaping agrees with the standard library on what is well formed", arguments: 0..<40)
    func agreesWithStandardLibrary(seed: Int) {
        var generator = SplitMix(seed: UInt64(seed))
        let interesting: [UInt8] = [0x41, 0x7f, 0x80, 0xa0, 0xbf, 0xc2, 0xe0, 0xe2, 0xed, 0xef, 0xf0, 0xf3, 0xf4, 0xf5]
        for _ in 0..<200 {
            let bytes = (0..<6).map { _ in interesting.randomElement(using: &generator) ?? 0 }
            let hasBadByte = Self.escape(bytes, .bare).contains("\\x")
            #expect(hasBadByte == (String(validating: bytes, as: UTF8.self) == nil))
        }
    }

    @Test("A text is cut between characters, wherever the limit is", arguments: 0...20)
    func cut(limit: Int) {
        let text = Array("aé€🙂\n\u{1b}z".utf8)
        let units = ["a", "é", "€", "🙂", "\\n", "\\u001b", "z"]
        var expected = ""
        for unit in units {
            if (expected + unit).utf8.count > limit { break }
            expected += unit
        }
        #expect(Self.escape(text, .json, limit: limit) == expected)
    }

    @Test(
        "A value without quotes has nothing in it that separates",
        arguments: [
            ("abc", true), ("a/b:c", true), ("", false), ("a b", false), ("a=b", false), ("a\"b", false),
            ("a\\b", false), ("é", false), ("a\n", false), ("\u{7f}", false),
        ]
    )
    func bare(text: String, expected: Bool) {
        #expect(LogEscaping.isBare(text.utf8.span) == expected)
    }
}
