// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import NIOCore

/// Something with deadlines that is looked at a few times a second instead of arming a timer per request.
package protocol Sweepable: AnyObject {
    /// Where the sweeper keeps this entry; written by the sweeper only.
    var sweepIndex: Int { get set }
    /// Called on the event loop about every `LoopSweeper.interval`.
    func sweep(now: NIODeadline)
}

/// One timer per event loop for all deadlines of its connections.
///
/// A round looks at every entry once in an interval; a large one is made in slices, so that a crowd of connections makes
/// nobody wait for the look at all of them. A slice in which many deadlines fire ends early and is gone on with after
/// the sockets had their turn. A deadline fires at most two intervals late, unless thousands fire in one second. Confined
/// to its event loop.
package final class LoopSweeper {
    package static let interval = TimeAmount.milliseconds(250)
    /// Entries that are looked at in one slice, which takes a few tens of microseconds if no deadline fires.
    private static let sliceSize = 64
    /// After this time a slice ends before the next entry.
    ///
    /// To refuse a slow caller takes about 50 microseconds, so that
    /// a full slice of those would keep every other connection of the loop waiting for three milliseconds.
    private static let sliceTime = TimeAmount.microseconds(100)
    /// How long the sockets have their turn after a slice that ended early.
    ///
    /// The event loop runs a task that is due before
    /// it looks at its sockets, so this is more than zero.
    private static let pauseAfterLongSlice = TimeAmount.microseconds(500)

    private let eventLoop: any EventLoop
    private let clock: @Sendable () -> NIODeadline
    // Unchecked: `add` and `remove` alone change it, and call nobody meanwhile (decision 0014).
    @exclusivity(unchecked) private var entries: [any Sweepable] = []
    private var timer: Scheduled<Void>?
    /// The entries that this round has not come to are those before this index: it goes from the last to the first, since an
    /// entry that is removed has the last one put in its place.
    private var left = 0
    private var isSweeping = false

    /// Creates a sweeper without entries, whose timer starts with the first one.
    ///
    /// - Parameters:
    ///   - eventLoop: the one on which it is used, and on which its timer runs.
    ///   - clock: tells what time it is: when a slice begins, and behind each of its entries.
    package init(eventLoop: any EventLoop, clock: @escaping @Sendable () -> NIODeadline = { .now() }) {
        self.eventLoop = eventLoop
        self.clock = clock
    }

    package func add(_ entry: any Sweepable) {
        entry.sweepIndex = self.entries.count
        self.entries.append(entry)
        if self.timer == nil, !self.isSweeping { self.sweepLater(in: Self.interval) }
    }

    package func remove(_ entry: any Sweepable) {
        let index = entry.sweepIndex
        guard self.entries.indices.contains(index), self.entries[index] === entry else { return }
        let last = self.entries.removeLast()
        if last !== entry {
            self.entries[index] = last
            last.sweepIndex = index
        }
        entry.sweepIndex = -1
        if self.entries.isEmpty {
            self.timer?.cancel()
            self.timer = nil
            self.left = 0
        }
    }

    /// Shows `body` every entry that is there now; it may add and remove some meanwhile.
    package func each(_ body: (any Sweepable) -> Void) { for entry in self.entries { body(entry) } }

    private func sweepLater(in pause: TimeAmount) {
        let sweeper = NIOLoopBound(self, eventLoop: self.eventLoop)
        self.timer = self.eventLoop.scheduleTask(in: pause) { sweeper.value.sweep() }
    }

    /// Entries may remove themselves, or others, while they are swept.
    private func sweep() {
        let now = self.clock()
        self.timer = nil
        self.isSweeping = true
        if self.left == 0 { self.left = self.entries.count }
        let slices = max(1, (self.entries.count + Self.sliceSize - 1) / Self.sliceSize)
        let end = max(0, self.left - Self.sliceSize)
        var isLong = false
        while self.left > end, !isLong {
            self.left = min(self.left, self.entries.count) - 1
            guard self.left >= 0 else { break }
            self.entries[self.left].sweep(now: now)
            isLong = self.clock() - now > Self.sliceTime
        }
        self.left = max(self.left, 0)
        self.isSweeping = false
        guard !self.entries.isEmpty else { return }
        let isCut = isLong && self.left > end
        self.sweepLater(in: isCut ? Self.pauseAfterLongSlice : .nanoseconds(Self.interval.nanoseconds / Int64(slices)))
    }
}
