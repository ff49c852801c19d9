// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// A program that is at work in one thread answers no ping, and is anything but dead: to end it would lose the calls of all
// its callers. So a question that stays unanswered is the end only if nothing at all was heard meanwhile and nobody's call
// can be the reason (contract U5). A call has a timeout, and several that were not answered in time are a reason of their
// own to begin anew (faults F83); an answer to a question meanwhile tells that one is only long.

/// Decides when a session that callers share is asked whether it lives, and whether silence then is its end.
///
/// Times are on one monotonic clock, from any origin; `lastByte` is when anything at all came from it last, be it a part of a
/// message.
package struct Liveness: Hashable, Sendable {
    /// How long a session may be silent before it is asked; nil: it never is.
    private var interval: Duration?
    /// How long the upstream may be at work on a call that its caller gave up.
    private var callTime: Duration
    /// When the question that is not answered was sent.
    private var askedAt: Duration?
    /// When it was asked last.
    private var lastQuestion: Duration?
    /// When a caller gave a call up that the upstream has.
    private var lastAbandoned: Duration?

    package init(interval: Duration?, callTime: Duration) {
        self.interval = interval
        self.callTime = callTime
    }

    /// Other times count from now on.
    package mutating func tune(interval: Duration?, callTime: Duration) {
        self.interval = interval
        self.callTime = callTime
    }

    /// A caller gave a call up that the upstream has.
    package mutating func abandonedCall(now: Duration) { self.lastAbandoned = now }

    /// Whether the session is to be asked now: one question at a time, and not more often than the interval says.
    package mutating func asks(lastByte: Duration, now: Duration) -> Bool {
        guard let interval = self.interval, self.askedAt == nil, now - lastByte >= interval else { return false }
        if let lastQuestion = self.lastQuestion, now - lastQuestion < interval { return false }
        self.askedAt = now
        self.lastQuestion = now
        return true
    }

    /// The question was answered, or is of no interest any more.
    package mutating func answered() { self.askedAt = nil }

    /// The question was not answered in time; returns whether the session is to be ended.
    ///
    /// `isBusy`: a call is in flight, or what it says is not read.
    package mutating func unanswered(lastByte: Duration, isBusy: Bool, now: Duration) -> Bool {
        guard let askedAt = self.askedAt else { return false }
        self.askedAt = nil
        guard !isBusy, lastByte <= askedAt else { return false }
        // Whoever said something since is not held up by a call of before.
        guard let abandoned = self.lastAbandoned, lastByte < abandoned else { return true }
        return now - abandoned >= self.callTime
    }
}
