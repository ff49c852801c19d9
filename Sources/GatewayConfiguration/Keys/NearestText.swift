// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Finds what was meant by a misspelt word.
enum NearestText {
    /// The candidate with the smallest edit distance; nil if all are further than a third of their length.
    static func choose(for text: String, among candidates: [String]) -> String? {
        guard text.utf8.count <= 64 else { return nil }
        var best: (text: String, distance: Int)?
        for candidate in candidates {
            let distance = Self.distance(Array(text.lowercased().utf8), Array(candidate.lowercased().utf8))
            guard distance <= max(1, candidate.utf8.count / 3), distance < best?.distance ?? .max else { continue }
            best = (candidate, distance)
        }
        return best?.text
    }

    /// Insertions, deletions, replacements and swaps of neighbours that turn one into the other.
    static func distance(_ one: [UInt8], _ other: [UInt8]) -> Int {
        var beforeLast: [Int] = []
        var last = Array(0...other.count)
        for (row, byte) in one.enumerated() {
            var current = [row + 1]
            for (column, candidate) in other.enumerated() {
                var cost = min(last[column + 1] + 1, current[column] + 1, last[column] + (byte == candidate ? 0 : 1))
                if row > 0, column > 0, byte == other[column - 1], one[row - 1] == candidate {
                    cost = min(cost, beforeLast[column - 1] + 1)
                }
                current.append(cost)
            }
            beforeLast = last
            last = current
        }
        return last[other.count]
    }
}
