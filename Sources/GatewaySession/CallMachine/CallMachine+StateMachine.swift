// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayPolicy

extension CallMachine {
    /// The state of one call; the driver feeds every event, and does what is returned.
    package struct StateMachine: ~Copyable {
        enum State: Equatable {
            case new
            /// In line for a place at the upstream.
            case queued
            /// A credential is being taken.
            case choosing(isFresh: Bool)
            /// A session, a connection or a link is being opened.
            case opening
            /// The message is out, and no head came back.
            case sent
            /// A short answer is held until it is whole.
            case short
            /// An answer is held that must be read first.
            case whole
            /// The body of a 401 or 403 is held, for what it says of itself.
            case refusal(status: Int)
            /// The body of another status of 400 and above is held, which may be an answer.
            case failure(status: Int)
            /// The pool is told of a refused credential.
            case judging
            /// The session is opened again because of this status, or looked at first unless it is certainly lost.
            case reopening(status: Int, isCertain: Bool)
            /// The budget of retries is asked.
            case asking(Fault, executed: RetryRules.Executed, isOfDialling: Bool, pause: Duration)
            /// A moment passes before a retry.
            case pausing
            /// The head went out, and bytes follow as they come.
            case relaying
            /// The answer is the last of several messages.
            case streaming
            /// The stream broke off and is asked for again.
            case resuming(isConnecting: Bool)
            /// The caller has its answer; `since`: from the first look at the clock on.
            case draining(since: Duration?)
            case done
        }

        /// How long an upstream may go on after its answer was complete before it is cut off (faults F24).
        package static let drainTime = Duration.seconds(1)
        /// Bytes of an answer nobody reads that are taken to keep a connection.
        package static let drainLimit = 64 * 1024
        /// How long the body of a 401 or 403 is waited for.
        package static let refusalTime = Duration.milliseconds(100)
        /// How long the body is waited for of what may be the loss of a session.
        package static let failureTime = Duration.seconds(5)
        /// A 503 is a promise of better times only if those come as soon as this (faults F30).
        package static let soon = Duration.seconds(2)
        /// Times that a stream is asked for again without an event in between (faults F20).
        package static let resumptionLimit = 3
        /// Questions of the server that are asked elsewhere: each may cost a request of ours.
        package static let questionLimit = 100
        /// Not even progress moves the deadline past this, or past the timeout where that is longer.
        package static let longestTime = Duration.seconds(15 * 60)
        /// How long the upstream has to say so after the caller took the call back.
        package static let takeBackTime = Duration.seconds(1)

        let facts: Facts
        var state = State.new
        /// When the call is over whatever happens.
        package internal(set) var deadline: Duration
        /// Times that the message was sent, or tried to be.
        package internal(set) var attempts = 0
        /// Since when the caller takes nothing although something waits for it.
        package internal(set) var blockedSince: Duration?
        var retries = 0
        /// Whether an attempt that was given up can have run the message.
        var mayHaveRun = false
        /// Whether the credential of the attempt was neither accepted nor refused yet.
        var holdsCredential = false
        var isConnected = false
        /// The upstream session that the message went in.
        var session = StatusReading.Session.none
        /// Whether that was opened again for the message.
        var isRenewed = false
        /// Whether ids of ours stand for the caller's.
        var hasOwnIDs = false
        /// Whether the upstream answered the last attempt, or refused it, and does nothing for the call any more.
        package internal(set) var isUpstreamDone = false
        var isCallerThere = true
        var isTakenBack = false

        // What is known of the answer.
        var isCloseDelimited = false
        var retryAfter: Duration?
        var held = 0
        /// What the upstream wants to be left alone for before its stream is taken up again; nil: it cannot be.
        var pauseBeforeRest: Duration?
        var resumptions = 0
        var questions = 0

        /// The timer whose end means something.
        var timer: Timer?
        /// Whether the driver still has the one that was started last.
        var isTimerSet = false
        var timers = 0

        package init(_ facts: Facts) {
            self.facts = facts
            self.deadline = facts.isListening ? .seconds(Int64.max) : facts.startedAt + facts.timeout
        }

        // MARK: What the driver may ask

        /// Whether nothing of it concerns the caller any more.
        package var isOver: Bool {
            switch self.state {
            case .draining, .done: true
            default: false
            }
        }

        /// Whether a lost session is being opened again, or looked at.
        package var isReopening: Bool { if case .reopening = self.state { true } else { false } }

        /// Whether the answer to the message is waited for.
        package var isAwaitingHead: Bool { self.state == .sent }

        /// Whether what leads to the upstream is wanted: what is being opened goes on.
        package var isOpening: Bool { self.state == .opening && !self.isConnected }

        /// Whether the events of an answer are read now.
        package var isReadingEvents: Bool { self.state == .streaming }

        /// Whether the stream is asked for again, so that what comes is not the answer but the rest of it.
        package var isResuming: Bool { self.state == .resuming(isConnecting: true) }

        /// Whether what comes goes out as it comes.
        package var sendsAlong: Bool { self.state == .relaying || self.state == .streaming }

        /// Whether messages that come before the answer can go to the caller beside it.
        package var takesMessages: Bool { self.facts.takesMessages }

        /// Whether messages that come meanwhile make the answer a stream, which has to show that it is alive.
        package var isStreaming: Bool {
            switch self.state {
            case .streaming, .resuming: self.facts.isRequest
            default: self.facts.isOverLink && self.facts.isRequest && !self.isOver
            }
        }

        /// Whether the head of a stream may go out before there is anything to send, to show that the call is alive.
        package var beginsStreamUnasked: Bool {
            self.facts.isOverLink && self.facts.takesMessages && !self.facts.isInitialize
        }

        // MARK: On the way

        /// The call begins; `hasPlace`: there is a place for it at the upstream.
        package mutating func start(hasPlace: Bool) -> Action {
            guard self.state == .new else { return .none }
            guard !hasPlace else { return self.attempt(isFresh: false) }
            self.state = .queued
            return .queue
        }

        /// The wait for a place is over.
        package mutating func admitted(_ isAdmitted: Bool) -> Action {
            guard self.state == .queued else { return .none }
            return isAdmitted ? self.attempt(isFresh: false) : self.fail(.queueFull, .no)
        }

        /// One more attempt; what is only repeated keeps its credential.
        mutating func attempt(isFresh: Bool) -> Action {
            self.attempts += 1
            self.timer = nil
            self.held = 0
            self.isConnected = false
            if self.facts.hasCredentials, !self.holdsCredential {
                self.state = .choosing(isFresh: isFresh)
                return .choose
            }
            self.state = .opening
            return .open(isFresh: isFresh)
        }

        /// A credential was taken for the attempt; `isThere` is false if none is left.
        package mutating func chosen(_ isThere: Bool) -> Action {
            guard case .choosing(let isFresh) = self.state else { return .none }
            guard isThere else { return self.fail(.credentialsExhausted, .no) }
            self.holdsCredential = true
            self.state = .opening
            return .open(isFresh: isFresh)
        }

        /// What leads to the upstream could not be opened, or not be used.
        ///
        /// Nothing comes of `open` here: the driver goes on by itself.
        package mutating func opened(_ opening: Opening) -> Action {
            switch (self.state, opening) {
            case (.opening, .refused(let status, let isFirst)):
                return self.refused(status, .opening(isFirst: isFirst))
            case (.opening, .over):
                return self.endSession()
            case (.opening, .failed(let executed)), (.sent, .failed(let executed)):
                return self.fail(.reported, executed)
            case (.resuming(isConnecting: true), .failed):
                return self.fail(.reported, .unknown)
            default:
                return .none
            }
        }

        /// The gateway itself has the answer.
        package mutating func answeredHere() -> Action {
            guard !self.isOver else { return .none }
            return .end(self.end(.answeredHere, .readOn))
        }

        /// A connection stands, on which the message goes in `session`.
        ///
        /// `hasSession`: whether it goes in a session of the upstream; `hasOwnIDs`: under ids of ours.
        package mutating func connected(hasSession: Bool, hasOwnIDs: Bool) -> Connected {
            switch self.state {
            case .opening:
                self.state = .sent
                self.isConnected = true
                self.isUpstreamDone = false
                self.session = hasSession ? self.isRenewed ? .proven : .open : .none
                self.hasOwnIDs = hasOwnIDs
                return .send
            case .resuming(isConnecting: true):
                self.isConnected = true
                return .askForRest
            default:
                return .release
            }
        }

        /// A link has the message on its way.
        package mutating func isSent() {
            if self.state == .opening { self.state = .streaming }
        }

        /// A link sends the message once more, which did not run: the session of its stream was unknown.
        package mutating func isSentAgain() {
            if self.state == .streaming { self.attempts += 1 }
        }

        // MARK: Failures

        /// The attempt failed; nothing more comes of it.
        package mutating func failed(_ failure: Failure, at moment: Moment) -> Action {
            self.isConnected = false
            switch self.state {
            case .opening, .sent, .short, .whole:
                return self.retry(failure, at: moment)
            case .refusal:
                // Its status was read, and that is what counts.
                return .readBody
            case .failure(let status):
                return self.mayBeOfSession(status)
                    ? self.bodyRead(.foreign, at: moment) : self.retry(failure, at: moment)
            case .relaying:
                return .end(self.end(.broken(isTimeout: false), .over))
            case .streaming:
                return self.facts.isOverLink ? self.fail(.reported, failure.executed) : self.broke(isTruncated: true)
            case .resuming(isConnecting: true):
                return self.resumeLater()
            case .draining:
                self.state = .done
                return .over
            case .new, .queued, .choosing, .judging, .reopening, .asking, .pausing, .resuming, .done:
                return .none
            }
        }

        private mutating func retry(_ failure: Failure, at moment: Moment) -> Action {
            if failure.isFinal || self.facts.isOverLink { return self.fail(.reported, failure.executed) }
            return self.retry(
                failure.ending,
                or: .reported,
                failure.executed,
                isOfDialling: failure.isOfDialling,
                pause: failure.retryAfter,
                at: moment
            )
        }

        /// Sends the message once more if that is safe, else fails.
        mutating func retry(
            _ ending: RetryRules.Ending,
            or fault: Fault,
            _ executed: RetryRules.Executed,
            isOfDialling: Bool = false,
            pause: Duration = .zero,
            at moment: Moment
        ) -> Action {
            let decision = RetryRules.decide(
                ending,
                message: self.facts.messageClass,
                retries: self.retries,
                timeLeft: self.deadline - moment.now,
                timeout: moment.timeout
            )
            guard decision.resend, self.isCallerThere, !self.isTakenBack else { return self.fail(fault, executed) }
            self.state = .asking(fault, executed: executed, isOfDialling: isOfDialling, pause: pause)
            return .askBudget
        }

        /// Whether the upstream may have one more retry; `jitter` keeps those apart that failed together.
        package mutating func budget(isGranted: Bool, jitter: Duration) -> Action {
            guard case .asking(let fault, let executed, let isOfDialling, let pause) = self.state else { return .none }
            guard isGranted else { return self.fail(fault, executed) }
            self.retries += 1
            if executed != .no { self.mayHaveRun = true }
            guard isOfDialling else { return self.attempt(isFresh: true) }
            self.state = .pausing
            return self.wait(pause + jitter, keepsBody: false)
        }

        // MARK: Credentials

        /// The credential was refused with this status.
        mutating func refused(_ status: Int, _ refusal: Refusal) -> Action {
            self.isUpstreamDone = true
            self.isConnected = false
            guard self.facts.hasCredentials else { return self.fail(.credentialRejected(status: status), .no) }
            self.holdsCredential = false
            self.state = .judging
            return .judge(status: status, refusal)
        }

        /// What the refusal with `status` means for the call.
        package mutating func judged(_ verdict: CredentialAttempts.Verdict, status: Int) -> Action {
            guard self.state == .judging else { return .none }
            // With another credential it comes to another session.
            self.isRenewed = false
            switch verdict {
            case .again: return self.attempt(isFresh: self.facts.isLong)
            case .rejected: return self.fail(.credentialRejected(status: status), .no)
            case .exhausted: return self.fail(.credentialsExhausted, .no)
            }
        }

        /// The credential of the attempt was taken out of the pool before there was a session for it, and is given back: the
        /// message goes out with another one.
        ///
        /// `isLost`: where the session is opened again, whether the upstream is known not to have it, so that it did not run
        /// what it refused in it.
        package mutating func credentialRemoved(isLost: Bool) -> Action {
            switch self.state {
            case .opening:
                break
            case .reopening(let status, let isCertain):
                let executed: RetryRules.Executed = isCertain || isLost ? .no : self.executed(status)
                guard executed == .no || self.facts.messageClass == .safe else {
                    self.holdsCredential = false
                    return self.fail(.status(status), executed)
                }
                if executed != .no { self.mayHaveRun = true }
            default:
                return .none
            }
            self.holdsCredential = false
            self.isRenewed = false
            return self.attempt(isFresh: false)
        }

        // MARK: Timers

        mutating func wait(_ time: Duration, keepsBody: Bool) -> Action {
            self.timers += 1
            let timer = Timer(self.timers)
            self.timer = timer
            self.isTimerSet = true
            return .wait(timer, time, keepsBody: keepsBody)
        }

        /// A waiting time is over.
        package mutating func timerFired(_ timer: Timer, at moment: Moment) -> Action {
            guard timer.number == self.timers else { return .none }
            self.isTimerSet = false
            guard self.timer == timer else { return .none }
            self.timer = nil
            switch self.state {
            case .pausing:
                return self.attempt(isFresh: false)
            case .refusal:
                return .readBody
            case .failure:
                return self.bodyRead(.foreign, at: moment)
            case .resuming:
                self.state = .resuming(isConnecting: true)
                return .connectForRest
            default:
                return .none
            }
        }
    }
}
