// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewaySession
import NIOCore
import Synchronization

/// The sessions of all callers: who has one, how it begins, and how it ends here and upstream.
///
/// Behind one short lock: a look-up per request that carries an id.
package final class SessionRegistry: Sendable {
    private let table: Mutex<SessionTable<Principal, UpstreamID, CallerSession>>
    private let perToken: Atomic<Int>

    init(limits: Limits) {
        self.table = Mutex(SessionTable(capacity: limits.sessions, idleLimit: limits.sessionIdle))
        self.perToken = Atomic(limits.sessionsPerToken)
    }

    /// Goes by other limits from now on; sessions that are there stay.
    func tune(_ limits: Limits) {
        self.perToken.store(limits.sessionsPerToken, ordering: .relaxed)
        self.table.withLock { $0.tune(capacity: limits.sessions, idleLimit: limits.sessionIdle) }
    }

    package var count: Int { self.table.withLock { $0.count } }

    func makeID() -> SessionID {
        var generator = SystemRandomNumberGenerator()
        return SessionID(using: &generator)
    }

    /// Makes a session known; false if every place is taken by sessions in use.
    ///
    /// One that has to make room for it ends, on `loop`.
    func open(_ session: CallerSession, on loop: LoopResources) -> Bool {
        let opening = self.table.withLock { table in
            // Whoever ends the upstream's sessions looks after it said that it is over.
            session.upstream.isOver
                ? .refused
                : table.open(
                    session.id,
                    principal: session.principal,
                    place: session.upstream.id,
                    ownerLimit: session.principal.token == nil ? nil : self.perToken.load(ordering: .relaxed),
                    payload: session,
                    now: Self.now
                )
        }
        guard case .opened(let ended) = opening else { return false }
        session.counted()
        if let ended { self.close(ended.payload, on: loop) }
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

    /// Ends a session, here and upstream.
    func close(_ session: CallerSession, on loop: LoopResources) {
        // It may have been taken out before.
        _ = self.table.withLock { $0.remove(session.id) }
        for station in session.close() { station.leg?.end(on: loop) }
    }

    /// A caller that shut down its side before it was told of its session may be gone for good: unless it uses the session
    /// soon, that ends.
    func closeUnlessUsed(_ session: CallerSession, on loop: LoopResources) {
        guard !session.isLegacy else { return }
        loop.eventLoop.scheduleTask(in: .seconds(3)) {
            let isUnused = self.table.withLock { $0.removeUnused(session.id) } != nil
            if isUnused { self.close(session, on: loop) }
        }
    }

    /// Takes out a session without call or stream so that `principal` can have one at an upstream; nil if nobody has to go.
    func makeRoom(for principal: Principal, at upstream: Upstream) -> CallerSession? {
        self.table.withLock { $0.makeRoom(for: principal, at: upstream.id) }?.payload
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

    /// The sessions that stay with an upstream.
    func sessions(at upstream: Upstream) -> [CallerSession] {
        self.table.withLock { $0.sessions(at: upstream.id) }
    }

    /// Whether any session stays with an upstream.
    func hasSessions(at upstream: Upstream) -> Bool { self.table.withLock { $0.hasSessions(at: upstream.id) } }

    /// A session that another unit works for from now on counts there.
    func moved(_ session: CallerSession, to upstream: Upstream) {
        self.table.withLock { $0.move(session.id, to: upstream.id) }
    }

    /// No session holds on to units any more that are over.
    func forgetFormer() {
        for session in self.table.withLock({ $0.sessions { _ in true } }) { session.forgetFormer() }
    }

    /// The sessions whose callers an endpoint does not let in any more.
    func sessions(revokedBy endpoint: Endpoint) -> [CallerSession] {
        self.table.withLock { $0.sessions { endpoint.revokes($0) } }
    }

    /// Ends the session of a caller that is not let in any more: what it listens to at once, the session itself when its calls
    /// have their answers, at the latest after `limit`.
    func revoke(_ session: CallerSession, within limit: Duration) async {
        // The answers to its calls come on the one stream that such a caller has.
        if session.isLegacy { session.endWhenIdle() } else { session.endListening() }
        let end = ContinuousClock.now + limit
        while self.isUsed(session), ContinuousClock.now < end {
            // Cancelled means that the process ends, and every session with it.
            guard (try? await Task.sleep(for: .milliseconds(50))) != nil else { return }
        }
        await self.close([session], within: .seconds(10))
    }

    /// Ends sessions here and upstream, not too many at a time: a crowd that leaves together must not come back as a flood.
    ///
    /// Those above the limit are left to the upstreams' own limits.
    func close(_ sessions: [CallerSession], limits: Ending = .calm, within time: TimeAmount) async {
        await withTaskGroup(of: Void.self) { group in
            for (index, session) in sessions.enumerated() {
                _ = self.table.withLock { $0.remove(session.id) }
                let stations = session.close()
                guard index < limits.count else { continue }
                if index >= limits.atATime { await group.next() }
                group.addTask {
                    for station in stations { await station.end(within: time) }
                }
            }
        }
    }

    /// How many sessions are ended upstream, and how many of them at a time.
    struct Ending {
        let count: Int
        let atATime: Int

        /// In the middle of the work.
        static let calm = Ending(count: .max, atATime: 32)
        /// When the process ends and there is little time.
        static let last = Ending(count: 1_000, atATime: 1_000)
    }

    /// Monotonic time since an arbitrary origin.
    private static var now: Duration { .nanoseconds(Int64(clamping: NIODeadline.now().uptimeNanoseconds)) }
}
