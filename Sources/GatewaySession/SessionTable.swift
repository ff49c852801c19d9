// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Who lives, who may come in and who has to go among the callers' sessions.
///
/// Pure: the clock comes in as `now`.
///
/// A session is found only by the principal that opened it: for anybody else it is as if it did not exist (faults S7.2).
/// At a cap the longest idle session of the *same* principal that has no call or stream makes room; never another's
/// (faults S7.5). A session in use never expires.
package struct SessionTable<Principal: Hashable & Sendable, Payload: Sendable>: Sendable {
    /// A session that ended without its caller asking for it.
    package struct Ended: Sendable {
        package let id: SessionID
        package let payload: Payload
    }

    package enum Opening: Sendable {
        /// The session is in; `evicted` had to go for it.
        case opened(evicted: Ended?)
        /// Every session of the principal is in use, or the table is full of others'.
        case refused
    }

    private struct Entry: Sendable {
        var principal: Principal
        var payload: Payload
        /// Calls and streams that run.
        var uses: Int
        /// When the last use ended, from any fixed origin.
        var lastUsed: Duration
    }

    private var entries: [SessionID: Entry] = [:]
    private var counts: [Principal: Int] = [:]
    private let capacity: Int
    private let idleLimit: Duration

    /// A table for `capacity` sessions (`limits.sessions`), each gone after `idleLimit` (`limits.sessionIdle`).
    package init(capacity: Int, idleLimit: Duration) {
        self.capacity = capacity
        self.idleLimit = idleLimit
    }

    package var count: Int { self.entries.count }

    /// Adds a session that was just established.
    ///
    /// `principalLimit` is nil where callers are not told apart, so that one bound would hit all of them.
    package mutating func open(
        _ id: SessionID,
        principal: Principal,
        principalLimit: Int?,
        payload: Payload,
        now: Duration
    ) -> Opening {
        let own = self.counts[principal, default: 0]
        var evicted: Ended?
        if self.entries.count >= self.capacity || own >= principalLimit ?? .max {
            evicted = self.removeIdlest(of: principal)
            guard evicted != nil else { return .refused }
        }
        self.entries[id] = Entry(principal: principal, payload: payload, uses: 0, lastUsed: now)
        self.counts[principal, default: 0] += 1
        return .opened(evicted: evicted)
    }

    /// A call or stream of `principal` begins on a session; nil if there is none such for this principal.
    package mutating func begin(_ id: SessionID, principal: Principal) -> Payload? {
        guard let index = self.entries.index(forKey: id), self.entries.values[index].principal == principal else {
            return nil
        }
        self.entries.values[index].uses += 1
        return self.entries.values[index].payload
    }

    /// A call or stream that `begin` admitted is over.
    ///
    /// The session may be gone by now.
    package mutating func end(_ id: SessionID, now: Duration) {
        guard let index = self.entries.index(forKey: id) else { return }
        self.entries.values[index].uses -= 1
        self.entries.values[index].lastUsed = now
    }

    /// Calls and streams that run on a session; 0 if it is not there.
    package func uses(of id: SessionID) -> Int { self.entries[id]?.uses ?? 0 }

    /// Ends a session whatever runs on it; nil if it is not there.
    package mutating func remove(_ id: SessionID) -> Ended? {
        guard let entry = self.entries.removeValue(forKey: id) else { return nil }
        let left = self.counts[entry.principal, default: 1] - 1
        self.counts[entry.principal] = left == 0 ? nil : left
        return Ended(id: id, payload: entry.payload)
    }

    /// Ends the session of a principal that has been idle longest; nil if all are in use, or there is none.
    package mutating func removeIdlest(of principal: Principal) -> Ended? {
        let idle = self.entries.filter { $0.value.principal == principal && $0.value.uses == 0 }
        return idle.min { $0.value.lastUsed < $1.value.lastUsed }.flatMap { self.remove($0.key) }
    }

    /// Takes out every session that was unused for the idle bound.
    package mutating func expire(now: Duration) -> [Ended] {
        let due = self.entries.filter { $0.value.uses == 0 && $0.value.lastUsed + self.idleLimit <= now }
        return due.keys.compactMap { self.remove($0) }
    }

    /// Takes out everything, at the end of the process.
    package mutating func removeAll() -> [Ended] {
        self.entries.keys.compactMap { self.remove($0) }
    }
}
