// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Which of many items has been idle longest, in each of many lists.
///
/// Pure. Items and lists are numbers from 0 on, given out by whoever keeps them; an item is in one list at most. Every
/// change and every question costs the same however many items there are, so that they can be asked under a lock that
/// all requests take.
struct IdleOrder: Sendable {
    /// An item's place in its list; `none` where there is nothing on that side.
    private struct Link: Sendable {
        var list = IdleOrder.none
        var before = IdleOrder.none
        var after = IdleOrder.none
    }

    private struct Ends: Sendable {
        var first = IdleOrder.none
        var last = IdleOrder.none
    }

    private static let none = -1

    private var links: [Link] = []
    private var lists: [Ends] = []
    /// Lists that were given back.
    private var freeLists: [Int] = []

    /// The number of a list that is empty.
    mutating func makeList() -> Int {
        if let list = self.freeLists.popLast() { return list }
        self.lists.append(Ends())
        return self.lists.count - 1
    }

    /// Gives a list back that is empty.
    mutating func removeList(_ list: Int) { self.freeLists.append(list) }

    /// The item of a list that has been idle longest; nil if the list is empty.
    func first(of list: Int) -> Int? {
        let first = self.lists[list].first
        return first == Self.none ? nil : first
    }

    /// An item became idle; it is in no list yet.
    mutating func append(_ item: Int, to list: Int) {
        while self.links.count <= item { self.links.append(Link()) }
        let last = self.lists[list].last
        self.links[item] = Link(list: list, before: last, after: Self.none)
        if last == Self.none { self.lists[list].first = item } else { self.links[last].after = item }
        self.lists[list].last = item
    }

    /// An item is idle no more; does nothing if it is in no list.
    mutating func remove(_ item: Int) {
        guard self.links.indices.contains(item) else { return }
        let link = self.links[item]
        guard link.list != Self.none else { return }
        self.links[item] = Link()
        if link.before == Self.none {
            self.lists[link.list].first = link.after
        } else {
            self.links[link.before].after = link.after
        }
        if link.after == Self.none {
            self.lists[link.list].last = link.before
        } else {
            self.links[link.after].before = link.before
        }
    }
}
