// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// A server that gives configurations to many gateways must not be asked by all of them at once, so that every pause
// differs by up to a tenth. While it fails, or gives what cannot run, it is asked again soon and then ever more rarely.
// Validators are kept of what runs only: if those of a rejected text were kept, the answer would be 304 for ever, also
// after a file that the text needs is there (decision 0038).

package import GatewayWire

/// When a configuration at a URL is asked for again, and with which validators.
///
/// Times are on one monotonic clock, from any origin. `jitter` is a random number from -1 to 1 that the caller draws.
package struct ConfigurationPoll: Sendable {
    /// What became of a request.
    package enum Answer: Hashable, Sendable {
        /// 304.
        case notModified
        /// Another configuration, which runs now.
        case applied(HTTPValidators)
        /// Another text that means what runs already.
        case unchanged(HTTPValidators)
        /// A text that cannot run.
        case rejected
        /// No text: another status, no answer in time, too large, TLS.
        case failed
    }

    /// The pause after the first failure; each further one is twice as long.
    package static let shortestPause = Duration.seconds(1)
    /// The longest pause after failures.
    package static let longestPause = Duration.seconds(300)

    private let interval: Duration
    private var failures = 0
    /// What to ask with: those of what runs.
    package private(set) var validators: HTTPValidators
    /// When to ask next.
    package private(set) var nextRequest: Duration

    /// Polls at this interval; `validators` are those of the text that was fetched at the start and runs.
    package init(interval: Duration, validators: HTTPValidators, now: Duration, jitter: Double) {
        self.interval = interval
        self.validators = validators
        self.nextRequest = now + Self.vary(interval, jitter)
    }

    /// The text was asked for, whoever wanted it, and this came of it.
    package mutating func answered(_ answer: Answer, now: Duration, jitter: Double) {
        switch answer {
        case .applied(let validators), .unchanged(let validators):
            self.validators = validators
            self.failures = 0
        case .notModified: self.failures = 0
        case .rejected, .failed: self.failures += 1
        }
        let pause = self.failures == 0 ? self.interval : Self.pause(after: self.failures)
        self.nextRequest = now + Self.vary(pause, jitter)
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
