// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A caller's session at its upstream, which the upstream may forget and which is then opened again, once.
///
/// Pure. Many calls can meet the loss at the same time: the first renews, the others wait for it, and who comes with
/// the loss of an id that was already replaced goes on with the new one (contract §4, protocol §2 C19).
package struct UpstreamSession<Waiter>: ~Copyable {
    package enum Loss {
        /// The caller of this opens the session again and then says `renewed` or `renewalFailed`.
        case renew
        /// Somebody is at it; the waiter is given back when it ends.
        case wait
        /// It happened already.
        case retry(id: String)
        /// The session cannot come back.
        case over
    }

    private enum State {
        case bound(id: String)
        case renewing(old: String, waiters: [Waiter])
        case over
    }

    private var state: State

    package init(id: String) {
        self.state = .bound(id: id)
    }

    /// The id to send; while it is renewed the old one, whose loss then says to wait; nil: over.
    package var id: String? {
        switch self.state {
        case .bound(let id), .renewing(let id, _): id
        case .over: nil
        }
    }

    /// The upstream answered 404 to a message that carried `id`.
    package mutating func lost(id: String, waiter: Waiter) -> Loss {
        switch self.state {
        case .bound(id):
            self.state = .renewing(old: id, waiters: [])
            return .renew
        case .bound(let newer):
            return .retry(id: newer)
        case .renewing(let old, var waiters):
            waiters.append(waiter)
            self.state = .renewing(old: old, waiters: waiters)
            return .wait
        case .over:
            return .over
        }
    }

    /// The session was opened again under `id`; returns who waited for it.
    package mutating func renewed(id: String) -> [Waiter] {
        guard case .renewing(_, let waiters) = self.state else { return [] }
        self.state = .bound(id: id)
        return waiters
    }

    /// The session could not be opened again: it is over; returns who waited for it.
    package mutating func renewalFailed() -> [Waiter] {
        let waiters = if case .renewing(_, let waiters) = self.state { waiters } else { [Waiter]() }
        self.state = .over
        return waiters
    }

    /// The session ended, from either side.
    ///
    /// Returns the id that the upstream may still know, and who waited.
    package mutating func close() -> (id: String?, waiters: [Waiter]) {
        defer { self.state = .over }
        return switch self.state {
        case .bound(let id): (id, [])
        case .renewing(_, let waiters): (nil, waiters)
        case .over: (nil, [])
        }
    }
}
