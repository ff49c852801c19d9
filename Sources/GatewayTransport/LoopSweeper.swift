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
/// A deadline fires at most one interval late. Confined to its event loop.
package final class LoopSweeper {
    package static let interval = TimeAmount.milliseconds(250)

    private let eventLoop: any EventLoop
    // Unchecked: `add` and `remove` alone change it, and call nobody meanwhile (decision 0014).
    @exclusivity(unchecked) private var entries: [any Sweepable] = []
    private var timer: RepeatedTask?

    package init(eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
    }

    package func add(_ entry: any Sweepable) {
        entry.sweepIndex = self.entries.count
        self.entries.append(entry)
        guard self.timer == nil else { return }
        let sweeper = NIOLoopBound(self, eventLoop: self.eventLoop)
        self.timer = self.eventLoop.scheduleRepeatedTask(initialDelay: Self.interval, delay: Self.interval) { _ in
            sweeper.value.sweep(now: .now())
        }
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
        }
    }

    /// Entries may remove themselves, or others, while they are swept; whoever is missed has its turn next time.
    private func sweep(now: NIODeadline) {
        var index = self.entries.count
        while index > 0 {
            index = min(index, self.entries.count) - 1
            guard index >= 0 else { return }
            self.entries[index].sweep(now: now)
        }
    }
}
