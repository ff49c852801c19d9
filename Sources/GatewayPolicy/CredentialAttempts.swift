// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The attempts of one request, as far as they are about credentials: which it tried, and whether it may try another
/// (credentials §2.4).
///
/// Pure; it takes its leases from the pool that it is given, and gives each back once.
package struct CredentialAttempts: Sendable {
    /// What a request may do about refusals; the same for all requests of an upstream.
    package struct Rules: Hashable, Sendable {
        package let mode: CredentialPool.Mode
        /// Credentials that one request may try.
        package let attemptLimit: Int
        private let retriesOn401: Bool
        private let retriesOn403: Bool
        /// Whether one refusal is the end because one attempt is all that there is, so that "all failed" says nothing.
        package var isSingle: Bool { self.mode == .static || self.mode == .roundRobin && self.attemptLimit == 1 }

        /// `attemptLimit` is from 1 to the number of credentials; `retryOn` are the statuses, of 401 and 403, that count.
        package init(mode: CredentialPool.Mode, attemptLimit: Int, retryOn: Set<Int>) {
            self.mode = mode
            self.attemptLimit = max(attemptLimit, 1)
            self.retriesOn401 = retryOn.contains(401)
            self.retriesOn403 = retryOn.contains(403)
        }

        /// Whether a refusal with this status counts, and moves on.
        package func retries(on status: Int) -> Bool {
            status == 401 ? self.retriesOn401 : status == 403 && self.retriesOn403
        }
    }

    /// How the credential of a message is found.
    package enum Choice: Hashable, Sendable {
        /// A request, which takes the pool's turn.
        case turn
        /// An `initialize`.
        case home
        /// What belongs to a session: this credential, or those after it once it is refused or gone.
        case session(CredentialID)
        /// What belongs to a session whose credential was refused, this one or another since: those after it.
        case after(CredentialID)
        /// What only the credential that made something can be asked (`requestState`, a task): this one and no other.
        case pinned(CredentialID)
        /// A notification or response without a session, and the gateway's own messages: the current one.
        case idle
    }

    /// What a refusal means for the request.
    package enum Verdict: Hashable, Sendable {
        /// It may be sent again with another credential.
        case again
        /// It ends: one attempt was all that it had.
        case rejected
        /// It ends: every credential that it may try was refused.
        case exhausted
    }

    /// A refusal, and where the pool went because of it.
    package struct Refusal: Hashable, Sendable {
        package let verdict: Verdict
        package let move: CredentialPool.Move?
    }

    package let choice: Choice
    /// The statuses with which credentials were refused, one for each attempt that was.
    package private(set) var statuses: [Int] = []
    /// The credentials that were refused.
    private var tried: [CredentialID] = []
    /// How many of those were no longer in the list by then, which says nothing of those that are: they are beside the limit.
    private var refusalsOfGone = 0
    private var lease: CredentialPool.Lease?
    private let rules: Rules

    package init(_ choice: Choice, rules: Rules) {
        self.choice = choice
        self.rules = rules
    }

    /// The credential of the attempt under way; nil between attempts.
    package var credential: CredentialID? { self.lease?.credential }

    /// Where that was in the list when the attempt began: for people.
    package var position: Int? { self.lease?.position }

    /// Takes the credential for the next attempt; nil if there is none left.
    package mutating func begin(in pool: inout CredentialPool) -> CredentialID? {
        self.release(in: &pool)
        let tried = self.tried
        self.lease =
            switch self.choice {
            case .turn: pool.next(excluding: tried)
            case .home: pool.nextHome(excluding: tried)
            case .session(let credential):
                // Once it is refused the pool knows better than the order of the list.
                tried.isEmpty && pool.position(of: credential) != nil || pool.mode == .roundRobin
                    ? self.lease(from: credential, excluding: tried, in: &pool) : pool.next(excluding: tried)
            case .after(let credential):
                // In turns nobody else moves on from what was refused.
                pool.mode == .roundRobin
                    ? self.lease(behind: credential, excluding: tried, in: &pool) : pool.next(excluding: tried)
            case .pinned(let credential): tried.isEmpty ? pool.lease(from: credential) : nil
            case .idle: pool.lease(from: pool.current, excluding: tried)
            }
        return self.lease?.credential
    }

    /// From the credential on, or from the current one if that is gone.
    private func lease(
        from start: CredentialID,
        excluding tried: [CredentialID],
        in pool: inout CredentialPool
    ) -> CredentialPool.Lease? {
        let start = pool.position(of: start) == nil ? pool.current : start
        return pool.lease(from: start, excluding: tried)
    }

    /// From the one behind the credential on, which comes last itself.
    private func lease(
        behind start: CredentialID,
        excluding tried: [CredentialID],
        in pool: inout CredentialPool
    ) -> CredentialPool.Lease? {
        guard let position = pool.position(of: start) else { return pool.lease(from: pool.current, excluding: tried) }
        let next = pool.slots[(position + 1) % pool.slots.count].id
        return pool.lease(from: next, excluding: tried)
    }

    /// The attempt was answered with a status from 200 to 299.
    package mutating func succeeded(at now: Duration, in pool: inout CredentialPool) {
        guard let lease else { return }
        self.lease = nil
        pool.succeed(lease, at: now)
    }

    /// The attempt was answered with 401 or 403.
    ///
    /// `isCounted` is false if the refusal was another request's, for which this one waited: the pool knows of it.
    /// Ignored without an attempt under way.
    package mutating func refused(
        with status: Int,
        isCounted: Bool = true,
        at now: Duration,
        in pool: inout CredentialPool
    ) -> Refusal? {
        guard let lease else { return nil }
        self.lease = nil
        guard self.rules.retries(on: status) else {
            pool.release(lease)
            return Refusal(verdict: .rejected, move: nil)
        }
        var move: CredentialPool.Move?
        if isCounted { move = pool.fail(lease, at: now) } else { pool.release(lease) }
        self.statuses.append(status)
        self.tried.append(lease.credential)
        let isGone = pool.position(of: lease.credential) == nil
        if isGone { self.refusalsOfGone += 1 }
        return Refusal(verdict: self.verdict(isGone: isGone), move: move)
    }

    private func verdict(isGone: Bool) -> Verdict {
        if case .pinned = self.choice { return .rejected }
        if isGone { return .again }
        if self.rules.isSingle { return .rejected }
        return self.statuses.count - self.refusalsOfGone >= self.rules.attemptLimit ? .exhausted : .again
    }

    /// The attempt ended without a verdict on its credential; does nothing if there is none under way.
    package mutating func release(in pool: inout CredentialPool) {
        guard let lease else { return }
        self.lease = nil
        pool.release(lease)
    }
}
