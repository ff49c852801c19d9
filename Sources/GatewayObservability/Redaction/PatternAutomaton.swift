// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// Finds any of many byte strings in one pass (A. Aho, M. Corasick, Efficient String Matching, CACM 18(6), 1975). The time
// is linear in the text whatever the text is, so that no peer can make a log line dear.
//
// The table is compact: one node of 24 bytes for each byte of a pattern, children as linked siblings, and a row of 256
// only for the few nodes with many children. Most of a text begins no pattern: at the root a bitmap of the first two
// bytes of all patterns is asked first.

/// A set of byte strings to be found, each of two bytes and more.
struct PatternAutomaton: Sendable {
    private struct Node {
        /// The byte on the edge to this node.
        var byte: UInt8 = 0
        /// The first child and the next child of the same parent; 0: none.
        var firstChild: UInt32 = 0
        var nextSibling: UInt32 = 0
        /// The index of its row, from 1; 0: the children are only linked.
        var row: UInt32 = 0
        /// The node of the longest proper suffix of this one that begins a pattern.
        var failure: UInt32 = 0
        /// Bytes from the root.
        var depth: UInt32 = 0
        /// The length of the longest pattern that ends here; 0: none does.
        var matched: UInt32 = 0
    }

    /// Children from which on a node has a row.
    private static let wide = 8

    /// The root is 0.
    private var nodes: [Node] = [Node()]
    /// 256 entries for each row; the first row is the root's.
    private var rows: [UInt32] = []
    /// 65,536 bits: whether two bytes begin a pattern.
    private var pairs = [UInt64](repeating: 0, count: 1024)

    /// Patterns of fewer than two bytes are left out.
    init(_ patterns: some Sequence<[UInt8]>) {
        for pattern in patterns where pattern.count >= 2 {
            self.insert(pattern)
        }
        self.link()
    }

    /// The number of nodes: what the table costs, times 24 bytes.
    var size: Int { self.nodes.count }

    /// Where patterns are: ranges in rising order that neither overlap nor touch.
    ///
    /// A pattern inside another, or patterns that overlap, give one range. With `isCut` the text goes on behind its end,
    /// and an end that begins a pattern counts as one.
    func matches(in text: Span<UInt8>, isCut: Bool) -> [Range<Int>] {
        guard self.nodes.count > 1 else { return [] }
        var found: [Range<Int>] = []
        var state = 0
        var index = 0
        let count = text.count
        while index < count {
            if state == 0 {
                while index + 1 < count && !self.begins(text[index], text[index + 1]) { index += 1 }
                if index + 1 >= count && !isCut { break }
            }
            let byte = text[index]
            index += 1
            var next = self.child(of: state, byte)
            while next == 0 && state != 0 {
                state = Int(self.nodes[state].failure)
                next = self.child(of: state, byte)
            }
            state = next
            let matched = Int(self.nodes[state].matched)
            if matched > 0 { found.appendMerging((index - matched)..<index) }
        }
        let depth = Int(self.nodes[state].depth)
        if isCut && depth > 0 { found.appendMerging((count - depth)..<count) }
        return found
    }

    private func begins(_ first: UInt8, _ second: UInt8) -> Bool {
        self.pairs[Int(first) << 2 | Int(second) >> 6] & (1 << UInt64(second & 63)) != 0
    }

    /// The child of a node on a byte; 0: none.
    private func child(of node: Int, _ byte: UInt8) -> Int {
        let row = Int(self.nodes[node].row)
        if row != 0 { return Int(self.rows[(row - 1) << 8 | Int(byte)]) }
        var child = Int(self.nodes[node].firstChild)
        while child != 0 && self.nodes[child].byte != byte { child = Int(self.nodes[child].nextSibling) }
        return child
    }

    private mutating func insert(_ pattern: [UInt8]) {
        self.pairs[Int(pattern[0]) << 2 | Int(pattern[1]) >> 6] |= 1 << UInt64(pattern[1] & 63)
        var state = 0
        for byte in pattern {
            var next = self.child(of: state, byte)
            if next == 0 {
                next = self.nodes.count
                self.nodes.append(
                    Node(
                        byte: byte,
                        nextSibling: self.nodes[state].firstChild,
                        depth: self.nodes[state].depth + 1
                    )
                )
                self.nodes[state].firstChild = UInt32(next)
            }
            state = next
        }
        self.nodes[state].matched = self.nodes[state].depth
    }

    /// Makes the rows, and the failure of each node from that of its parent, level by level.
    private mutating func link() {
        var queue = [0]
        var head = 0
        while head < queue.count {
            let parent = queue[head]
            head += 1
            var children: [Int] = []
            var child = Int(self.nodes[parent].firstChild)
            while child != 0 {
                children.append(child)
                child = Int(self.nodes[child].nextSibling)
            }
            if children.count >= Self.wide || parent == 0 {
                let row = self.rows.count
                self.rows.append(contentsOf: repeatElement(0, count: 256))
                for child in children { self.rows[row + Int(self.nodes[child].byte)] = UInt32(child) }
                self.nodes[parent].row = UInt32(row >> 8 + 1)
            }
            for child in children where parent != 0 {
                var failure = Int(self.nodes[parent].failure)
                var target = self.child(of: failure, self.nodes[child].byte)
                while target == 0 && failure != 0 {
                    failure = Int(self.nodes[failure].failure)
                    target = self.child(of: failure, self.nodes[child].byte)
                }
                self.nodes[child].failure = UInt32(target)
                self.nodes[child].matched = max(self.nodes[child].matched, self.nodes[target].matched)
            }
            queue.append(contentsOf: children)
        }
    }
}

extension [Range<Int>] {
    /// Appends a range that ends at or behind all others, joined with those that it overlaps or touches.
    mutating func appendMerging(_ range: Range<Int>) {
        var lower = range.lowerBound
        while let last = self.last, last.upperBound >= lower {
            lower = Swift.min(lower, last.lowerBound)
            self.removeLast()
        }
        self.append(lower..<range.upperBound)
    }

    /// The same positions as ranges in rising order that neither overlap nor touch.
    func merged() -> [Range<Int>] {
        var result: [Range<Int>] = []
        for range in self.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = result.last, last.upperBound >= range.lowerBound {
                result[result.count - 1] = last.lowerBound..<Swift.max(last.upperBound, range.upperBound)
            } else {
                result.append(range)
            }
        }
        return result
    }
}
