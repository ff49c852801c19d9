// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Challenges of a refusal") struct AuthChallengesTests {
    struct Case: CustomTestStringConvertible {
        var name: String
        var lines: [String]
        var error: String?
        var isEmpty = false
        var testDescription: String { self.name }
    }

    static func read(_ lines: [String]) -> AuthChallenges {
        var challenges = AuthChallenges()
        for line in lines { challenges.read(line.utf8) }
        return challenges
    }

    static let cases: [Case] = [
        Case(name: "no line", lines: [], isEmpty: true),
        Case(name: "an empty line", lines: [""], isEmpty: true),
        Case(name: "no parameters", lines: ["Bearer"]),
        Case(name: "token", lines: ["Bearer error=invalid_token"], error: "invalid_token"),
        Case(
            name: "W01",
            lines: [#"Bearer realm="x", error="insufficient_scope", scope="a b""#],
            error: "insufficient_scope"
        ),
        Case(
            name: "W04",
            lines: [#"Basic realm="x""#, "Bearer error=insufficient_scope"],
            error: "insufficient_scope"
        ),
        Case(
            name: "W04 in one line",
            lines: [#"Basic realm="x", Bearer error=insufficient_scope"#],
            error: "insufficient_scope"
        ),
        Case(
            name: "the Bearer challenge first",
            lines: [#"Bearer error="invalid_token", Basic realm="x""#],
            error: "invalid_token"
        ),
        Case(name: "three lines", lines: ["Negotiate", "NTLM", #"Bearer error="a""#], error: "a"),
        Case(name: "the error of another scheme", lines: [#"Bearer realm="x", Digest error="invalid_token""#]),
        Case(name: "the error of another scheme only", lines: [#"DPoP error="invalid_token", algs="ES256""#]),
        Case(
            name: "the error of another line's scheme",
            lines: [#"Bearer realm="x""#, #"Digest error="invalid_token""#]
        ),
        Case(name: "two errors", lines: [#"Bearer error="one", error="two""#], error: "one"),
        Case(name: "two Bearer challenges", lines: ["Bearer error=one, Bearer error=two"], error: "one"),
        Case(name: "the second Bearer challenge has it", lines: ["Bearer realm=x, Bearer error=two"], error: "two"),
        Case(
            name: "letter case",
            lines: [#"bEaReR ReAlM="x", ERROR="Insufficient_Scope""#],
            error: "insufficient_scope"
        ),
        Case(
            name: "words inside a quoted string",
            lines: [#"Bearer realm="a, Bearer error=wrong, b=", error="right""#],
            error: "right"
        ),
        Case(
            name: "escapes in a quoted string",
            lines: [#"Bearer realm="a\", error=\"wrong\", \\", error="in\valid\_token""#],
            error: "invalid_token"
        ),
        Case(
            name: "an escaped quote in the value",
            lines: [#"Bearer error="a\"b\\c""#],
            error: #"a"b\c"#
        ),
        Case(name: "blanks around the sign", lines: ["Bearer  error \t= \t\"a\" , scope=b"], error: "a"),
        Case(name: "blanks around it all", lines: [" \t Bearer error=a \t"], error: "a"),
        Case(name: "empty elements", lines: [", ,Bearer ,, error=a,,"], error: "a"),
        Case(name: "empty elements between challenges", lines: [", , Basic realm=x,,, Bearer error=a,,"], error: "a"),
        Case(name: "no comma between parameters", lines: [#"Bearer realm="x" error="a""#], error: "a"),
        Case(name: "an empty error", lines: [#"Bearer error="""#], error: ""),
        Case(name: "an error without a value", lines: [#"Bearer error=, scope="a""#]),
        Case(name: "error_description is not error", lines: [#"Bearer error_description="expired""#]),
        Case(name: "token68", lines: ["Negotiate oYG2MIGzoAMKAQChCwYJ/+~.=="]),
        Case(name: "token68 before another", lines: ["Negotiate YII=, Bearer error=a"], error: "a"),
        Case(name: "token68 of Bearer", lines: ["Bearer abc==, Basic realm=x, error=wrong"]),
        Case(name: "a name and no scheme", lines: [#"realm="x""#], isEmpty: true),
        Case(name: "a quoted string and no scheme", lines: [#""Bearer error=a""#], isEmpty: true),
        Case(name: "only signs", lines: [",=,==\"\",;"], isEmpty: true),
        Case(name: "a quoted string without an end", lines: [#"Bearer error="abc"#], error: "abc"),
        Case(name: "a quote at the end", lines: [#"Bearer error=""#], error: ""),
        Case(name: "a backslash at the end", lines: [#"Bearer error="abc\"#], error: #"abc\"#),
        Case(name: "a sign at the end", lines: ["Bearer error="]),
    ]

    @Test("The error of the first Bearer challenge that has one is found", arguments: cases)
    func table(_ example: Case) {
        let challenges = Self.read(example.lines)
        #expect(challenges.bearerError == example.error)
        #expect(challenges.isEmpty == example.isEmpty)
    }

    @Test("An error of more than 64 characters is cut", arguments: [63, 64, 65, 1_000])
    func length(count: Int) {
        let challenges = Self.read(["Bearer error=\"" + String(repeating: "A", count: count) + "\""])
        #expect(challenges.bearerError == String(repeating: "a", count: min(count, 64)))
    }

    @Test("What stands behind the first 8 KiB of a line is not read", arguments: [(8_180, nil), (7_000, "a")])
    func lineLength(count: Int, expected: String?) {
        let challenges = Self.read(["Bearer realm=\"" + String(repeating: "x", count: count) + "\", error=a"])
        #expect(challenges.bearerError == expected)
        #expect(!challenges.isEmpty)
    }

    @Test("Bytes that are no text are passed over, in a value they are replaced")
    func noText() {
        var challenges = AuthChallenges()
        challenges.read([0xff, 0xfe, 0x00] + Array("Bearer\u{e9} error=\"a".utf8) + [0xff, 0x62, 0x22])
        #expect(challenges.bearerError == "a\u{fffd}b")
        #expect(!challenges.isEmpty)
    }

    @Test("Any bytes can be read, and neither what was found before nor what comes after is lost", arguments: 0..<20)
    func randomBytes(seed: UInt64) {
        var random = MessageGenerator(seed: seed)
        let pieces = ["Bearer", "bearer ", "error", "=", "\"", "\\", ",", " ", "\t", "a68==", "Basic", "\u{e9}", "\0"]
        var wrong = 0
        for _ in 0..<500 {
            var line: [UInt8] = []
            for _ in 0..<Int.random(in: 0..<30, using: &random) {
                if Int.random(in: 0..<4, using: &random) == 0 {
                    line.append(UInt8.random(in: 0...255, using: &random))
                } else {
                    line += Array((pieces.randomElement(using: &random) ?? "").utf8)
                }
            }
            var challenges = AuthChallenges()
            challenges.read(line)
            if challenges.bearerError != nil, challenges.isEmpty { wrong += 1 }
            if (challenges.bearerError?.count ?? 0) > 64 { wrong += 1 }
            challenges.read("Bearer error=last".utf8)
            if challenges.isEmpty || challenges.bearerError == nil { wrong += 1 }
            var known = Self.read(["Bearer error=first"])
            known.read(line)
            if known.bearerError != "first" || known.isEmpty { wrong += 1 }
        }
        #expect(wrong == 0)
    }
}
