// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy

/// Walks the credentials of an upstream, one attempt after the other, until one is accepted or none may be tried any more.
///
/// One walk serves whatever needs a credential: the opening of a session that callers share, of a stream of messages, of a
/// GET stream, and a look at the server. Whoever makes the attempts asks for the first slot with ``next()``, tells what
/// became of each attempt, and does what it is told. A walk is a value: of its copies only the last may be told anything.
struct CredentialFailover: Sendable {
    /// What to do now.
    enum Step: Sendable {
        /// Try the credential of this slot.
        case attempt(CredentialID)
        /// No credential is left that may be tried: this is what callers are told.
        case giveUp(GatewayError)
    }

    /// nil: there is one attempt, with no credential of ours.
    private let pool: UpstreamCredentials?
    /// The attempts for callers, of which the pool hears; nil: this is a look at slots, of which people hear alone
    /// (credentials §2.3).
    private var use: CredentialUse?
    /// The slots of a look that are yet to be tried, and with what those before them were refused.
    private var untried: [CredentialID] = []
    private var statuses: [Int] = []
    /// The slot of the attempt under way, or of the last one.
    private(set) var slot = CredentialID.none

    /// For callers, whose message or session finds its slot so.
    init(_ pool: UpstreamCredentials?, choosing choice: CredentialAttempts.Choice) {
        self.pool = pool
        self.use = pool?.attempts(choice)
    }

    /// For the gateway itself, which wants to know whether the credential of any of these slots is accepted.
    init(looking pool: UpstreamCredentials?, at slots: [CredentialID]) {
        self.pool = pool
        self.untried = slots
    }

    /// Whether callers have it done, so that their pool hears what becomes of it.
    var isForCallers: Bool { self.use != nil }

    /// Whether an attempt is under way of which the pool is to hear.
    var isUnderWay: Bool { self.use?.isUnderWay == true }

    /// What the attempt under way is sent with; nil: what the slot has at that moment.
    var credential: RequestCredential? { self.use?.credential }

    /// Takes the slot of the next attempt.
    mutating func next() -> Step {
        guard let pool else { return .attempt(self.slot) }
        if self.use != nil {
            guard let slot = pool.begin(&self.use) else { return .giveUp(.exhausted(self.use?.statuses ?? [])) }
            self.slot = slot
        } else {
            guard !self.untried.isEmpty else { return .giveUp(.exhausted(self.statuses)) }
            self.slot = self.untried.removeFirst()
        }
        return .attempt(self.slot)
    }

    /// The credential is accepted; `isNew` is false if that was known, so that it counts for nothing.
    mutating func accepted(isNew: Bool = true) {
        guard self.use != nil else {
            self.pool?.probed(self.slot, refusedWith: nil)
            return
        }
        if isNew { self.pool?.succeeded(&self.use) } else { self.pool?.release(&self.use, as: nil) }
    }

    /// The credential is refused; returns what to do now, the next attempt begun.
    ///
    /// `isCounted` is false if that was the answer to another's message.
    mutating func refused(with status: Int, as kind: RefusalKind = .rejected, isCounted: Bool = true) -> Step {
        guard let pool else { return .giveUp(.rejected(status: status, slot: nil)) }
        guard self.use != nil else {
            pool.probed(self.slot, refusedWith: status, as: kind)
            self.statuses.append(status)
            // One credential that is refused says more than that all are.
            guard self.untried.isEmpty, self.statuses.count == 1 else { return self.next() }
            return .giveUp(.rejected(status: status, slot: pool.position(of: self.slot)))
        }
        let refusal = pool.refused(&self.use, with: status, as: kind, isCounted: isCounted)
        switch refusal.verdict {
        case .again: return self.next()
        case .rejected: return .giveUp(.rejected(status: status, slot: self.use?.position))
        case .exhausted: return .giveUp(.exhausted(refusal.statuses))
        }
    }

    /// The attempt, if one is under way, ended without a word on its credential.
    mutating func ended() { self.pool?.release(&self.use) }
}

extension UpstreamCredentials {
    /// The credential of a slot is refused for what stood with it.
    func refused(at slot: CredentialID, with status: Int, isCounted: Bool) {
        var failover = CredentialFailover(self, choosing: .pinned(slot))
        if case .attempt = failover.next() { _ = failover.refused(with: status, isCounted: isCounted) }
    }
}
