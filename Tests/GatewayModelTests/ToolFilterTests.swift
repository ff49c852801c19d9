// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@Suite("Tool filter") struct ToolFilterTests {
    @Test(
        "Names and patterns decide together who is shown",
        arguments: [
            (.block, ["delete_*", "drop"], ["delete", "dropped", "read"], ["delete_all", "drop"]),
            (.allow, ["*"], ["anything", "", "*"], []), (.block, ["*"], [], ["anything"]),
            (.allow, ["read_*", "list"], ["read_file", "list"], ["write", "lists"]), (.allow, [], [], ["a"]),
            (.block, [], ["a"], []), (.block, ["DELETE_*"], ["delete_all"], ["DELETE_all"]),
        ] as [(ToolFilter.Mode, [String], [String], [String])]
    )
    func admits(mode: ToolFilter.Mode, names: [String], shown: [String], hidden: [String]) {
        let filter = ToolFilter(mode: mode, names: names)
        var matches = filter.noMatches
        for name in shown { #expect(filter.admits(name) && filter.admits(name, noting: &matches), "\(name)") }
        for name in hidden { #expect(!filter.admits(name) && !filter.admits(name, noting: &matches), "\(name)") }
    }

    @Test("Entries are kept once, and patterns are counted")
    func entries() {
        let filter = ToolFilter(mode: .block, names: ["b", "a*", "b", "*"])
        #expect(filter.entries == ["*", "a*", "b"])
        #expect(filter.patternCount == 2)
        #expect(filter == ToolFilter(mode: .block, names: Set(["*", "a*", "b"])))
    }
}

@Suite("Entries of a tool filter that match nothing") struct ToolFilterCoverageTests {
    private let filter = ToolFilter(mode: .block, names: ["delete_*", "drop", "wipe"])
    private var coverage: ToolFilterCoverage

    init() {
        self.coverage = ToolFilterCoverage(self.filter)
    }

    private mutating func page(_ tools: [String], after cursor: String? = nil, next: String? = nil) -> [String]? {
        var matches = self.filter.noMatches
        for tool in tools { _ = self.filter.admits(tool, noting: &matches) }
        return self.coverage.read(matches, of: self.filter, cursor: cursor, next: next)
    }

    @Test("A whole list says which they are, once for each set of them")
    mutating func whole() {
        #expect(self.coverage.unmatched == nil)
        #expect(self.page(["delete_all", "read"]) == ["drop", "wipe"])
        #expect(self.page(["delete_all", "other"]) == nil)
        #expect(self.page(["delete_all", "drop"]) == ["wipe"])
        #expect(self.page(["delete_all", "drop", "wipe"]) == nil)
        #expect(self.coverage.unmatched == [])
        #expect(self.page([]) == ["delete_*", "drop", "wipe"])
        #expect(self.coverage.unmatched == ["delete_*", "drop", "wipe"])
    }

    @Test("Pages count together, and nothing is said before the last one")
    mutating func pages() {
        #expect(self.page(["delete_all"], next: "2") == nil)
        #expect(self.page(["drop"], after: "2", next: "3") == nil)
        #expect(self.coverage.unmatched == nil)
        #expect(self.page(["read"], after: "3", next: "") == ["wipe"])
    }

    @Test("A page that does not follow the one before says nothing, and neither does a list that it cuts short")
    mutating func interrupted() {
        #expect(self.page(["read"], after: "7") == nil)
        #expect(self.page(["delete_all"], next: "2") == nil)
        #expect(self.page(["drop"], after: "9") == nil)
        #expect(self.page(["wipe"], next: "2") == nil)
        #expect(self.page([], after: "2") == ["delete_*", "drop"])
        #expect(self.page([], after: "2") == nil)
    }
}
