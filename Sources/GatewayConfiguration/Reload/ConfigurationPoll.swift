// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// A server that gives configurations to many gateways must not be asked by all of them at once, so that every pause
// differs by up to a tenth. While it fails, or gives what cannot run, it is asked again soon and then ever more rarely.
// Validators are kept of what runs only: if those of a rejected text were kept, the answer would be 304 for ever, also
// after a file that the text needs is there (decision 0038).

/// When a configuration at a URL is asked for again, and with which validators.
///
/// Times are on one monotonic clock, from any origin. `jitter` is a random number from -1 to 1 that the caller draws.
package struct ConfigurationPoll: Sendable {
    /// What an answer said of its text, to be sent with the next request (RFC 9110 §8.8).
    package struct Validators: Hashable, Sendable {
        /// What goes into `If-None-Match`.
        package var entityTag: String?
        /// What goes into `If-Modified-Since`.
        package var lastModified: String?

        package init(entityTag: String? = nil, lastModified: String? = nil) {
            self.entityTag = entityTag
            self.lastModified = lastModified
        }

        /// Whether a request would be conditional with them.
        package var isEmpty: Bool { self.entityTag == nil && self.lastModified == nil }
    }

    /// What became of a request.
    package enum Answer: Hashable, Sendable {
        /// 304.
        case notModified
        /// Another configuration, which runs now.
        case applied(Validators)
        /// Another text that means what runs already.
        case unchanged(Validators)
        /// A text that cannot run.
        case rejected
        /// No text: another status, no answer in time, too large, TLS.
        case failed
    }

    /// The pause after the first failure; each further one is twice as long.
    package static let shortestPause = Duration.seconds(1)
    /// The longest pause after failures.
    package static let longestPause = Duration.seconds(300)

    private enum State {
        case waiting(isForced: Bool)
        case asking(isConditional: Bool, isForcedAgain: Bool)
    }

    private let interval: Duration
    private var validators: Validators
    private var failures = 0
    private var state = State.waiting(isForced: false)
    /// When ``due(now:)`` gives the next request; while one is under way this says nothing.
    package private(set) var nextRequest: Duration

    /// Polls at this interval; `validators` are those of the text that was fetched at the start and runs.
    package init(interval: Duration, validators: Validators, now: Duration, jitter: Double) {
        self.interval = interval
        self.validators = validators
        self.nextRequest = now + Self.vary(interval, jitter)
    }

    /// The timer fired: the validators to ask with, none of them after a signal; nil if there is nothing to ask now.
    package mutating func due(now: Duration) -> Validators? {
        guard case .waiting(let isForced) = self.state, now >= self.nextRequest else { return nil }
        let validators = isForced ? Validators() : self.validators
        self.state = .asking(isConditional: !validators.isEmpty, isForcedAgain: false)
        return validators
    }

    /// Somebody wants the text now, whatever the server thinks of it (SIGHUP): call ``due(now:)`` next.
    ///
    /// While a request is under way the next one follows its answer at once.
    package mutating func signalled(now: Duration) {
        switch self.state {
        case .waiting:
            self.nextRequest = min(now, self.nextRequest)
            self.state = .waiting(isForced: true)
        case .asking(let isConditional, _):
            self.state = .asking(isConditional: isConditional, isForcedAgain: true)
        }
    }

    /// A request is over; gives the time of the next one.
    package mutating func answered(_ answer: Answer, now: Duration, jitter: Double) -> Duration {
        guard case .asking(let isConditional, let isForced) = self.state else { return self.nextRequest }
        var isFailure = false
        switch answer {
        case .applied(let validators), .unchanged(let validators): self.validators = validators
        // Nobody asked whether it was modified: the server says something that we cannot use.
        case .notModified: isFailure = !isConditional
        case .rejected, .failed: isFailure = true
        }
        self.failures = isFailure ? self.failures + 1 : 0
        let pause = isFailure ? Self.pause(after: self.failures) : self.interval
        self.nextRequest = isForced ? now : now + Self.vary(pause, jitter)
        self.state = .waiting(isForced: isForced)
        return self.nextRequest
    }

    /// 1 s after the first failure, then twice as long each time, up to 5 min.
    private static func pause(after failures: Int) -> Duration {
        min(self.shortestPause * (1 << min(failures - 1, 16)), self.longestPause)
    }

    /// Up to a tenth more or less.
    private static func vary(_ pause: Duration, _ jitter: Double) -> Duration {
        pause * (1 + 0.1 * (jitter.isNaN ? 0 : min(max(jitter, -1), 1)))
    }
}
