// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A session at an upstream: opened when it is first wanted, and opened again, once, when the upstream forgets it.
///
/// Pure. Many calls can want it, or meet its loss, at the same time: the first opens it, the others wait for that, and
/// who comes with the loss of an id that was already replaced goes on with the new one (contract §4, protocol §2 C19).
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
        /// The caller of this opens the session again and then says `opened` or `openingFailed`.
        case renew
        /// Somebody is at it; the waiter is given back when it ends.
        case wait
        /// It happened already.
        case retry(id: String)
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

    /// The upstream answered 404 to a message that carried `id`.
    package mutating func lost(id: String, waiter: Waiter) -> Loss {
        switch self.state {
        case .bound(id):
            self.state = .opening(old: id, waiters: [])
            return .renew
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
    package mutating func opened(id: String) -> [Waiter]? {
        guard case .opening(_, let waiters) = self.state else { return nil }
        self.state = .bound(id: id)
        return waiters
    }

    /// The session could not be opened; returns who waited for it.
    ///
    /// One that was lost is over; one that never was is wanted anew by whoever comes next.
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
