// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Who a session belongs to, and who answers for it.
package protocol SessionPrincipal: Hashable, Sendable {
    /// Who is behind a principal: its sessions are counted together, under however many principals it comes.
    associatedtype Owner: Hashable, Sendable

    var owner: Owner { get }
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
/// A use begins and ends at the cost of one look-up, and whoever has to go is found at once, however many sessions there
/// are: all of it happens under a lock that every request takes. The sessions of an owner that nobody uses stand in the
/// order in which they became idle, all of them, and those of each place: where sessions take up something of which there is
/// little, an upstream.
package struct SessionTable<Principal: SessionPrincipal, Place: Hashable & Sendable, Payload: Sendable>: Sendable {
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
        let id: SessionID
        let principal: Principal
        var place: Place
        let payload: Payload
    }

    /// Sessions that are counted together.
    private struct Group: Sendable {
        /// The list of those that are idle.
        let list: Int
        var count = 0
    }

    /// Where each session stands in `entries` and `use`.
    private var numbers: [SessionID: Int] = [:]
    /// nil: the next session takes its place.
    private var entries: [Entry?] = []
    /// How each is used; apart, since every request changes it.
    private var use: [SessionUse] = []
    private var free: [Int] = []
    private var owners: [Principal.Owner: Group] = [:]
    private var places: [Place: [Principal.Owner: Group]] = [:]
    private var idleOfOwner = IdleOrder()
    private var idleInPlace = IdleOrder()
    private var capacity: Int
    private var idleLimit: Duration
    /// For one that was never used.
    private var unusedLimit: Duration { min(self.idleLimit, .seconds(60)) }
    /// Sessions and owners that were looked at so far to find out who has to go.
    package private(set) var looks = 0

    /// A table for `capacity` sessions (`limits.sessions`), each gone after `idleLimit` (`limits.sessionIdle`).
    ///
    /// One that was never used after it was opened is gone after a minute: its caller did not come back, and the session
    /// may keep a process.
    package init(capacity: Int, idleLimit: Duration) {
        self.capacity = capacity
        self.idleLimit = idleLimit
    }

    /// Goes by other limits from now on.
    ///
    /// Nobody has to go because there are more than may be now: no more come in. What is idle for too long by the new limit
    /// goes at the next look.
    package mutating func tune(capacity: Int, idleLimit: Duration) {
        self.capacity = capacity
        self.idleLimit = idleLimit
    }

    package var count: Int { self.numbers.count }

    /// Adds a session that was just established; `now` never goes back.
    ///
    /// `ownerLimit` is nil where callers are not told apart, so that one bound would hit all of them.
    package mutating func open(
        _ id: SessionID,
        principal: Principal,
        place: Place,
        ownerLimit: Int?,
        payload: Payload,
        now: Duration
    ) -> Opening {
        var evicted: Ended?
        let owned = self.owners[principal.owner]
        if self.count >= self.capacity || (owned?.count ?? 0) >= ownerLimit ?? .max {
            self.looks += 1
            evicted = owned.flatMap { self.idleOfOwner.first(of: $0.list) }.flatMap { self.remove(number: $0) }
            guard evicted != nil else { return .refused }
        }
        let ownerList = self.join(principal.owner)
        let placeList = self.join(principal.owner, at: place)
        let number = self.takeNumber()
        self.numbers[id] = number
        self.entries[number] = Entry(id: id, principal: principal, place: place, payload: payload)
        self.use[number] = SessionUse(ownerList: ownerList, placeList: placeList, lastUsed: now)
        self.becameIdle(number)
        return .opened(evicted: evicted)
    }

    /// A call or stream of `principal` begins on a session; nil if there is none such for this principal.
    package mutating func begin(_ id: SessionID, principal: Principal) -> Payload? {
        guard let number = self.numbers[id], let entry = self.entries[number], entry.principal == principal,
            !self.use[number].isSealed
        else { return nil }
        if self.use[number].count == 0 { self.becameUsed(number) }
        self.use[number].count += 1
        self.use[number].wasUsed = true
        return entry.payload
    }

    /// A call or stream that `begin` admitted is over.
    ///
    /// The session may be gone by now.
    package mutating func end(_ id: SessionID, now: Duration) {
        guard let number = self.numbers[id], self.use[number].count > 0 else { return }
        self.use[number].count -= 1
        self.use[number].lastUsed = now
        if self.use[number].count == 0 { self.becameIdle(number) }
    }

    /// A session is at another place from now on, whatever runs on it; nothing happens if it is not there.
    ///
    /// If nobody uses it, it is the one there that became idle last.
    package mutating func move(_ id: SessionID, to place: Place) {
        guard let number = self.numbers[id], let entry = self.entries[number], entry.place != place else { return }
        let owner = entry.principal.owner
        self.idleInPlace.remove(number)
        self.leave(owner, at: entry.place)
        self.entries[number]?.place = place
        self.use[number].placeList = self.join(owner, at: place)
        if self.use[number].count == 0 { self.idleInPlace.append(number, to: self.use[number].placeList) }
    }

    /// Whether a call or stream runs on a session.
    package func isUsed(_ id: SessionID) -> Bool { self.numbers[id].map { self.use[$0].count > 0 } ?? false }

    /// Lets nothing begin on a session any more, so that it can end with nothing under way; false if more than `uses` calls
    /// and streams run on it.
    ///
    /// It stays, and so counts, until it is taken out.
    package mutating func seal(_ id: SessionID, ifUsesAtMost uses: Int) -> Bool {
        guard let number = self.numbers[id] else { return true }
        guard self.use[number].count <= uses else { return false }
        self.use[number].isSealed = true
        return true
    }

    /// Ends a session whatever runs on it; nil if it is not there.
    package mutating func remove(_ id: SessionID) -> Ended? { self.numbers[id].flatMap { self.remove(number: $0) } }

    /// Ends a session so that `principal` can have one at a place, where there is no room; nil if nobody has to go.
    ///
    /// An owner that has two more sessions there than the asking one, or more, gives up the one that has been idle longest,
    /// the owner with the most first: it stays ahead, and the asking one gets its share. If there is no such session, the
    /// asking owner's own that has been idle longest goes. Sessions in use stay.
    package mutating func makeRoom(for principal: Principal, at place: Place) -> Ended? {
        self.idlest(at: place, givingWayTo: principal.owner).flatMap { self.remove(number: $0) }
    }

    /// Ends a session that was never used since it was opened; nil if it was, or is not there.
    package mutating func removeUnused(_ id: SessionID) -> Ended? {
        guard let number = self.numbers[id], !self.use[number].wasUsed else { return nil }
        return self.remove(number: number)
    }

    /// Takes out every session that was unused for the idle bound.
    package mutating func expire(now: Duration) -> [Ended] { self.expire(now: now, among: self.entries.indices) }

    /// The same for some of the places that sessions have, `range` of `placeCount`: all at once would keep whoever waits.
    package mutating func expire(now: Duration, among range: Range<Int>) -> [Ended] {
        var ended: [Ended] = []
        for number in range.clamped(to: self.entries.indices) {
            let use = self.use[number]
            guard use.count == 0, use.lastUsed + (use.wasUsed ? self.idleLimit : self.unusedLimit) <= now,
                let gone = self.remove(number: number)
            else { continue }
            ended.append(gone)
        }
        return ended
    }

    /// The places that sessions have, those that are free included.
    package var placeCount: Int { self.entries.count }

    /// Takes out everything, at the end of the process.
    package mutating func removeAll() -> [Ended] { self.entries.indices.compactMap { self.remove(number: $0) } }

    /// The sessions whose principal is one of those that are meant.
    ///
    /// Looks at all of them: for what happens seldom.
    package func sessions(_ isMeant: (Principal) -> Bool) -> [Payload] {
        self.entries.compactMap { entry in entry.flatMap { isMeant($0.principal) ? $0.payload : nil } }
    }

    /// The sessions at a place; looks at all of them.
    package func sessions(at place: Place) -> [Payload] {
        self.entries.compactMap { entry in entry.flatMap { $0.place == place ? $0.payload : nil } }
    }

    /// Whether there are sessions at a place; costs one look-up.
    package func hasSessions(at place: Place) -> Bool { self.places[place] != nil }

    // MARK: Places

    private mutating func takeNumber() -> Int {
        if let number = self.free.popLast() { return number }
        self.entries.append(nil)
        self.use.append(SessionUse(ownerList: 0, placeList: 0, lastUsed: .zero))
        return self.entries.count - 1
    }

    /// Counts one more session of `owner`; returns the list that it is in when it is idle.
    private mutating func join(_ owner: Principal.Owner) -> Int {
        var owned = self.owners[owner] ?? Group(list: self.idleOfOwner.makeList())
        owned.count += 1
        self.owners[owner] = owned
        return owned.list
    }

    /// The same for those of `owner` that are at one place.
    private mutating func join(_ owner: Principal.Owner, at place: Place) -> Int {
        var here = self.places[place]?[owner] ?? Group(list: self.idleInPlace.makeList())
        here.count += 1
        self.places[place, default: [:]][owner] = here
        return here.list
    }

    private mutating func leave(_ owner: Principal.Owner) {
        guard let owned = self.owners[owner] else { return }
        self.owners[owner]?.count -= 1
        guard owned.count == 1 else { return }
        self.owners[owner] = nil
        self.idleOfOwner.removeList(owned.list)
    }

    private mutating func leave(_ owner: Principal.Owner, at place: Place) {
        guard let here = self.places[place]?[owner] else { return }
        self.places[place]?[owner]?.count -= 1
        guard here.count == 1 else { return }
        self.places[place]?[owner] = nil
        self.idleInPlace.removeList(here.list)
        if self.places[place]?.isEmpty == true { self.places[place] = nil }
    }

    private mutating func remove(number: Int) -> Ended? {
        guard let entry = self.entries[number] else { return nil }
        self.becameUsed(number)
        self.entries[number] = nil
        self.numbers[entry.id] = nil
        self.free.append(number)
        self.leave(entry.principal.owner)
        self.leave(entry.principal.owner, at: entry.place)
        return Ended(id: entry.id, payload: entry.payload)
    }

    // MARK: Who has to go

    private mutating func becameIdle(_ number: Int) {
        self.idleOfOwner.append(number, to: self.use[number].ownerList)
        self.idleInPlace.append(number, to: self.use[number].placeList)
    }

    private mutating func becameUsed(_ number: Int) {
        self.idleOfOwner.remove(number)
        self.idleInPlace.remove(number)
    }

    /// Looks at each owner in the place once: what is shared there is children, of which there are few.
    private mutating func idlest(at place: Place, givingWayTo owner: Principal.Owner) -> Int? {
        guard let groups = self.places[place] else { return nil }
        let own = groups[owner]
        var most: (count: Int, number: Int, lastUsed: Duration)?
        for group in groups.values where group.count >= (own?.count ?? 0) + 2 {
            self.looks += 1
            guard let number = self.idleInPlace.first(of: group.list) else { continue }
            let lastUsed = self.use[number].lastUsed
            if let most, (most.count, lastUsed) > (group.count, most.lastUsed) { continue }
            most = (group.count, number, lastUsed)
        }
        return most?.number ?? own.flatMap { self.idleInPlace.first(of: $0.list) }
    }
}

/// How a session is used, and which lists of idle sessions it is in while it is idle.
private struct SessionUse: Sendable {
    /// The list of its owner, and that of its owner in its place.
    let ownerList: Int
    var placeList: Int
    /// Calls and streams that run.
    var count = 0
    /// Whether there ever was one.
    var wasUsed = false
    /// Whether no more may begin.
    var isSealed = false
    /// When the last use ended, from any fixed origin.
    var lastUsed: Duration
}
