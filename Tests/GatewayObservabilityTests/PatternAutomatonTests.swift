// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayTestRandom
import Testing

@testable import GatewayObservability

@Suite("Pattern automaton") struct PatternAutomatonTests {
    static func matches(_ patterns: [String], in text: String, isCut: Bool = false) -> [Range<Int>] {
        PatternAutomaton(patterns.map { Array($0.utf8) }).matches(in: text.utf8.span, isCut: isCut)
    }

    struct Case: CustomTestStringConvertible {
        var patterns: [String]
        var text: String
        var expected: [Range<Int>]
        var testDescription: String { "\(self.patterns) in \(self.text)" }
    }

    @Test(
        "Every place that is part of any pattern is found",
        arguments: [
            Case(patterns: [], text: "anything", expected: []),
            Case(patterns: ["abc"], text: "", expected: []),
            Case(patterns: ["abc"], text: "ab", expected: []),
            Case(patterns: ["abc"], text: "abc", expected: [0..<3]),
            Case(patterns: ["abc"], text: "xabcx", expected: [1..<4]),
            Case(patterns: ["abc"], text: "ababc", expected: [2..<5]),
            Case(patterns: ["abc"], text: "abcabc", expected: [0..<6]),
            Case(patterns: ["abc"], text: "abc abc", expected: [0..<3, 4..<7]),
            Case(patterns: ["abcdef", "cd"], text: "abcdef", expected: [0..<6]),
            Case(patterns: ["abcdef", "cd"], text: "abcdex", expected: [2..<4]),
            Case(patterns: ["abcd", "cdef"], text: "abcdef", expected: [0..<6]),
            Case(patterns: ["abcd", "bc"], text: "abcx", expected: [1..<3]),
            Case(patterns: ["aaaa"], text: "aaaaaaa", expected: [0..<7]),
            Case(patterns: ["she", "he", "hers"], text: "ushers", expected: [1..<6]),
            Case(patterns: ["ab", "ab"], text: "ab", expected: [0..<2]),
            Case(patterns: ["a"], text: "a", expected: []),
        ]
    )
    func table(_ example: Case) {
        #expect(Self.matches(example.patterns, in: example.text) == example.expected)
    }

    @Test(
        "At a cut, an end that begins a pattern is found as well",
        arguments: [
            ("xxabc", [2..<5]), ("xxa", [2..<3]), ("xxb", []), ("abcd", [0..<4]), ("abcdab", [0..<6]), ("", []),
        ]
    )
    func cut(text: String, expected: [Range<Int>]) {
        #expect(Self.matches(["abcd"], in: text, isCut: true) == expected)
    }

    /// What a slow search finds: each place where each pattern begins, joined.
    static func slow(_ patterns: [[UInt8]], in text: [UInt8]) -> [Range<Int>] {
        patterns
            .flatMap { pattern in
                text.indices.filter { text[$0...].starts(with: pattern) }.map { $0..<($0 + pattern.count) }
            }
            .merged()
    }

    @Test("It finds what a slow search finds, with few letters and many", arguments: [2, 3, 26, 256], 0..<20)
    func agreesWithModel(letters: Int, seed: Int) {
        var generator = SplitMix(seed: UInt64(letters * 1000 + seed))
        func bytes(_ count: Int) -> [UInt8] {
            (0..<count).map { _ in UInt8.random(in: 0...UInt8(letters - 1), using: &generator) }
        }
        let patterns = (0..<40).map { _ in bytes(Int.random(in: 2...6, using: &generator)) }
        let automaton = PatternAutomaton(patterns)
        for _ in 0..<20 {
            let text = bytes(Int.random(in: 0...80, using: &generator))
            #expect(automaton.matches(in: text.span, isCut: false) == Self.slow(patterns, in: text))
        }
    }

    @Test("Patterns that begin alike share their nodes")
    func compact() {
        #expect(PatternAutomaton([Array("abcd".utf8), Array("abce".utf8)]).size == 6)
    }
}
