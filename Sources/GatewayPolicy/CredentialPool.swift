// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// Any number of calls may be under way with one credential when it is revoked, and each of them comes back refused. Were
// each to move the pool, a thousand refusals would move it a thousand places, and with ten credentials put it back on the
// revoked one. So the pool counts its moves, every lease carries the count under which it was given out, and a refusal
// moves the pool only if nobody did since (credentials §2.3, §2.8).
//
// The list of tokens can change while calls run. So whatever outlives a moment (a lease, a pin, a session) names a
// credential by an identity that no other ever gets, and not by its position in the list (decision 0036).

/// Which credential of an upstream a request uses, and what is known of each: credentials §2.3.
///
/// Pure, and knows no tokens: it mints an identity for each, the token itself stays with the driver.
package struct CredentialPool: Sendable {
    /// How slots are chosen; the raw value is that of `rotationMode`.
    package enum Mode: String, Sendable {
        /// There is one slot.
        case `static`
        /// Every request takes the next.
        case roundRobin = "round-robin"
        /// Every request takes the current one, until that is refused.
        case onFirstFailed = "on-first-failed"
    }

    /// The right of one attempt to use a credential; what became of it is told once, by `succeed`, `fail` or `release`.
    package struct Lease: Hashable, Sendable {
        package let credential: CredentialID
        /// Where the credential was in the list when the lease was given out: for people.
        package let position: Int
        fileprivate let generation: UInt64
        /// Whether the pool chose the slot, so that its success says something about the choice.
        fileprivate let isChosen: Bool
    }

    /// What is known of one credential.
    package struct Slot: Sendable {
        /// The same for as long as the value is in the pool, whatever its position becomes.
        package let id: CredentialID
        /// Refusals since it was last accepted.
        package fileprivate(set) var failures = 0
        /// Times that it went from accepted to refused: a thousand calls that meet one revoked credential count once.
        package fileprivate(set) var rejections = 0
        /// Attempts under way.
        package fileprivate(set) var inFlight = 0
        /// When it was last accepted and last refused, since an origin of the driver's; nil: never.
        package fileprivate(set) var lastSuccess: Duration?
        package fileprivate(set) var lastFailure: Duration?

        fileprivate init(_ id: CredentialID) {
            self.id = id
        }
    }

    /// What became of a credential when the gateway itself last used it, of which the pool hears nothing.
    package struct Probe: Hashable, Sendable {
        package let isAccepted: Bool
        /// Since the origin of the pool's times.
        package let time: Duration

        package init(isAccepted: Bool, at time: Duration) {
            self.isAccepted = isAccepted
            self.time = time
        }
    }

    /// What is known of a credential, as one word.
    package enum Condition: String, Sendable {
        /// Nobody used it yet.
        case unused
        case accepted
        case rejected
    }

    /// The pool went from one credential to another, since that was refused; positions, for people.
    package struct Move: Hashable, Sendable {
        package let from: Int
        package let to: Int
    }

    private var rotation: Mode
    /// In the order of the configuration.
    package private(set) var slots: [Slot]
    /// What is known of credentials that were removed while attempts with them were under way.
    package private(set) var departing: [Slot] = []
    /// Removed credentials of which nothing is known any more since the last `takeForgotten`.
    private var forgotten: [CredentialID] = []
    /// The position of the credential that `on-first-failed` uses.
    package private(set) var cursor = 0
    /// Counts the moves of the cursor to another credential.
    package private(set) var generation: UInt64 = 0
    /// Moves that an answer caused, and no change of the list.
    package private(set) var rotations: UInt64 = 0
    /// The slots that the next request and the next `initialize` take in `round-robin`; always positions in `slots`, so
    /// that nothing overflows.
    private var turn = 0
    private var homeTurn = 0
    private var nextNumber: UInt64

    /// A pool of `count` credentials, at least one.
    ///
    /// Pools with different numbers never have credentials with the same identity.
    package init(count: Int, mode: Mode, number: UInt32 = 0) {
        let count = max(count, 1)
        let first = UInt64(number) << 32
        self.rotation = mode
        self.slots = (0..<count).map { Slot(CredentialID(number: first + UInt64($0))) }
        self.nextNumber = first + UInt64(count)
    }

    /// `static` as long as there is one slot.
    package var mode: Mode { self.slots.count == 1 ? .static : self.rotation }

    /// Whether the last thing that each credential met was a refusal; `probes` are what the gateway itself met, by slot.
    package func areAllRefused(probed probes: [Probe?] = []) -> Bool {
        self.slots.indices.allSatisfy { index in
            self.slots[index].condition(probed: probes.indices.contains(index) ? probes[index] : nil) == .rejected
        }
    }

    /// The credential of a message that must not move anything: of a notification, or of the gateway's own.
    package var current: CredentialID { self.slots[self.currentPosition].id }

    package var currentPosition: Int { self.mode == .roundRobin ? self.turn : self.cursor }

    /// Where a credential is in the list; nil if it is not in it, or no longer.
    package func position(of credential: CredentialID) -> Int? { self.slots.firstIndex { $0.id == credential } }

    // MARK: Choosing

    /// A lease for a caller's request, of none of the credentials that it tried before; nil if it tried all.
    package mutating func next(excluding tried: [CredentialID] = []) -> Lease? {
        switch self.mode {
        case .roundRobin: Self.turn(&self.turn, self.slots, excluding: tried).map { self.lease(at: $0) }
        case .static, .onFirstFailed: self.following(self.cursor, excluding: tried).map { self.lease(at: $0) }
        }
    }

    /// A lease for an `initialize`, which has a count of its own: sessions are spread evenly, whatever else is asked.
    package mutating func nextHome(excluding tried: [CredentialID] = []) -> Lease? {
        switch self.mode {
        case .roundRobin: Self.turn(&self.homeTurn, self.slots, excluding: tried).map { self.lease(at: $0) }
        case .static, .onFirstFailed: self.next(excluding: tried)
        }
    }

    /// A lease of this credential, or of the first one behind it in ring order that was not tried, without moving
    /// anything; nil if all were tried, or if it is not in the list.
    package mutating func lease(from start: CredentialID, excluding tried: [CredentialID] = []) -> Lease? {
        guard let start = self.position(of: start) else { return nil }
        return self.following(start, excluding: tried).map { self.lease(at: $0, isChosen: false) }
    }

    /// The first slot in ring order, from `start` on, that was not tried.
    private func following(_ start: Int, excluding tried: [CredentialID]) -> Int? {
        if tried.isEmpty { return start }
        return (0..<self.slots.count).lazy.map { (start + $0) % self.slots.count }
            .first { !tried.contains(self.slots[$0].id) }
    }

    private static func turn(_ turn: inout Int, _ slots: [Slot], excluding tried: [CredentialID]) -> Int? {
        for _ in slots.indices {
            let slot = turn
            turn = slot + 1 == slots.count ? 0 : slot + 1
            if !tried.contains(slots[slot].id) { return slot }
        }
        return nil
    }

    private mutating func lease(at position: Int, isChosen: Bool = true) -> Lease {
        self.slots[position].inFlight += 1
        return Lease(
            credential: self.slots[position].id,
            position: position,
            generation: self.generation,
            isChosen: isChosen
        )
    }

    // MARK: Outcomes

    /// The upstream accepted the credential: it answered with a status from 200 to 299.
    ///
    /// A request that had to go past the current slot has found a better one, unless the pool has moved since.
    package mutating func succeed(_ lease: Lease, at now: Duration) {
        guard let slot = self.slot(of: lease) else { return self.releaseDeparting(lease) }
        self.slots[slot].inFlight -= 1
        self.slots[slot].failures = 0
        self.slots[slot].lastSuccess = now
        guard self.mode == .onFirstFailed, lease.isChosen, slot != self.cursor, lease.generation == self.generation
        else { return }
        self.move(to: slot)
    }

    /// The upstream refused the credential; returns where the pool went because of it, nil if it stays.
    package mutating func fail(_ lease: Lease, at now: Duration) -> Move? {
        guard let slot = self.slot(of: lease) else {
            self.releaseDeparting(lease)
            return nil
        }
        self.slots[slot].inFlight -= 1
        let isFirst = self.slots[slot].failures == 0
        if self.slots[slot].failures < .max { self.slots[slot].failures += 1 }
        self.slots[slot].lastFailure = now
        let isCurrent = slot == self.cursor && lease.generation == self.generation
        guard self.mode == .onFirstFailed else {
            if isFirst { self.slots[slot].rejections += 1 }
            return nil
        }
        guard isCurrent else {
            // Refused for the first time, and not where the pool is: nobody counted it by moving.
            if isFirst, lease.generation == self.generation { self.slots[slot].rejections += 1 }
            return nil
        }
        self.slots[slot].rejections += 1
        self.move(to: (slot + 1) % self.slots.count)
        return Move(from: slot, to: self.cursor)
    }

    /// The attempt ended without a verdict on the credential.
    package mutating func release(_ lease: Lease) {
        guard let slot = self.slot(of: lease) else { return self.releaseDeparting(lease) }
        self.slots[slot].inFlight -= 1
    }

    private mutating func move(to slot: Int) {
        self.cursor = slot
        self.generation &+= 1
        self.rotations &+= 1
    }

    /// Where the credential of a lease is now; nil if it is no longer in the list.
    private func slot(of lease: Lease) -> Int? {
        if self.slots.indices.contains(lease.position), self.slots[lease.position].id == lease.credential {
            return lease.position
        }
        return self.position(of: lease.credential)
    }

    /// A lease of a credential that was removed has ended: it touches no other, and with the last one that is forgotten.
    private mutating func releaseDeparting(_ lease: Lease) {
        guard let index = self.departing.firstIndex(where: { $0.id == lease.credential }) else { return }
        self.departing[index].inFlight -= 1
        guard self.departing[index].inFlight == 0 else { return }
        self.departing.remove(at: index)
        self.forgotten.append(lease.credential)
    }

    // MARK: Reload

    /// The list of credentials changed, or how they are chosen.
    ///
    /// `kept` says for each place of the new list which credential has the value there, nil for a value that was in no
    /// place; if two name the same, the value is there twice now, and the second of them is new. An empty list changes
    /// nothing but the mode. Returns the identities in the order of the new list.
    ///
    /// State follows the value, never the position, and so do the cursor and the turns: where the value is gone, they go
    /// to the next one in the old order that stays, and to the first if none does (credentials §2.11). A credential
    /// that is gone is not leased any more; its leases end as they would, and it is forgotten with the last.
    @discardableResult
    package mutating func replace(with kept: [CredentialID?], mode: Mode? = nil) -> [CredentialID] {
        if let mode { self.rotation = mode }
        let before = self.slots
        guard !kept.isEmpty, kept != before.map(\.id) else { return before.map(\.id) }
        var left = Dictionary(uniqueKeysWithValues: before.map { ($0.id, $0) })
        self.slots = kept.map { credential in
            if let slot = credential.flatMap({ left.removeValue(forKey: $0) }) { return slot }
            defer { self.nextNumber &+= 1 }
            return Slot(CredentialID(number: self.nextNumber))
        }
        for slot in before where left[slot.id] != nil {
            if slot.inFlight > 0 { self.departing.append(slot) } else { self.forgotten.append(slot.id) }
        }
        let current = before[self.cursor].id
        self.cursor = self.successor(of: self.cursor, in: before)
        self.turn = self.successor(of: self.turn, in: before)
        self.homeTurn = self.successor(of: self.homeTurn, in: before)
        // A count names one credential: what was leased under the old one must not move the new one.
        if self.slots[self.cursor].id != current { self.generation &+= 1 }
        return self.slots.map(\.id)
    }

    /// Where the first credential is now that stood at or behind `position` in the list before, round the ring.
    private func successor(of position: Int, in before: [Slot]) -> Int {
        for offset in before.indices {
            if let place = self.position(of: before[(position + offset) % before.count].id) { return place }
        }
        return 0
    }

    /// The removed credentials whose last lease has ended since this was asked last.
    package mutating func takeForgotten() -> [CredentialID] {
        guard !self.forgotten.isEmpty else { return [] }
        defer { self.forgotten = [] }
        return self.forgotten
    }
}

extension CredentialPool.Slot {
    /// What is known of the credential, also from the gateway's own use of it.
    ///
    /// A refusal of a call outweighs what a probe was answered: servers ask for no credential there more often than here.
    package func condition(probed probe: CredentialPool.Probe?) -> CredentialPool.Condition {
        if self.failures > 0 { return .rejected }
        guard let probe else { return self.lastSuccess == nil ? .unused : .accepted }
        if let lastSuccess, lastSuccess >= probe.time { return .accepted }
        return probe.isAccepted ? .accepted : .rejected
    }

    /// When the credential was last accepted, by a call or a probe; nil: never.
    package func lastSuccess(probed probe: CredentialPool.Probe?) -> Duration? {
        [self.lastSuccess, probe.flatMap { $0.isAccepted ? $0.time : nil }].compactMap(\.self).max()
    }

    /// When the credential was last refused; nil: never.
    package func lastFailure(probed probe: CredentialPool.Probe?) -> Duration? {
        [self.lastFailure, probe.flatMap { $0.isAccepted ? nil : $0.time }].compactMap(\.self).max()
    }
}
