// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// Calls whose callers do not take what comes for them (faults F88).
struct SlowCallers {
    /// How long one caller may hold up the others of an upstream.
    static let patience = TimeAmount.seconds(5)

    private var since: [Int64: NIODeadline] = [:]

    var isEmpty: Bool { self.since.isEmpty }

    mutating func add(_ call: Int64, now: NIODeadline) {
        if self.since[call] == nil { self.since[call] = now }
    }

    mutating func remove(_ call: Int64) { self.since[call] = nil }

    /// Whether the upstream is not to be read; without `patience` for as long as anybody is slow.
    func holdsUp(now: NIODeadline, patience: TimeAmount?) -> Bool {
        guard let patience else { return !self.since.isEmpty }
        return self.since.values.contains { now - $0 < patience }
    }
}

/// Counts what may happen now and then but not all the time.
struct RateWindow {
    let limit: Int
    let interval: TimeAmount
    private var began = NIODeadline.uptimeNanoseconds(0)
    private var count = 0

    init(limit: Int, interval: TimeAmount) {
        self.limit = limit
        self.interval = interval
    }

    /// Counts one more; true if it is too many in the interval.
    mutating func exceeds(at now: NIODeadline) -> Bool {
        if now - self.began >= self.interval {
            self.began = now
            self.count = 0
        }
        self.count += 1
        return self.count > self.limit
    }
}
