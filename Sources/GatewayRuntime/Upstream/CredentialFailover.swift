// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy

/// Walks the credentials of an upstream, one attempt after the other, until one is accepted or none may be tried any more.
///
/// One walk serves whatever needs a credential: the opening of a session that callers share, of a stream of messages, of a
/// GET stream, and a look at the server. Whoever makes the attempts asks for the first slot with ``next()``, tells what
/// became of each attempt, and does what it is told. At an upstream without a pool there is one attempt, in slot 0.
struct CredentialFailover: Sendable {
    /// What to do now.
    enum Step: Sendable {
        /// Try the credential of this slot.
        case attempt(slot: Int)
        /// No credential is left that may be tried: this is what callers are told.
        case giveUp(GatewayError)
    }

    private enum Walk: Sendable {
        /// For callers: the pool gives out the slots and hears what became of them.
        case counted(CredentialAttempts)
        /// For the gateway itself: all slots in turn, of which the pool hears nothing, but people do (credentials §2.3).
        case looking(untried: [Int], statuses: [Int])
        /// There is no pool.
        case single
    }

    private let pool: UpstreamCredentials?
    private var walk: Walk
    /// The slot of the attempt under way, or of the last one.
    private(set) var slot = 0

    /// For callers, whose message or session finds its slot so.
    init(_ pool: UpstreamCredentials?, choosing choice: CredentialAttempts.Choice) {
        self.pool = pool
        self.walk = pool.map { .counted($0.attempts(choice)) } ?? .single
    }

    /// For the gateway itself, which wants to know whether any credential is accepted: from `start` on, or from the one whose
    /// turn it is.
    init(looking pool: UpstreamCredentials?, from start: Int? = nil) {
        self.pool = pool
        guard let pool else {
            self.walk = .single
            return
        }
        let start = start ?? pool.current
        self.walk = .looking(untried: (0..<pool.count).map { (start + $0) % pool.count }, statuses: [])
    }

    /// For the gateway itself, with the credential of this slot alone.
    init(looking pool: UpstreamCredentials?, onlyAt slot: Int) {
        self.pool = pool
        self.walk = pool == nil ? .single : .looking(untried: [slot], statuses: [])
    }

    /// Whether callers have it done, so that their pool hears what becomes of it.
    var isForCallers: Bool { if case .looking = self.walk { false } else { true } }

    /// Whether an attempt is under way of which the pool is to hear.
    var isCounting: Bool { if case .counted(let attempts) = self.walk { attempts.slot != nil } else { false } }

    /// Takes the slot of the next attempt.
    mutating func next() -> Step {
        switch self.walk {
        case .single: return .attempt(slot: self.slot)
        case .looking(var untried, let statuses):
            guard !untried.isEmpty else { return .giveUp(self.refusal(statuses)) }
            self.slot = untried.removeFirst()
            self.walk = .looking(untried: untried, statuses: statuses)
        case .counted(let attempts):
            var own: CredentialAttempts? = attempts
            let slot = self.pool?.begin(&own)
            self.keep(own)
            guard let slot else { return .giveUp(.exhausted(attempts.statuses)) }
            self.slot = slot
        }
        return .attempt(slot: self.slot)
    }

    /// The credential is accepted; `isNew` is false if that was known, so that it counts for nothing.
    mutating func accepted(isNew: Bool = true) {
        switch self.walk {
        case .single: break
        case .looking: self.pool?.probed(self.slot, refusedWith: nil)
        case .counted(let attempts):
            var own: CredentialAttempts? = attempts
            if isNew { self.pool?.succeeded(&own) } else { self.pool?.release(&own, as: nil) }
            self.keep(own)
        }
    }

    /// The credential is refused; what to do now, the next attempt begun.
    ///
    /// `isCounted` is false if that was the answer to another's message.
    mutating func refused(with status: Int, as kind: RefusalKind = .rejected, isCounted: Bool = true) -> Step {
        switch self.walk {
        case .single: return .giveUp(.rejected(status: status, slot: nil))
        case .looking(let untried, let statuses):
            self.pool?.probed(self.slot, refusedWith: status, as: kind)
            self.walk = .looking(untried: untried, statuses: statuses + [status])
            return self.next()
        case .counted(let attempts):
            guard let pool else { return .giveUp(.rejected(status: status, slot: nil)) }
            var own: CredentialAttempts? = attempts
            let refusal = pool.refused(&own, with: status, as: kind, isCounted: isCounted)
            self.keep(own)
            switch refusal.verdict {
            case .again: return self.next()
            case .rejected: return .giveUp(.rejected(status: status, slot: self.slot))
            case .exhausted: return .giveUp(.exhausted(refusal.statuses))
            }
        }
    }

    /// The attempt, if one is under way, ended without a word on its credential.
    mutating func ended() {
        guard case .counted(let attempts) = self.walk else { return }
        var own: CredentialAttempts? = attempts
        self.pool?.release(&own)
        self.keep(own)
    }

    private mutating func keep(_ attempts: CredentialAttempts?) {
        if let attempts { self.walk = .counted(attempts) }
    }

    /// One credential that is refused says more than that all are.
    private func refusal(_ statuses: [Int]) -> GatewayError {
        guard statuses.count == 1, let status = statuses.first else { return .exhausted(statuses) }
        return .rejected(status: status, slot: self.slot)
    }
}

extension UpstreamCredentials {
    /// The credential of a slot is refused for what stood with it.
    func refused(at slot: Int, with status: Int, isCounted: Bool) {
        var failover = CredentialFailover(self, choosing: .pinned(slot: slot))
        if case .attempt = failover.next() { _ = failover.refused(with: status, isCounted: isCounted) }
    }
}
