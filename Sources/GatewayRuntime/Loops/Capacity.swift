// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Synchronization

/// How much the gateway has under way of each kind that is bounded, over all event loops and upstreams (contract §6).
final class Capacity: Sendable {
    private let inFlightLimit: Atomic<Int>
    private let streamLimit: Atomic<Int>
    private let inFlight = Atomic<Int>(0)
    private let streams = Atomic<Int>(0)
    /// Streams that the gateway has at upstreams for callers beside the first of each.
    private let slotStreams = Atomic<Int>(0)
    private let waiters = Atomic<Int>(0)
    /// Calls whose caller takes no more, so that their upstream is not read.
    private let suspendedCalls = Atomic<Int>(0)
    private let draining = Atomic<Bool>(false)

    init(_ limits: Limits) {
        self.inFlightLimit = Atomic(limits.inFlight)
        self.streamLimit = Atomic(limits.streams)
    }

    /// Goes by other limits from now on; what has its place keeps it, also where there are more than may be now.
    func tune(_ limits: Limits) {
        self.inFlightLimit.store(limits.inFlight, ordering: .relaxed)
        self.streamLimit.store(limits.streams, ordering: .relaxed)
    }

    /// Whether nothing new is taken any more: the process is about to end.
    var isDraining: Bool { self.draining.load(ordering: .relaxed) }

    func beginDraining() { self.draining.store(true, ordering: .relaxed) }

    // MARK: Calls

    var inFlightCount: Int { self.inFlight.load(ordering: .relaxed) }

    /// One more call; false if there are `limits.inFlight`.
    func takePlace() -> Bool { Self.take(self.inFlight, self.inFlightLimit) }

    func leavePlace() { self.inFlight.subtract(1, ordering: .relaxed) }

    /// One more waits for something to be known or open, also behind the departure of its caller; false if too many do.
    func waiterBegan() -> Bool { Self.take(self.waiters, self.inFlightLimit) }

    func waiterEnded() { self.waiters.subtract(1, ordering: .relaxed) }

    var suspendedCount: Int { self.suspendedCalls.load(ordering: .relaxed) }

    func suspended(_ change: Int) { self.suspendedCalls.add(change, ordering: .relaxed) }

    // MARK: Streams

    var streamCount: Int { self.streams.load(ordering: .relaxed) }

    /// One more stream of a caller; false if there are `limits.streams`.
    func takeStream() -> Bool { Self.take(self.streams, self.streamLimit) }

    func streamEnded() { self.streams.subtract(1, ordering: .relaxed) }

    /// One more stream at an upstream, for a slot other than its caller's home; false if there are `limits.streams` of them.
    func takeSlotStream() -> Bool { Self.take(self.slotStreams, self.streamLimit) }

    func slotStreamEnded() { self.slotStreams.subtract(1, ordering: .relaxed) }

    private static func take(_ count: borrowing Atomic<Int>, _ limit: borrowing Atomic<Int>) -> Bool {
        if count.add(1, ordering: .relaxed).newValue <= limit.load(ordering: .relaxed) { return true }
        count.subtract(1, ordering: .relaxed)
        return false
    }
}
