// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Who a session belongs to, and who answers for it.
package protocol SessionPrincipal: Hashable, Sendable {
    /// Who is behind a principal: its sessions are counted together, under however many principals it comes.
    associatedtype Owner: Hashable, Sendable
    /// Where sessions take up something of which there is little: an upstream.
    associatedtype Place: Hashable, Sendable

    var owner: Owner { get }
    var place: Place { get }
}

/// Who lives, who may come in and who has to go among the callers' sessions.
///
/// Pure: the clock comes in as `now`.
///
/// A session is found only by the principal that opened it: for anybody else it is as if it did not exist (faults S7.2).
/// At a cap the longest idle session of the *same* owner that has no call or stream makes room; never another's (faults
/// S7.5), except where an owner has more than its share of what a place has (``makeRoom(for:)``). A session in use never
/// expires.
///
/// A use begins and ends at the cost of one look-up, for that happens with every request. Which session has been idle
/// longest is only looked for where one has to go, among those of the owners concerned.
package struct SessionTable<Principal: SessionPrincipal, Payload: Sendable>: Sendable {
    /// A session that ended without its caller asking for it.
    package struct Ended: Sendable {
        package let id: SessionID
        package let payload: Payload
    }

    package enum Opening: Sendable {
        /// The session is in; `evicted` had to go for it.
        case opened(evicted: Ended?)
        /// Every session of the owner is in use, or the table is full of others'.
        case refused
    }

    private struct Entry: Sendable {
        var principal: Principal
        var payload: Payload
        /// Calls and streams that run.
        var uses = 0
        /// Whether there ever was one.
        var wasUsed = false
        /// Whether no more may begin.
        var isSealed = false
        /// When the last use ended, from any fixed origin.
        var lastUsed: Duration
    }

    private var entries: [SessionID: Entry] = [:]
    private var counts: [Principal.Owner: Int] = [:]
    private var places: [Principal.Place: [Principal.Owner: Set<SessionID>]] = [:]
    private let capacity: Int
    private let idleLimit: Duration
    private let unusedLimit: Duration

    /// A table for `capacity` sessions (`limits.sessions`), each gone after `idleLimit` (`limits.sessionIdle`).
    ///
    /// One that was never used after it was opened is gone after a minute: its caller did not come back, and the session
    /// may keep a process.
    package init(capacity: Int, idleLimit: Duration) {
        self.capacity = capacity
        self.idleLimit = idleLimit
        self.unusedLimit = min(idleLimit, .seconds(60))
    }

    package var count: Int { self.entries.count }

    /// Adds a session that was just established.
    ///
    /// `ownerLimit` is nil where callers are not told apart, so that one bound would hit all of them.
    package mutating func open(
        _ id: SessionID,
        principal: Principal,
        ownerLimit: Int?,
        payload: Payload,
        now: Duration
    ) -> Opening {
        var evicted: Ended?
        if self.entries.count >= self.capacity || self.counts[principal.owner, default: 0] >= ownerLimit ?? .max {
            evicted = self.idlest(of: principal.owner).flatMap { self.remove($0) }
            guard evicted != nil else { return .refused }
        }
        self.entries[id] = Entry(principal: principal, payload: payload, lastUsed: now)
        self.counts[principal.owner, default: 0] += 1
        self.places[principal.place, default: [:]][principal.owner, default: []].insert(id)
        return .opened(evicted: evicted)
    }

    /// A call or stream of `principal` begins on a session; nil if there is none such for this principal.
    package mutating func begin(_ id: SessionID, principal: Principal) -> Payload? {
        guard let index = self.entries.index(forKey: id), self.entries.values[index].principal == principal,
            !self.entries.values[index].isSealed
        else { return nil }
        self.entries.values[index].uses += 1
        self.entries.values[index].wasUsed = true
        return self.entries.values[index].payload
    }

    /// A call or stream that `begin` admitted is over.
    ///
    /// The session may be gone by now.
    package mutating func end(_ id: SessionID, now: Duration) {
        guard let index = self.entries.index(forKey: id), self.entries.values[index].uses > 0 else { return }
        self.entries.values[index].uses -= 1
        self.entries.values[index].lastUsed = now
    }

    /// Lets nothing begin on a session any more, so that it can end with nothing under way; false if more than `uses` calls
    /// and streams run on it.
    ///
    /// It stays, and so counts, until it is taken out.
    package mutating func seal(_ id: SessionID, ifUsesAtMost uses: Int) -> Bool {
        guard let index = self.entries.index(forKey: id) else { return true }
        guard self.entries.values[index].uses <= uses else { return false }
        self.entries.values[index].isSealed = true
        return true
    }

    /// Ends a session whatever runs on it; nil if it is not there.
    package mutating func remove(_ id: SessionID) -> Ended? {
        guard let entry = self.entries.removeValue(forKey: id) else { return nil }
        let (owner, place) = (entry.principal.owner, entry.principal.place)
        let left = self.counts[owner, default: 1] - 1
        self.counts[owner] = left == 0 ? nil : left
        self.places[place]?[owner]?.remove(id)
        if self.places[place]?[owner]?.isEmpty == true { self.places[place]?[owner] = nil }
        if self.places[place]?.isEmpty == true { self.places[place] = nil }
        return Ended(id: id, payload: entry.payload)
    }

    /// Ends a session so that `principal` can have one in its place, where there is no room; nil if nobody has to go.
    ///
    /// An owner that has two more sessions there than the asking one, or more, gives up the one that has been idle longest,
    /// the owner with the most first: it stays ahead, and the asking one gets its share. If there is no such session, the
    /// asking owner's own that has been idle longest goes. Sessions in use stay.
    package mutating func makeRoom(for principal: Principal) -> Ended? {
        self.idlest(givingWayTo: principal).flatMap { self.remove($0) }
    }

    /// Ends a session that was never used since it was opened; nil if it was, or is not there.
    package mutating func removeUnused(_ id: SessionID) -> Ended? {
        guard let entry = self.entries[id], !entry.wasUsed else { return nil }
        return self.remove(id)
    }

    /// Takes out every session that was unused for the idle bound.
    package mutating func expire(now: Duration) -> [Ended] {
        let due = self.entries.filter { _, entry in
            entry.uses == 0 && entry.lastUsed + (entry.wasUsed ? self.idleLimit : self.unusedLimit) <= now
        }
        return due.keys.compactMap { self.remove($0) }
    }

    /// Takes out everything, at the end of the process.
    package mutating func removeAll() -> [Ended] {
        self.entries.keys.compactMap { self.remove($0) }
    }

    // MARK: Who has to go

    /// The session of an owner that has been idle longest, in whatever place; nil if all are in use, or there is none.
    private func idlest(of owner: Principal.Owner) -> SessionID? {
        self.idlest(among: self.places.values.compactMap { $0[owner] })
    }

    private func idlest(givingWayTo principal: Principal) -> SessionID? {
        guard let groups = self.places[principal.place] else { return nil }
        let own = groups[principal.owner, default: []]
        let ahead = Dictionary(grouping: groups.values.lazy.filter { $0.count >= own.count + 2 }, by: \.count)
        for (_, largest) in ahead.sorted(by: { $0.key > $1.key }) {
            if let idlest = self.idlest(among: largest) { return idlest }
        }
        return self.idlest(among: [own])
    }

    /// The session without a use whose last use ended first; nil if all are in use, or there is none.
    private func idlest(among groups: [Set<SessionID>]) -> SessionID? {
        var idlest: (id: SessionID, lastUsed: Duration)?
        for ids in groups {
            for id in ids {
                guard let entry = self.entries[id], entry.uses == 0 else { continue }
                if let found = idlest, found.lastUsed <= entry.lastUsed { continue }
                idlest = (id, entry.lastUsed)
            }
        }
        return idlest?.id
    }
}
