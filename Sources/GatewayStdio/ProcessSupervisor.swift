// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// A child that worked and then ended is started again at once: most often it is one crash. Whatever fails after that
// waits, 1 s at first and twice as long each time up to 30 s, give or take a fifth so that many children that failed
// together do not return together. A child that was ready for a minute has proved itself: its failures are forgotten.
// Ten failures within ten minutes are no bad luck: the child is given up and then started for requests only, one start
// at a time, and after a start that failed not before another 30 s (faults S12.9, F81: never a fork storm).
//
//     idle ── start ──▶ starting ── becameReady ──▶ ready
//                        ▲   │                        │
//          timer, demand │   │ ended                  │ ended: at once, or
//                        │   ▼                        ▼
//                     waiting ◀──────────────────────────┐
//                     failed  ◀── the tenth failure ─────┘

/// Decides when a child may be started again.
///
/// Times are on one monotonic clock, from any origin.
package enum ProcessSupervisor {
    package enum Action: Hashable, Sendable {
        case none
        /// Start the child.
        case spawn
        /// Call `timerFired` at this time.
        case wait(until: Duration)
        /// The child has been given up: say so; nothing is to be done until a request asks for it.
        case reportFailed
    }

    /// The wait after the first failure, and the longest.
    private static let firstBackoff = Duration.seconds(1)
    private static let longestBackoff = Duration.seconds(30)
    /// How long a child must have been ready for its failures to be forgotten.
    private static let provenAfter = Duration.seconds(60)
    private static let failureLimit = 10
    private static let failureWindow = Duration.seconds(600)

    package struct StateMachine<Generator: RandomNumberGenerator>: ~Copyable {
        private enum State {
            case idle
            /// `isTrial`: after it was given up, because a request asked for it.
            case starting(isTrial: Bool)
            case ready(since: Duration, isTrial: Bool)
            case waiting(until: Duration)
            case failed(nextTrial: Duration)
            case stopped
        }

        private var state = State.idle
        private var generator: Generator
        private var backoff = ProcessSupervisor.firstBackoff
        /// When it failed, within the window.
        private var failures: [Duration] = []
        /// Whether a failure has been answered with a start at once since the failures were forgotten.
        private var hasRestartedAtOnce = false

        package init(generator: Generator) {
            self.generator = generator
        }

        /// Whether the child has been given up.
        package var isFailed: Bool {
            if case .failed = self.state { true } else { false }
        }

        /// When it is started next; nil: it is not waiting.
        package var nextStart: Duration? {
            if case .waiting(let until) = self.state { until } else { nil }
        }

        /// The child is wanted.
        package mutating func start(now: Duration) -> Action {
            switch self.state {
            case .idle: return self.spawn()
            case .stopped:
                self.forgetFailures()
                return self.spawn()
            case .starting, .ready, .waiting, .failed: return .none
            }
        }

        /// The child answers.
        package mutating func becameReady(now: Duration) -> Action {
            if case .starting(let isTrial) = self.state { self.state = .ready(since: now, isTrial: isTrial) }
            return .none
        }

        /// The child is gone, or never came to be.
        package mutating func ended(now: Duration) -> Action {
            var wasReady = false
            var isTrial = false
            switch self.state {
            case .idle, .waiting, .failed, .stopped:
                return .none
            case .starting(let trial):
                isTrial = trial
            case .ready(let since, let trial):
                wasReady = true
                isTrial = trial
                if now - since >= ProcessSupervisor.provenAfter {
                    self.forgetFailures()
                    isTrial = false
                }
            }
            self.failures.removeAll { now - $0 >= ProcessSupervisor.failureWindow }
            self.failures.append(now)
            if isTrial || self.failures.count >= ProcessSupervisor.failureLimit {
                let nextTrial = isTrial ? now + self.spread(ProcessSupervisor.longestBackoff) : now
                self.state = .failed(nextTrial: nextTrial)
                return .reportFailed
            }
            if wasReady, !self.hasRestartedAtOnce {
                self.hasRestartedAtOnce = true
                return self.spawn()
            }
            let until = now + self.spread(self.backoff)
            self.backoff = min(self.backoff * 2, ProcessSupervisor.longestBackoff)
            self.state = .waiting(until: until)
            return .wait(until: until)
        }

        /// The gateway had no descriptors to start the child with.
        ///
        /// That is no failure of the child; it is tried again in a moment.
        package mutating func prevented(now: Duration) -> Action {
            guard case .starting(let isTrial) = self.state else { return .none }
            let until = now + self.spread(ProcessSupervisor.firstBackoff)
            guard !isTrial else {
                self.state = .failed(nextTrial: until)
                return .none
            }
            self.state = .waiting(until: until)
            return .wait(until: until)
        }

        /// A request asks for the child.
        ///
        /// It does not shorten a wait.
        package mutating func demanded(now: Duration) -> Action {
            switch self.state {
            case .idle: self.spawn()
            case .failed(let nextTrial) where now >= nextTrial: self.spawn(isTrial: true)
            case .starting, .ready, .waiting, .failed, .stopped: .none
            }
        }

        package mutating func timerFired(now: Duration) -> Action {
            guard case .waiting(let until) = self.state else { return .none }
            return now >= until ? self.spawn() : .wait(until: until)
        }

        /// The child is not wanted any more; whatever is still running ends without consequences.
        package mutating func stop() -> Action {
            self.state = .stopped
            return .none
        }

        private mutating func spawn(isTrial: Bool = false) -> Action {
            self.state = .starting(isTrial: isTrial)
            return .spawn
        }

        private mutating func forgetFailures() {
            self.failures.removeAll()
            self.backoff = ProcessSupervisor.firstBackoff
            self.hasRestartedAtOnce = false
        }

        /// A duration, give or take a fifth.
        private mutating func spread(_ duration: Duration) -> Duration {
            let part = Double(self.generator.next() >> 11) / Double(1 << 53)
            return duration * (0.8 + 0.4 * part)
        }
    }
}
