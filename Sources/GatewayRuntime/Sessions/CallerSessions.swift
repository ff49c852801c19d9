// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewaySession
import NIOCore
import Synchronization

/// The sessions of all callers, behind one short lock: a look-up per request that carries an id.
package final class CallerSessions: Sendable {
    private let table: Mutex<SessionTable<Principal, CallerSession>>
    private let perToken: Int

    init(limits: Limits) {
        self.table = Mutex(SessionTable(capacity: limits.sessions, idleLimit: limits.sessionIdle))
        self.perToken = limits.sessionsPerToken
    }

    package var count: Int { self.table.withLock { $0.count } }

    func makeID() -> SessionID {
        var generator = SystemRandomNumberGenerator()
        return SessionID(using: &generator)
    }

    /// Adds a session; false if every place is taken by sessions in use.
    ///
    /// `evicted` had to make room.
    func open(_ session: CallerSession, evicted: (CallerSession) -> Void) -> Bool {
        let opening = self.table.withLock { table in
            table.open(
                session.id,
                principal: session.principal,
                ownerLimit: session.principal.tokenOwner == nil ? nil : self.perToken,
                payload: session,
                now: Self.now
            )
        }
        guard case .opened(let ended) = opening else { return false }
        if let ended { evicted(ended.payload) }
        return true
    }

    /// A call or stream begins; every one is followed by `end`.
    func begin(_ id: SessionID, principal: Principal) -> CallerSession? {
        self.table.withLock { $0.begin(id, principal: principal) }
    }

    func end(_ session: CallerSession) {
        self.table.withLock { $0.end(session.id, now: Self.now) }
    }

    /// Lets nothing begin in a session any more of which nothing but its stream runs; false if there is more.
    func seal(_ session: CallerSession) -> Bool {
        self.table.withLock { $0.seal(session.id, ifUsesAtMost: 1) }
    }

    func remove(_ session: CallerSession) -> Bool {
        self.table.withLock { $0.remove(session.id) } != nil
    }

    /// Takes out a session without call or stream so that `principal` can have one at its upstream; nil if nobody has to
    /// go.
    func makeRoom(for principal: Principal) -> CallerSession? {
        self.table.withLock { $0.makeRoom(for: principal) }?.payload
    }

    /// Takes out a session that was never used since it was opened; false if it was.
    func removeUnused(_ session: CallerSession) -> Bool {
        self.table.withLock { $0.removeUnused(session.id) } != nil
    }

    /// Whether a call or stream of a session runs.
    func isUsed(_ session: CallerSession) -> Bool { self.table.withLock { $0.isUsed(session.id) } }

    /// Takes out the sessions that were unused for too long, some at a time, so that no request waits for all of them.
    func expire() -> [CallerSession] {
        var expired: [CallerSession] = []
        for start in stride(from: 0, to: self.table.withLock { $0.placeCount }, by: Self.looksAtATime) {
            let range = start..<(start + Self.looksAtATime)
            expired += self.table.withLock { $0.expire(now: Self.now, among: range) }.map(\.payload)
        }
        return expired
    }

    private static let looksAtATime = 256

    func removeAll() -> [CallerSession] {
        self.table.withLock { $0.removeAll() }.map(\.payload)
    }

    /// Monotonic time since an arbitrary origin.
    private static var now: Duration { .nanoseconds(Int64(clamping: NIODeadline.now().uptimeNanoseconds)) }
}
