// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// When memory that is free, but kept by the allocator, is given back to the system.
///
/// Giving it back takes the allocator's locks for some milliseconds, so it is done when it promises something: when the
/// process grew, or when most of what it did is over. Where the same work goes on for hours, the allocator keeps a little more
/// every minute between what is in use; that is given back now and then.
///
/// Times are on one monotonic clock, from any origin.
package struct MemoryRelease: Sendable {
    /// What the process has to have grown by, in bytes.
    private static let growth = 64 * 1024 * 1024
    /// What is worth it when nothing was given back for a while, and that while.
    private static let smallGrowth = 4 * 1024 * 1024
    private static let interval = Duration.seconds(300)

    private let least: Int
    /// What was left after the last time.
    private var settled: Int
    private var settledAt: Duration
    /// The greatest load since then.
    private var greatestLoad = 0

    /// `resident` is the memory that the process begins with, in bytes.
    package init(resident: Int, now: Duration) {
        self.least = resident
        self.settled = resident
        self.settledAt = now
    }

    /// Whether to give memory back now; `load` is a measure of what the process holds and does, in bytes.
    ///
    /// To be followed by `released`, if so.
    package mutating func isDue(resident: Int, load: Int, now: Duration) -> Bool {
        self.greatestLoad = max(self.greatestLoad, load)
        let isLate = now - self.settledAt >= Self.interval
        if resident - self.settled >= (isLate ? Self.smallGrowth : Self.growth) { return true }
        return load < self.greatestLoad / 2 && resident - self.least >= Self.growth
    }

    /// It was given back, and the process has so much now.
    package mutating func released(resident: Int, load: Int, now: Duration) {
        self.settled = resident
        self.settledAt = now
        self.greatestLoad = load
    }
}
