// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A pattern for names: each `*` in it stands for any run of characters, also for none; everything else for itself.
///
/// The pieces between the stars are looked for one after the other, each where it stands first, and what was passed over
/// is never looked at again: the time is linear in the name, whatever the pattern is. There is no way to write a star that
/// stands only for itself.
package struct NamePattern: Hashable, Sendable {
    /// The pattern as it was written.
    package let text: String
    private let bytes: Pieces<UInt8>
    /// The same in characters, which compare by canonical equivalence as names do everywhere else; nil for a pattern in
    /// ASCII, of which the bytes say everything.
    private let characters: Pieces<Character>?

    /// Reads a pattern; nil if there is no star in it.
    package init?(_ text: String) {
        guard let bytes = Pieces(Array(text.utf8), star: UInt8(ascii: "*")) else { return nil }
        self.text = text
        self.bytes = bytes
        self.characters = text.utf8.allSatisfy { $0 < 0x80 } ? nil : Pieces(Array(text), star: "*")
    }

    /// Whether the whole name is one that the pattern stands for.
    package func matches(_ name: String) -> Bool {
        self.bytes.matches(Array(name.utf8)) || self.characters?.matches(Array(name)) == true
    }
}

/// What stands before, between and behind the stars.
private struct Pieces<Element: Hashable & Sendable>: Hashable, Sendable {
    private let start: [Element]
    private let middle: [Piece]
    private let end: [Element]

    init?(_ text: [Element], star: Element) {
        let parts = text.split(separator: star, omittingEmptySubsequences: false)
        guard parts.count > 1, let start = parts.first, let end = parts.last else { return nil }
        self.start = Array(start)
        self.end = Array(end)
        self.middle = parts.dropFirst().dropLast().filter { !$0.isEmpty }.map { Piece(Array($0)) }
    }

    func matches(_ name: [Element]) -> Bool {
        guard name.count >= self.start.count + self.end.count, name.starts(with: self.start),
            name.suffix(self.end.count).elementsEqual(self.end)
        else { return false }
        var rest = name.dropFirst(self.start.count).dropLast(self.end.count)
        for piece in self.middle {
            guard let end = piece.firstEnd(in: rest) else { return false }
            rest = rest[end...]
        }
        return true
    }

    /// A text to look for, as Knuth, Morris and Pratt do: no element of the other text is looked at twice.
    private struct Piece: Hashable, Sendable {
        private let elements: [Element]
        /// For each beginning, by its length less one: the length of the longest shorter beginning that it ends with.
        private let fallbacks: [Int]

        /// `elements` is not empty.
        init(_ elements: [Element]) {
            var fallbacks = [0]
            var length = 0
            for element in elements.dropFirst() {
                while length > 0, elements[length] != element { length = fallbacks[length - 1] }
                if elements[length] == element { length += 1 }
                fallbacks.append(length)
            }
            self.elements = elements
            self.fallbacks = fallbacks
        }

        /// Where the piece ends that stands first in `text`; nil if there is none.
        func firstEnd(in text: ArraySlice<Element>) -> Int? {
            var length = 0
            for (index, element) in zip(text.indices, text) {
                while length > 0, self.elements[length] != element { length = self.fallbacks[length - 1] }
                if self.elements[length] == element { length += 1 }
                if length == self.elements.count { return index + 1 }
            }
            return nil
        }
    }
}
