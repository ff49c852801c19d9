// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayTestRandom
import GatewayWire
import Testing

@Suite("Name patterns")
struct NamePatternTests {
    @Test("A text without a star is no pattern", arguments: ["", "delete", "del?te", "[a-z]", "a\\"])
    func plain(text: String) {
        #expect(NamePattern(text) == nil)
    }

    @Test(
        "A star stands for any characters, or none, and everything else for itself",
        arguments: [
            ("*", ["", "a", "*", "a\nb", "ж"], []), ("**", ["", "a"], []),
            ("delete_*", ["delete_", "delete_all", "delete_*"], ["delete", "Delete_all", "undelete_all", ""]),
            ("*_file", ["_file", "read_file"], ["file", "read_files", "_file "]),
            ("*admin*", ["admin", "an_admin_tool", "adminadmin"], ["admi", "dmin", "a.d.m.i.n"]),
            ("a*b*c", ["abc", "a-b-c", "abbcc", "acbc"], ["ac", "acb", "ab", "cba", "abcd"]),
            ("a*a", ["aa", "aba", "aaa"], ["a", "ab", ""]), ("ab*ba", ["abba", "abxba"], ["aba", "ab", "ba"]),
            ("*aab*", ["aaab", "aaaaab", "xaabx"], ["abab", "aa", "aba"]),
            ("*a*a*a*", ["aaa", "xaxaxax"], ["aa", "xaxax"]), ("a.*", ["a.", "a.b"], ["ab", "a"]),
            ("grün_*", ["grün_x", "gru\u{308}n_x"], ["grun_x"]), ("*é", ["cafe\u{301}", "é"], ["cafe"]),
            ("delete_*", ["delete_\u{301}x"], []), ("*\u{301}", ["e\u{301}"], ["e"]),
        ] as [(String, [String], [String])]
    )
    func matches(pattern: String, names: [String], others: [String]) throws {
        let made = try #require(NamePattern(pattern))
        for name in names { #expect(made.matches(name), "\(name)") }
        for name in others { #expect(!made.matches(name), "\(name)") }
    }

    @Test("Any pattern says what the definition says, character by character", arguments: 0..<UInt64(20))
    func random(seed: UInt64) throws {
        var random = SplitMix(seed: seed)
        for _ in 0..<500 {
            let pattern = Self.text(of: "ab*", upTo: 8, &random) + "*"
            let name = Self.text(of: "ab", upTo: 12, &random)
            let expected = Self.isMatch(Array(pattern)[...], Array(name)[...])
            #expect(try #require(NamePattern(pattern)).matches(name) == expected, "\(pattern) \(name)")
        }
    }

    @Test("A long name is looked at once, whatever the pattern", .timeLimit(.minutes(1)))
    func linear() throws {
        let name = String(repeating: "a", count: 100_000)
        let pattern = String(repeating: "a", count: 1_000) + "b"
        #expect(try !#require(NamePattern("*\(pattern)*\(pattern)*")).matches(name))
        #expect(try !#require(NamePattern(String(repeating: "*a", count: 1_000) + "*b")).matches(name))
        #expect(try #require(NamePattern(String(repeating: "*a", count: 1_000) + "*")).matches(name))
    }

    private static func text(of letters: String, upTo length: Int, _ random: inout SplitMix) -> String {
        let letters = Array(letters)
        return String(
            (0..<Int.random(in: 0...length, using: &random))
                .map { _ in
                    letters[Int.random(in: 0..<letters.count, using: &random)]
                }
        )
    }

    /// The definition, in a time that may double with every star.
    private static func isMatch(_ pattern: ArraySlice<Character>, _ name: ArraySlice<Character>) -> Bool {
        guard let first = pattern.first else { return name.isEmpty }
        if first != "*" { return name.first == first && Self.isMatch(pattern.dropFirst(), name.dropFirst()) }
        return Self.isMatch(pattern.dropFirst(), name)
            || !name.isEmpty && Self.isMatch(pattern, name.dropFirst())
    }
}
