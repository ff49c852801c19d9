// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire

/// `options.toolFilter`: which tools callers see and may call.
///
/// An entry is a name, compared decoded and exactly, or a pattern with `*` for any run of characters.
package struct ToolFilter: Hashable, Sendable {
    package enum Mode: String, Sendable {
        case allow
        case block
    }

    /// Which entries were seen to match a tool, in the order of ``entries``.
    package struct Matches: Hashable, Sendable {
        package internal(set) var isMatched: [Bool]
    }

    private struct Pattern: Hashable, Sendable {
        let place: Int
        let pattern: NamePattern
    }

    package let mode: Mode
    /// Names and patterns, sorted, each once.
    package let entries: [String]
    /// Each name that is no pattern, with its place in `entries`.
    private let places: [String: Int]
    private let patterns: [Pattern]

    package init(mode: Mode, names: some Sequence<String>) {
        let entries = Set(names).sorted()
        self.mode = mode
        self.entries = entries
        self.patterns = entries.enumerated()
            .compactMap { place, entry in NamePattern(entry).map { Pattern(place: place, pattern: $0) } }
        self.places = Dictionary(
            entries.enumerated().filter { NamePattern($0.element) == nil }.map { ($0.element, $0.offset) },
            uniquingKeysWith: { first, _ in first }
        )
    }

    /// How many entries are patterns.
    package var patternCount: Int { self.patterns.count }

    /// No entry has matched yet.
    package var noMatches: Matches { Matches(isMatched: Array(repeating: false, count: self.entries.count)) }

    /// Whether a tool of this name is shown and may be called.
    package func admits(_ name: String) -> Bool {
        let isListed =
            self.places[name] != nil
            || !self.patterns.isEmpty && self.patterns.contains { $0.pattern.matches(name) }
        return isListed == (self.mode == .allow)
    }

    /// The same, noting in `matches` which entries are about this tool.
    package func admits(_ name: String, noting matches: inout Matches) -> Bool {
        var isListed = false
        if let place = self.places[name] {
            isListed = true
            matches.isMatched[place] = true
        }
        for pattern in self.patterns where pattern.pattern.matches(name) {
            isListed = true
            matches.isMatched[pattern.place] = true
        }
        return isListed == (self.mode == .allow)
    }
}
