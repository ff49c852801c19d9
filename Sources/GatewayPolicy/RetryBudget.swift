// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// Retries must not double the load of an upstream that already fails. Each retry is paid from a budget per upstream
// that requests fill: a fifth of the requests of the last ten seconds, and a floor of ten a second, so that an upstream
// with little traffic can have retries at all. When everything fails, the upstream sees at most 1.2 times its load and
// the floor. The budget recovers as the window moves on. Token fail-over is not paid from it: `maxRetries` bounds it.

/// How many automatic retries one upstream may get: 20 % of its requests over ten seconds, and ten a second.
///
/// Times are on one monotonic clock, from any origin; a time before the latest one counts as the latest.
package struct RetryBudget: Sendable {
    /// The window in seconds, the running second included.
    package static let windowSeconds = 10
    /// Retries that the window allows however few requests there were.
    package static let floor = 10 * Self.windowSeconds
    /// Requests that pay for one retry.
    package static let requestsPerRetry = 5

    /// One second of the window.
    private struct Slot {
        var requests = 0
        var retries = 0
    }

    private var slots = [Slot](repeating: Slot(), count: Self.windowSeconds)
    private var second: Int64 = 0
    private var requests = 0
    private var retries = 0

    package init() {}

    /// Counts a request of a caller; a retry is not one.
    package mutating func recordRequest(now: Duration) {
        let index = self.advance(to: now)
        self.slots[index].requests += 1
        self.requests += 1
    }

    /// Takes one retry from the budget; false: none is left, and nothing is taken.
    package mutating func withdraw(now: Duration) -> Bool {
        let index = self.advance(to: now)
        guard self.retries < Self.floor + self.requests / Self.requestsPerRetry else { return false }
        self.slots[index].retries += 1
        self.retries += 1
        return true
    }

    /// Empties the slots that left the window and gives the slot of this second.
    private mutating func advance(to now: Duration) -> Int {
        let target = max(self.second, now.components.seconds)
        let window = Int64(Self.windowSeconds)
        if target - self.second >= window {
            for index in self.slots.indices { self.clear(index) }
            self.second = target
        }
        while self.second < target {
            self.second += 1
            self.clear(Int(self.second % window))
        }
        return Int(target % window)
    }

    private mutating func clear(_ index: Int) {
        self.requests -= self.slots[index].requests
        self.retries -= self.slots[index].retries
        self.slots[index] = Slot()
    }
}
