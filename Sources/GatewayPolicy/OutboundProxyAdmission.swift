// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// How many connections may be set up at once through one outbound proxy as one user, and when none may be.
///
/// A rejected password is not tried again for 10 s, then once, then not for twice as long, up to a minute: accounts are
/// locked by repetition (contract §4). Until a login was accepted connections are set up one at a time, so that a wrong
/// password is sent once, however many callers wait. After a failure to reach the proxy few are set up at once, and each
/// that reaches it allows one more: a proxy that comes back is not overrun (faults F80).
///
/// A place is not kept for as long as the proxy looks for an upstream: one that hangs must not hold up the others.
package struct OutboundProxyAdmission: Sendable {
    /// What somebody who wants to connect is told.
    package enum Answer: Hashable, Sendable {
        /// Go on; `ended` hears how it went.
        case go
        /// Wait for `ended` of another.
        case wait
        /// The login was rejected a moment ago; nothing is sent for this long.
        case refused(Duration)
    }

    /// What was learnt about the proxy or the login.
    package enum Outcome: Hashable, Sendable {
        /// The proxy takes connections; of the login it said nothing yet.
        case reached
        /// The login is right.
        case accepted
        /// It is wrong.
        case rejected
        /// The proxy was not reached, or made no sense.
        case failed
        /// Nothing.
        case neutral
    }

    /// What becomes of those who wait.
    package enum Relief: Hashable, Sendable {
        /// So many of them may go on; they count as told.
        case start(Int)
        /// None of them may.
        case refuse(Duration)
    }

    package static let firstWindow = 10
    package static let widestWindow = 1024
    package static let firstPause = Duration.seconds(10)
    package static let longestPause = Duration.seconds(60)

    /// Connections that are being set up.
    package private(set) var running = 0
    /// Whether the login was accepted when it was last judged, or there is none.
    package private(set) var isProven: Bool
    private var window = Self.firstWindow
    private var pause = Self.firstPause
    private var blockedUntil: Duration?

    /// `needsLogin`: whether user and password are sent.
    package init(needsLogin: Bool) {
        self.isProven = !needsLogin
    }

    /// Asks for one connection.
    package mutating func ask(now: Duration) -> Answer {
        if let rest = self.rest(now: now) { return .refused(rest) }
        guard self.running < self.limit else { return .wait }
        self.running += 1
        return .go
    }

    /// Ends one that was told to go; `waiting` is the number of those who wait.
    package mutating func ended(_ outcome: Outcome, waiting: Int, now: Duration) -> Relief {
        self.running -= 1
        self.learn(outcome, now: now)
        if let rest = self.rest(now: now) { return .refuse(rest) }
        let count = min(max(self.limit - self.running, 0), waiting)
        self.running += count
        return .start(count)
    }

    /// Takes what was learnt by somebody who keeps no place.
    package mutating func learn(_ outcome: Outcome, now: Duration) {
        switch outcome {
        case .reached:
            if self.isProven { self.window = min(self.window + 1, Self.widestWindow) }
        case .accepted:
            if self.isProven { self.window = min(self.window + 1, Self.widestWindow) }
            self.isProven = true
            self.pause = Self.firstPause
            self.blockedUntil = nil
        case .rejected:
            self.isProven = false
            self.window = Self.firstWindow
            // Those that were under way together are one attempt.
            guard self.rest(now: now) == nil else { return }
            self.blockedUntil = now + self.pause
            self.pause = min(self.pause * 2, Self.longestPause)
        case .failed:
            self.window = Self.firstWindow
        case .neutral:
            break
        }
    }

    private var limit: Int { self.isProven ? self.window : 1 }

    /// How long nothing is sent; nil if something may be.
    package func rest(now: Duration) -> Duration? {
        guard let blockedUntil, blockedUntil > now else { return nil }
        return blockedUntil - now
    }
}
