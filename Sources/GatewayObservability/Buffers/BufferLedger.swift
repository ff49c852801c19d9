// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

// Each buffer has a bound of its own, but ten thousand connections times a few MiB are more than a machine has. So
// whoever holds bytes for a peer counts them here, and above one bound for the process (`limits.bufferedBytes`) the
// largest holder has to let go first: that is most likely the one who does harm, and the smallest number of callers
// who are hurt. What each holder does when it is told to is its own business: a call ends as `overloaded`, a connection
// that does not read is broken, a stream forgets what could be asked for again.

/// All bytes that the gateway holds for callers, upstreams and children, and their bound.
package final class BufferLedger: Sendable {
    /// A holder of so many bytes that it may be told to let go.
    fileprivate final class LargeHolder: Sendable {
        let bytes: Atomic<Int>
        /// Whether it was told already.
        let isLettingGo = Atomic<Bool>(false)
        let letGo: @Sendable () -> Void

        init(_ bytes: Int, _ letGo: @escaping @Sendable () -> Void) {
            self.bytes = Atomic(bytes)
            self.letGo = letGo
        }
    }

    /// Holders of less are never told to let go: it would free nothing.
    package static let largeSize = 16 * 1024

    private let total: Gauge
    /// Of these, what sessions keep for callers that come back.
    private let keptForSessions = Gauge()
    private let limit: Atomic<Int>
    private let large = Mutex<[ObjectIdentifier: LargeHolder]>([:])

    /// `total` is the gauge that operators see; `limit` the bound for all holders together.
    package init(total: Gauge, limit: Int) {
        self.total = total
        self.limit = Atomic(limit)
    }

    /// Goes by another bound from now on: whoever holds more from then on finds it.
    package func tune(limit: Int) { self.limit.store(limit, ordering: .relaxed) }

    /// Bytes that are held now.
    package var bytes: Int { self.total.value }

    /// Of these, bytes that sessions keep while nothing is under way.
    package var sessionBytes: Int { self.keptForSessions.value }

    fileprivate func add(_ change: Int, isForSession: Bool) {
        self.total.add(change)
        if isForSession { self.keptForSessions.add(change) }
    }

    fileprivate func list(_ bytes: Int, _ letGo: @escaping @Sendable () -> Void) -> LargeHolder {
        let holder = LargeHolder(bytes, letGo)
        self.large.withLock { $0[ObjectIdentifier(holder)] = holder }
        return holder
    }

    fileprivate func unlist(_ holder: LargeHolder) {
        self.large.withLock { $0[ObjectIdentifier(holder)] = nil }
    }

    /// Tells the largest holders to let go until what is left is within the bound.
    fileprivate func enforce() {
        let limit = self.limit.load(ordering: .relaxed)
        guard self.total.value > limit else { return }
        let told: [LargeHolder] = self.large.withLock { large in
            // Holders that were told before are letting go already: what they hold counts as gone.
            var left = self.total.value
            var others: [LargeHolder] = []
            for holder in large.values {
                if holder.isLettingGo.load(ordering: .relaxed) {
                    left -= holder.bytes.load(ordering: .relaxed)
                } else {
                    others.append(holder)
                }
            }
            var told: [LargeHolder] = []
            while left > limit {
                let largest = others.indices.max {
                    others[$0].bytes.load(ordering: .relaxed) < others[$1].bytes.load(ordering: .relaxed)
                }
                guard let largest else { break }
                let holder = others.remove(at: largest)
                holder.isLettingGo.store(true, ordering: .relaxed)
                left -= holder.bytes.load(ordering: .relaxed)
                told.append(holder)
            }
            return told
        }
        for holder in told { holder.letGo() }
    }
}

/// What one holder keeps for its peer, as it changes; used by one thread at a time.
///
/// Costs one atomic addition for a change of the ordinary size. What it counts ends with it.
package struct HeldBytes: ~Copyable {
    private let ledger: BufferLedger
    private let isForSession: Bool
    private var holder: BufferLedger.LargeHolder?
    package private(set) var count = 0

    /// `isForSession`: what is kept for a session, also while nothing is under way.
    package init(in ledger: BufferLedger, isForSession: Bool = false) {
        self.ledger = ledger
        self.isForSession = isForSession
    }

    /// The holder holds `count` bytes from now on.
    ///
    /// `letGo` makes what is called, on any thread and perhaps before this returns, if the holder has to give them up; nil for
    /// one that cannot.
    @inline(__always)
    package mutating func set(_ count: Int, _ letGo: () -> (@Sendable () -> Void)?) {
        guard count != self.count else { return }
        self.change(to: count, letGo)
    }

    private mutating func change(to count: Int, _ letGo: () -> (@Sendable () -> Void)?) {
        let grew = count > self.count
        // It let go of something, so it can be told again.
        if !grew { self.holder?.isLettingGo.store(false, ordering: .relaxed) }
        self.ledger.add(count - self.count, isForSession: self.isForSession)
        self.count = count
        if let holder {
            holder.bytes.store(count, ordering: .relaxed)
            if count < BufferLedger.largeSize / 2 {
                self.ledger.unlist(holder)
                self.holder = nil
            }
        } else if count >= BufferLedger.largeSize {
            self.holder = letGo().map { self.ledger.list(count, $0) }
        }
        if grew { self.ledger.enforce() }
    }

    /// The holder holds nothing any more.
    package mutating func clear() { self.set(0) { nil } }

    deinit {
        if self.count > 0 { self.ledger.add(-self.count, isForSession: self.isForSession) }
        if let holder { self.ledger.unlist(holder) }
    }
}
