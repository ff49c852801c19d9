// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// A server may refuse a GET for reasons that have nothing to do with the session or the credential that it came with:
// many have no such stream and say so with whatever status their framework gives, and some guard GET in another way than
// POST. So a refusal of a GET is never taken for more than that: a message in the same session, a ping, tells whether the
// session and the credential are good. Only what that is answered ends a session or moves a pool (contract U10).
//
//     asking ─► reading ─► pausing ─► asking …      the stream broke off, and is asked for again
//        │                    ▲
//        └─► checking ────────┴─► resting           refused, or gone, with a session that is good: the owner decides

/// The rules of one GET stream that the gateway has at a streamable-HTTP upstream.
package enum StandingStream {
    /// What the answer to the GET says.
    package enum Answer: Hashable, Sendable {
        /// It is the stream.
        case stream
        /// There is no such stream; `status` says so for certain.
        case none(status: Int)
        /// There may be none, or the session or the credential may not be good any more.
        case doubtful(status: Int)
        /// Nothing is known; a later GET may be answered otherwise.
        case failed

        /// `isEventStream`: the answer has the type of an event stream.
        package init(status: Int, isEventStream: Bool) {
            self =
                switch status {
                case 200 where isEventStream: .stream
                // A page, or a greeting: whoever answers a GET so has no stream there.
                case 200..<300, 405, 501: .none(status: status)
                case 408, 425, 429: .failed
                case 400..<500: .doubtful(status: status)
                default: .failed
                }
        }
    }

    /// What a message in the same session was answered.
    package enum Check: Hashable, Sendable {
        /// The session and the credential are good.
        case works
        /// The upstream does not know the session any more.
        case lost
        /// The credential is refused with this status.
        case refused(status: Int)
        /// Nothing is known.
        case unknown

        /// `isAnswered`: the body is the JSON-RPC answer to the message itself, and speaks of it alone; `hadSession`: the
        /// message carried a session.
        ///
        /// A session may be lost with whatever status the server's guard gives for it (contract U6): with 401 it is opened
        /// again, which tells whether the credential is refused.
        package init(status: Int, isAnswered: Bool, hadSession: Bool) {
            self =
                switch status {
                case 200..<300: .works
                case 401 where hadSession: .lost
                case 401, 403: .refused(status: status)
                case 400 where isAnswered, 404 where isAnswered: .works
                case 400 where hadSession, 404 where hadSession: .lost
                default: .unknown
                }
        }
    }

    /// What to do next.
    package enum Action: Hashable, Sendable {
        /// Read the stream.
        case read
        /// Send a message in the same session.
        case check
        /// The upstream has no such stream for this session: it answered with this status while the session is good.
        case unavailable(status: Int)
        /// The credential is refused with this status.
        case refused(status: Int)
        /// The session is to be opened again.
        case reopen
        /// Ask for the stream again after so long.
        case again(after: Duration)
    }

    /// A stream that stood so long was no failure.
    package static let goodTime = Duration.seconds(5)
    /// A stream that was refused is asked for no more often than this.
    package static let shortestRefusalPause = Duration.seconds(1)

    /// One stream, in one session of the upstream.
    package struct StateMachine: Sendable {
        /// The status of a GET that was refused, while that is looked into.
        private var doubt: Int?
        private var failures = 0
        private var began: Duration?
        /// When the session was opened again last.
        private var reopened: Duration?

        package init() {}

        /// The upstream answered the GET at `now`, from any fixed origin.
        package mutating func answered(_ answer: Answer, now: Duration) -> Action {
            self.doubt = nil
            switch answer {
            case .stream:
                self.began = now
                return .read
            case .none(let status):
                return .unavailable(status: status)
            case .doubtful(let status):
                self.doubt = status
                return .check
            case .failed:
                return self.again(atLeast: StandingStream.shortestRefusalPause)
            }
        }

        /// The message that was sent because of `.check` was answered at `now`.
        ///
        /// A session that is lost as soon as it is opened is opened again at growing intervals, never twice in a second.
        package mutating func checked(_ check: Check, now: Duration) -> Action {
            guard let doubt else { return self.again(atLeast: StandingStream.shortestRefusalPause) }
            self.doubt = nil
            switch check {
            case .works: return .unavailable(status: doubt)
            case .lost:
                let pause = max(self.backoff, StandingStream.shortestRefusalPause)
                if let reopened, now - reopened < pause { return self.again(atLeast: pause) }
                self.reopened = now
                self.failures += 1
                return .reopen
            case .refused(let status): return .refused(status: status)
            case .unknown: return self.again(atLeast: StandingStream.shortestRefusalPause)
            }
        }

        /// An event came.
        package mutating func heard() { self.failures = 0 }

        /// The stream ended, or could not be asked for, at `now`; `retry` is the pause that the upstream asked for.
        package mutating func ended(retry: Duration?, now: Duration) -> Action {
            if let began, now - began >= StandingStream.goodTime { self.failures = 0 }
            self.began = nil
            guard let retry, self.failures < 3 else { return self.again(atLeast: retry ?? .zero) }
            self.failures += 1
            return .again(after: retry)
        }

        /// The owner wants the stream although it was refused, or not to be had: when to ask for it again.
        package mutating func pauseAfterRefusal() -> Duration {
            self.failures += 1
            return max(self.backoff, StandingStream.shortestRefusalPause)
        }

        private mutating func again(atLeast shortest: Duration) -> Action {
            self.failures += 1
            return .again(after: max(self.backoff, shortest))
        }

        /// 1 s after the first failure, and twice as long after each more, up to 32 s.
        private var backoff: Duration { .milliseconds(500 << min(self.failures, 6)) }
    }
}
