// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A session at an upstream: opened when it is first wanted, and opened again, once, when the upstream forgets it.
///
/// Pure. Many calls can want it, or meet its loss, at the same time: the first opens it, the others wait for that, and
/// who comes with the loss of an id that was already replaced goes on with the new one (contract §4, protocol C19).
package struct UpstreamSession<Waiter>: ~Copyable {
    package enum Want {
        /// It is open.
        case ready(id: String)
        /// The caller of this opens it and then says `opened` or `openingFailed`; its waiter is the first of those given
        /// back.
        case open
        /// Somebody is at it; the waiter is given back when it ends.
        case wait
        /// The session cannot come back.
        case over
    }

    package enum Loss {
        /// The caller of this opens the session again, no sooner than in so much time, and then says `opened` or
        /// `openingFailed`; its waiter is the first of those given back.
        ///
        /// If the loss is not certain it asks the upstream first, and says `kept` if the session is there.
        case renew(after: Duration)
        /// Somebody is at it; the waiter is given back when it ends.
        case wait
        /// It happened already.
        case retry(id: String)
        /// The upstream was asked a moment ago, and knows the session.
        case kept
        /// The upstream was asked a moment ago, and refused the credential with this status.
        case refused(Int)
        /// The session cannot come back.
        case over
    }

    private enum State {
        case absent
        /// `old` is the id that is being replaced; nil the first time.
        case opening(old: String?, waiters: [Waiter])
        case bound(id: String)
        case over
    }

    private var state: State
    /// When it was last opened again, last found to be there, and last refused to the credential.
    private var renewedAt: Duration?
    private var foundAt: Duration?
    private var refusal: (status: Int, at: Duration)?

    /// The least time from one reopening to the next, and how long an answer to that holds.
    package static var pace: Duration { .seconds(1) }

    /// A session that is opened when it is wanted.
    package init() {
        self.state = .absent
    }

    /// A session that is open.
    package init(id: String) {
        self.state = .bound(id: id)
    }

    /// The id to send; while it is renewed the old one, whose loss then says to wait; nil: there is none.
    package var id: String? {
        switch self.state {
        case .bound(let id): id
        case .opening(let old, _): old
        case .absent, .over: nil
        }
    }

    /// A message is to be sent in it.
    package mutating func wanted(waiter: Waiter) -> Want {
        switch self.state {
        case .absent:
            self.state = .opening(old: nil, waiters: [waiter])
            return .open
        case .opening(let old, var waiters):
            waiters.append(waiter)
            self.state = .opening(old: old, waiters: waiters)
            return .wait
        case .bound(let id):
            return .ready(id: id)
        case .over:
            return .over
        }
    }

    /// The upstream refused a message that carried `id`, and does not know the session any more: `isCertain`, or maybe.
    ///
    /// `now` is of a clock that only goes forward.
    package mutating func lost(id: String, isCertain: Bool, waiter: Waiter, at now: Duration) -> Loss {
        switch self.state {
        case .bound(id):
            if !isCertain, let foundAt, now - foundAt < Self.pace { return .kept }
            if let refusal, now - refusal.at < Self.pace { return .refused(refusal.status) }
            self.state = .opening(old: id, waiters: [waiter])
            let pause = self.renewedAt.map { $0 + Self.pace - now } ?? .zero
            return .renew(after: max(pause, .zero))
        case .bound(let newer):
            return .retry(id: newer)
        case .opening(let old, var waiters):
            waiters.append(waiter)
            self.state = .opening(old: old, waiters: waiters)
            return .wait
        case .absent, .over:
            return .over
        }
    }

    /// The session is open under `id`; returns who waited for it, nil if it was closed meanwhile and nobody wants it.
    package mutating func opened(id: String, at now: Duration) -> [Waiter]? {
        guard case .opening(let old, let waiters) = self.state else { return nil }
        if old != nil { self.renewedAt = now }
        self.state = .bound(id: id)
        return waiters
    }

    /// The upstream knows the session after all; returns who waited.
    package mutating func kept(at now: Duration) -> [Waiter] {
        guard case .opening(let old?, let waiters) = self.state else { return [] }
        self.foundAt = now
        self.state = .bound(id: old)
        return waiters
    }

    /// The credential was refused with this status; returns who waited.
    ///
    /// That says nothing of the session, which is there again if the credential is accepted again.
    package mutating func refused(with status: Int, at now: Duration) -> [Waiter] {
        guard case .opening(let old, let waiters) = self.state else { return [] }
        self.refusal = (status, now)
        self.state = old.map { .bound(id: $0) } ?? .absent
        return waiters
    }

    /// The session could not be opened; returns who waited for it.
    ///
    /// One that was lost is over; one that never was open is wanted anew by whoever comes next.
    package mutating func openingFailed() -> [Waiter] {
        guard case .opening(let old, let waiters) = self.state else { return [] }
        self.state = old == nil ? .absent : .over
        return waiters
    }

    /// The session ended, from either side.
    ///
    /// Returns the id that the upstream may still know, and who waited.
    package mutating func close() -> (id: String?, waiters: [Waiter]) {
        defer { self.state = .over }
        return switch self.state {
        case .bound(let id): (id, [])
        case .opening(_, let waiters): (nil, waiters)
        case .absent, .over: (nil, [])
        }
    }
}
