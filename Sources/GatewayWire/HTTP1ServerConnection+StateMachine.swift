// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

extension HTTP1ServerConnection {
    /// One connection of a caller.
    ///
    /// Times are measured from any fixed origin.
    package struct StateMachine: ~Copyable {
        private enum State {
            /// No byte of the next request came.
            case idle
            case head
            /// A head is with whoever admits it.
            case admitting
            case sizedBody(remaining: Int)
            case chunkedBody(HTTP1ChunkedDecoder)
            /// The request is here to its end.
            case complete
            /// `hasHead`: the head of the answer is out, and parts of its body follow.
            case answering(hasHead: Bool)
            /// Nothing more is read, and the connection closes when everything is taken.
            case flushing
            /// The answer to a request that was not read to its end is out: what still comes is thrown away for a moment, so
            /// that the caller gets to read the answer (RFC 9112 §9.6).
            case lingering
            case closed
        }

        private static let lingerTime = Duration.seconds(2)
        /// How long a request that is still arriving has for its rest when the process stops.
        private static let drainTime = Duration.seconds(3)
        /// Bytes that a caller has to take in each `slowReader`, unless fewer wait for it.
        private static let leastTaken: UInt64 = 16 * 1024

        private let limits: Limits
        private var state = State.idle
        private var deadline: Duration
        private var bodyBegan = Duration.zero
        private var bodyBytes = 0
        private var requestCount = 0
        private var isDraining = false
        private var isInputClosed = false
        /// Whether its caller has sent a request before it had the answer to the one before.
        private var isPipelined = false
        /// Whether only the end of the connection ends the answer in hand.
        private var endsByClose = false
        /// Whether the channel takes no more bytes.
        private var isBlocked = false
        /// Since when bytes have waited without enough of them being taken, and how many were taken until then.
        private var waiting: (since: Duration, taken: UInt64)?

        /// Whether another request may follow the one that is answered.
        package private(set) var keepsAlive = true
        /// Whether the request is HEAD, whose answer has no body.
        package private(set) var isHeadRequest = false

        package init(_ limits: Limits, now: Duration) {
            self.limits = limits
            self.deadline = now + limits.headTimeout
        }

        /// Whether somebody is to answer.
        package var isAnswering: Bool { if case .answering = self.state { true } else { false } }
        /// Whether no byte of another request was looked at.
        package var isIdle: Bool { if case .idle = self.state { true } else { false } }
        package var isClosed: Bool { if case .closed = self.state { true } else { false } }
        /// Whether bytes that arrive may still be of use.
        package var takesInput: Bool {
            switch self.state {
            case .flushing, .lingering, .closed: false
            default: true
            }
        }

        // MARK: Reading

        /// Looks at the bytes that wait; called again after each step but `wait`, with what waits then.
        package mutating func next(
            _ bytes: Span<UInt8>,
            _ parser: inout HTTP1RequestParser,
            now: @autoclosure () -> Duration
        ) -> Step {
            switch self.state {
            case .idle:
                guard bytes.count > 0 else { return self.nothingCame() }
                // Answers that nobody takes must not pile up.
                guard !self.isBlocked else { return .wait }
                self.state = .head
                self.deadline = now() + self.limits.headTimeout
                return self.nextOfHead(bytes, &parser)
            case .head:
                guard !self.isBlocked else { return .wait }
                return self.nextOfHead(bytes, &parser)
            case .sizedBody(let remaining):
                let count = min(remaining, bytes.count)
                guard count > 0 else { return self.nothingCame() }
                self.state = count == remaining ? .complete : .sizedBody(remaining: remaining - count)
                self.bodyGrew(by: count)
                return .body(0..<count, consumed: count)
            case .chunkedBody(let decoder):
                return self.nextOfChunks(bytes, decoder)
            case .complete:
                self.state = .answering(hasHead: false)
                return .handOver
            case .admitting, .answering, .flushing, .lingering, .closed:
                return .wait
            }
        }

        private mutating func nextOfHead(_ bytes: Span<UInt8>, _ parser: inout HTTP1RequestParser) -> Step {
            let length: Int?
            do throws(HTTP1Error) {
                length = try parser.parse(bytes)
            } catch {
                return .reject(error)
            }
            guard let length else { return self.nothingCame() }
            self.requestCount += 1
            self.isHeadRequest = parser.method == .head
            self.keepsAlive =
                parser.keepsAlive && self.requestCount < self.limits.requestsPerConnection && !self.isDraining
            self.state = .admitting
            return .head(length: length)
        }

        private mutating func nextOfChunks(_ bytes: Span<UInt8>, _ decoder: HTTP1ChunkedDecoder) -> Step {
            guard bytes.count > 0 else { return self.nothingCame() }
            var decoder = decoder
            let step: HTTP1ChunkedDecoder.Step
            do throws(HTTP1Error) {
                step = try decoder.next(bytes)
            } catch {
                return .reject(error)
            }
            let consumed = decoder.consumed
            switch step {
            case .data(let range):
                guard range.count <= self.limits.bodyBytes - self.bodyBytes else { return .rejectBody }
                self.state = .chunkedBody(decoder)
                self.bodyGrew(by: range.count)
                return .body(range, consumed: consumed)
            case .needsMore:
                self.state = .chunkedBody(decoder)
                return consumed > 0 ? .skip(consumed) : self.nothingCame()
            case .end:
                self.state = .complete
                return .skip(consumed)
            }
        }

        /// No bytes wait: if the caller has shut down its side, none will come.
        private mutating func nothingCame() -> Step {
            guard self.isInputClosed else { return .wait }
            self.state = .flushing
            return .flushAndClose
        }

        /// Bytes buy time: a caller that keeps the rate is never too slow (contract §6, `bodyRate`), unless the process stops.
        private mutating func bodyGrew(by count: Int) {
            self.bodyBytes += count
            guard !self.isDraining else { return }
            let bought = Duration.milliseconds(self.bodyBytes * 1000 / max(self.limits.bodyRate, 1))
            self.deadline = max(self.deadline, self.bodyBegan + self.limits.bodyTimeout + bought)
        }

        // MARK: Admission

        /// The request whose head was read is admitted; `available` bytes of what follows it are here.
        package mutating func admitted(
            _ parser: borrowing HTTP1RequestParser,
            available: Int,
            now: @autoclosure () -> Duration
        ) -> BodyPlan {
            guard case .admitting = self.state else { return .none }
            self.bodyBytes = 0
            switch parser.framing {
            case .none, .length(0), .untilClose:
                self.state = .complete
                return .none
            case .length(let length):
                guard length <= self.limits.bodyBytes else { return .tooLarge }
                guard length > available else {
                    self.state = .complete
                    return .take(length)
                }
                self.state = .sizedBody(remaining: length)
                return self.collect(expecting: length, parser, available, now: now())
            case .chunked:
                self.state = .chunkedBody(HTTP1ChunkedDecoder())
                return self.collect(expecting: 0, parser, available, now: now())
            }
        }

        private mutating func collect(
            expecting: Int,
            _ parser: borrowing HTTP1RequestParser,
            _ available: Int,
            now: Duration
        ) -> BodyPlan {
            self.bodyBegan = now
            self.deadline = now + (self.isDraining ? Self.drainTime : self.limits.bodyTimeout)
            return .collect(expecting: expecting, sendsContinue: parser.expectsContinue && available == 0)
        }

        /// The request whose head was read is refused; the connection goes on only if the whole request is here already.
        package mutating func refused(_ parser: borrowing HTTP1RequestParser, available: Int) -> Refusal {
            guard case .admitting = self.state else { return .answerAndClose }
            switch parser.framing {
            case .none, .length(0), .untilClose:
                self.state = .answering(hasHead: false)
                return .answer(skipping: 0)
            case .length(let length) where length <= available:
                self.state = .answering(hasHead: false)
                return .answer(skipping: length)
            case .length, .chunked:
                return .answerAndClose
            }
        }

        /// An answer behind which nothing is read any more goes out.
        package mutating func answersAndCloses(now: Duration) {
            guard !self.isClosed else { return }
            self.keepsAlive = false
            self.state = .lingering
            self.deadline = now + Self.lingerTime
        }

        // MARK: The answer

        /// The head of an answer goes out; false if there is no answer open, or its head went out before.
        package mutating func answerBegins() -> Bool {
            guard case .answering(false) = self.state else { return false }
            self.state = .answering(hasHead: true)
            return true
        }

        /// Whether parts of an answer may follow.
        package var hasBegunAnswer: Bool { if case .answering(true) = self.state { true } else { false } }

        /// Decides how the end of an answer is told, whose length may not be known.
        package mutating func framing(ofLength length: Int?, minorVersion: Int) -> AnswerFraming {
            guard length == nil else { return .length }
            guard minorVersion == 0 else { return .chunked }
            // Without chunks only the end of the connection ends the body (RFC 9112 §6.3).
            self.keepsAlive = false
            self.endsByClose = true
            return .close
        }

        /// The process stops: nothing is promised to follow the answer whose head goes out now.
        package mutating func keepNoLonger() { self.keepsAlive = false }

        /// The answer is out; `hasInput`: bytes of another request wait.
        package mutating func answered(hasInput: Bool, now: @autoclosure () -> Duration) -> AfterAnswer {
            guard case .answering = self.state else { return .nothing }
            guard self.keepsAlive, !self.isInputClosed || hasInput else {
                self.state = .flushing
                return .flushAndClose
            }
            self.state = .idle
            if hasInput { self.isPipelined = true }
            self.deadline = now() + self.limits.idleTimeout
            return .next
        }

        /// The answer cannot be finished; says how its caller is told.
        ///
        /// A reset takes with it what the caller has not read yet of the answers before. Where there may be such, since the
        /// caller did not wait for them, only the end that is missing tells.
        package mutating func brokeOff() -> BreakOff {
            guard case .answering(true) = self.state, self.isPipelined, !self.endsByClose else {
                self.state = .closed
                return .reset
            }
            self.state = .flushing
            return .flushAndClose
        }

        // MARK: The channel

        /// The caller shut down its side.
        ///
        /// Returns whether somebody answers and is to be told; else `next` says what follows.
        package mutating func inputClosed() -> Bool {
            self.isInputClosed = true
            return self.isAnswering
        }

        /// The channel takes bytes, or takes no more.
        package mutating func becameWritable(_ isWritable: Bool) { self.isBlocked = !isWritable }

        /// Nothing more goes in or out.
        ///
        /// Returns whether somebody answered and is to be told.
        package mutating func closed() -> Bool {
            defer { self.state = .closed }
            return self.isAnswering
        }

        // MARK: Time

        /// A look at the deadlines.
        ///
        /// `written` are all bytes that were given to the channel so far, and `pending` those that the caller has not taken.
        package mutating func tick(written: UInt64, pending: Int, now: Duration) -> Tick {
            guard !self.isClosed else { return .nothing }
            if self.isTooSlow(written: written, pending: pending, now: now) {
                defer { if !self.isAnswering { self.state = .closed } }
                return .breakSlowReader
            }
            switch self.state {
            case .idle where pending > 0:
                // A caller asks again only when it has its answer, so the idle time begins when everything was taken.
                self.deadline = max(self.deadline, now + self.limits.idleTimeout)
                return .nothing
            case .idle where now >= self.deadline:
                // A caller that is silent between two requests did nothing wrong: the connection closes without an answer.
                self.state = .flushing
                return .flushAndClose
            case .head where now >= self.deadline && !self.isBlocked, .sizedBody where now >= self.deadline,
                .chunkedBody where now >= self.deadline:
                return .tooSlow
            case .lingering where now >= self.deadline:
                self.state = .closed
                return .close
            default:
                return .nothing
            }
        }

        /// A caller is slow if it takes less than `leastTaken` in a whole `slowReader` while more waits for it.
        private mutating func isTooSlow(written: UInt64, pending: Int, now: Duration) -> Bool {
            guard pending > 0 else {
                self.waiting = nil
                return false
            }
            let taken = written - min(written, UInt64(pending))
            guard let waiting else {
                self.waiting = (now, taken)
                return false
            }
            guard taken < waiting.taken + Self.leastTaken else {
                self.waiting = (now, taken)
                return false
            }
            return now - waiting.since >= self.limits.slowReader
        }

        /// The process stops: nothing new is read, and what is arriving has to be quick.
        package mutating func drain(now: Duration) -> Drain {
            self.isDraining = true
            self.keepsAlive = false
            switch self.state {
            case .idle:
                self.state = .flushing
                return .flushAndClose
            case .head, .sizedBody, .chunkedBody:
                self.deadline = min(self.deadline, now + Self.drainTime)
                return .nothing
            case .answering:
                return .tell
            case .admitting, .complete, .flushing, .lingering, .closed:
                return .nothing
            }
        }
    }
}
