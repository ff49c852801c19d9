// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// An entry of a filter that matches no tool is most often a name that was misspelt, or that the server has changed: what it
// was to hide is shown. That can be said only of a whole list of tools. Callers fetch it, page by page, and several of them
// at the same time: only pages that follow each other count, from one that was asked for without a cursor to one that
// names no further one. A list that another one comes between is not judged; the next one is.

/// Finds the entries of a tool filter that match no tool, from the lists that callers fetch.
package struct ToolFilterCoverage: Sendable {
    /// The entries that match no tool of the last whole list; nil before there was one.
    package private(set) var unmatched: [String]?
    private var matches: ToolFilter.Matches
    /// A hash of the cursor of the page that would go on with `matches`; nil if there is none.
    private var awaited: Int?

    package init(_ filter: ToolFilter) {
        self.matches = filter.noMatches
    }

    /// Takes in one page of the list, and what its tools matched.
    ///
    /// `cursor` is what the page was asked for with, nil for the first; `next` is what it names for the page behind it, nil
    /// or empty if it is the last.
    ///
    /// - Returns: The entries that match nothing, if the list is complete, there are some, and they are others than before.
    package mutating func read(
        _ page: ToolFilter.Matches,
        of filter: ToolFilter,
        cursor: String?,
        next: String?
    ) -> [String]? {
        if let cursor {
            guard self.awaited == cursor.hashValue else { return nil }
            self.matches.isMatched = zip(self.matches.isMatched, page.isMatched).map { $0 || $1 }
        } else {
            self.matches = page
        }
        if let next, !next.isEmpty {
            self.awaited = next.hashValue
            return nil
        }
        self.awaited = nil
        let found = zip(filter.entries, self.matches.isMatched).filter { !$0.1 }.map(\.0)
        defer { self.unmatched = found }
        return found.isEmpty || found == self.unmatched ? nil : found
    }
}
