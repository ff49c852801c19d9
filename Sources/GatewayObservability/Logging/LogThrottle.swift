// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// An upstream that is down fails every request that is for it. The first failure is news, and so is that it goes on; the
// rest would push everything else out of the log. So for each key, which names an upstream and a reason, the first line
// passes, and then one every ten seconds with the number of those that were held back (faults S13.4). A key that was
// quiet for ten seconds is new again. What is held back when a key falls silent is reported by `takeFinished`.

/// Decides which lines of the same key are logged.
///
/// Times are on one monotonic clock, from any origin.
package struct LogThrottle<Key: Hashable & Sendable>: Sendable {
    package enum Decision: Hashable, Sendable {
        /// Log it, and say that `suppressed` like it were not logged before.
        case log(suppressed: Int)
        case suppress
    }

    private struct Window {
        var end: Duration
        var suppressed = 0
    }

    private let interval: Duration
    private let capacity: Int
    private var windows: [Key: Window] = [:]

    /// - Parameters:
    ///   - interval: the time between two lines of one key.
    ///   - capacity: keys that are told apart at the same time; lines of further keys are suppressed.
    package init(interval: Duration = .seconds(10), capacity: Int = 1024) {
        self.interval = interval
        self.capacity = capacity
    }

    /// Decides about one line.
    package mutating func decide(_ key: Key, now: Duration) -> Decision {
        if let window = self.windows[key] {
            guard window.end <= now else {
                self.windows[key] = Window(end: window.end, suppressed: window.suppressed + 1)
                return .suppress
            }
            self.windows[key] = Window(end: now + self.interval)
            return .log(suppressed: window.suppressed)
        }
        if self.windows.count >= self.capacity {
            self.windows = self.windows.filter { $0.value.end > now }
            guard self.windows.count < self.capacity else { return .suppress }
        }
        self.windows[key] = Window(end: now + self.interval)
        return .log(suppressed: 0)
    }

    /// Forgets the keys whose window is over and gives those with lines that were not logged, in any order.
    package mutating func takeFinished(now: Duration) -> [(key: Key, suppressed: Int)] {
        var finished: [(key: Key, suppressed: Int)] = []
        for (key, window) in self.windows where window.end <= now {
            if window.suppressed > 0 { finished.append((key, window.suppressed)) }
            self.windows[key] = nil
        }
        return finished
    }
}
