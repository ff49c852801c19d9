// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import GatewayTestRandom
import GatewayWire

/// A call, a driver that does what its machine says, and an upstream, a caller and a clock that do anything that they can:
/// a second, independent account of what was taken, sent, started and answered, which says what was broken first.
struct CallWalk: ~Copyable {
    /// What the driver was told to find out, and has not told the machine yet.
    private enum Question: Equatable {
        case none
        case place
        case credential
        case way
        case budget
        case redirect
        case body
        case answer
        case verdict(status: Int)
        case session(isCertain: Bool)
    }

    /// What the upstream is at.
    private enum Exchange: Equatable {
        case none
        case dialling
        case asked
        case answering
        /// A link has the message.
        case linked
    }

    private var machine: CallMachine.StateMachine
    private let facts: CallMachine.Facts
    private var question = Question.none
    private var exchange = Exchange.none
    private var now = Duration.zero
    private var timer: CallMachine.Timer?
    private var holdsCredential = false
    /// Whether the message as it was sent so far may have run.
    private var mayHaveRun = false
    private var isBlocked = false
    private(set) var answers = 0
    private(set) var sendings = 0
    private(set) var credentials = (taken: 0, finished: 0)
    private(set) var isDone = false
    private(set) var moves: [String] = []
    private(set) var violation: String?
    private(set) var reasons: Set<String> = []

    init(_ facts: CallMachine.Facts) {
        self.facts = facts
        self.machine = CallMachine.StateMachine(facts)
    }

    private mutating func broke(_ text: String) { if self.violation == nil { self.violation = text } }

    // MARK: The driver

    private mutating func obey(_ action: CallMachine.Action) {
        if self.isDone, action != .none { self.broke("\(action.text) after the end") }
        switch action {
        case .none, .detach:
            break
        case .queue:
            self.question = .place
        case .choose:
            if self.holdsCredential { self.broke("a second credential is taken beside the first") }
            self.question = .credential
        case .open:
            if self.facts.hasCredentials, !self.holdsCredential { self.broke("it is sent without a credential") }
            self.exchange = .none
            self.question = .way
        case .accepted(let acceptance):
            self.finishCredential()
            switch acceptance {
            case .hold, .stream: break
            case .end(let end): self.obey(.end(end))
            }
        case .wait(let timer, _, _):
            self.timer = timer
        case .redirect:
            self.question = .redirect
        case .readBody:
            self.question = .body
        case .readAnswer:
            self.question = .answer
        case .judge(let status, _):
            self.exchange = .none
            self.finishCredential()
            self.question = .verdict(status: status)
        case .reopen(let isCertain):
            self.exchange = .none
            self.question = .session(isCertain: isCertain)
            // The upstream says itself that it does not know the session.
            if isCertain { self.mayHaveRun = false }
        case .askBudget:
            self.question = .budget
        case .connectForRest:
            self.exchange = .dialling
        case .takenUp(let isPaused):
            if isPaused != self.isBlocked { self.broke("a stream is taken up as if its caller took what it does not") }
        case .pauseReading:
            if self.isBlocked { self.broke("paused twice") }
            self.isBlocked = true
        case .resumeReading:
            if !self.isBlocked { self.broke("resumed what was not paused") }
            self.isBlocked = false
        case .end(let end):
            self.end(end)
        case .over:
            if self.answers == 0 { self.broke("over without an end") }
            self.isDone = true
            self.exchange = .none
        }
    }

    private mutating func finishCredential() {
        guard self.facts.hasCredentials else { return }
        if !self.holdsCredential { self.broke("a credential is finished twice") }
        self.holdsCredential = false
        self.credentials.finished += 1
    }

    private mutating func end(_ end: CallMachine.End) {
        self.answers += 1
        self.reasons.insert("\(end.reason.text.prefix { $0 != "(" && $0 != "=" })")
        if end.releasesCredential { self.finishCredential() }
        if self.holdsCredential { self.broke("a credential is held at the end") }
        if end.cancelsTimer != (self.timer != nil) {
            self.broke("the timer is left, or one that there is not is cancelled")
        }
        if end.wasBlocked != self.isBlocked { self.broke("a blocked caller is forgotten") }
        // A caller may listen again whatever became of the first time.
        if end.reason.executed == .no, self.mayHaveRun, end.reason != .fault(.drained, executed: .no) {
            self.broke("it may have run, and its caller is told that it did not")
        }
        self.timer = nil
        self.isBlocked = false
        self.question = .none
        if end.upstream == .readOn {
            if self.exchange == .none { self.broke("nothing is left to be read") }
        } else {
            self.isDone = true
            self.exchange = .none
        }
    }

    // MARK: What happens

    /// Something happens that can happen now.
    mutating func move(_ random: inout SplitMix) {
        self.now += .milliseconds(random.below(4) == 0 ? random.below(20_000) : random.below(50))
        if self.sendings == 0, self.question == .none, self.exchange == .none, self.answers == 0, self.moves.isEmpty {
            self.moves.append("start")
            return self.obey(self.machine.start(hasPlace: random.below(3) > 0))
        }
        if random.below(6) == 0 { return self.aside(&random) }
        if self.question != .none { return self.tell(&random) }
        if let timer, random.below(3) > 0 || self.exchange == .none {
            self.moves.append("timer")
            self.timer = nil
            return self.obey(self.machine.timerFired(timer, at: .after(self.now)))
        }
        self.upstream(&random)
    }

    private mutating func tell(_ random: inout SplitMix) {
        let question = self.question
        self.question = .none
        self.moves.append("\(question)")
        switch question {
        case .none: break
        case .place: self.obey(self.machine.admitted(random.below(8) > 0))
        case .credential:
            let isThere = random.below(8) > 0
            self.holdsCredential = isThere
            if isThere { self.credentials.taken += 1 }
            self.obey(self.machine.chosen(isThere))
        case .way: self.open(&random)
        case .budget: self.obey(self.machine.budget(isGranted: random.below(4) > 0, jitter: .milliseconds(50)))
        case .redirect:
            // It was not run where it was redirected.
            self.mayHaveRun = false
            self.obey(self.machine.redirected(isFollowed: random.below(3) > 0))
        case .body: self.readBody(&random)
        case .answer: self.obey(random.below(4) > 0 ? self.machine.answered() : self.machine.flawed(.message))
        case .verdict(let status):
            let verdicts: [CredentialAttempts.Verdict] = [.again, .again, .again, .rejected, .exhausted]
            self.obey(self.machine.judged(verdicts[random.below(verdicts.count)], status: status))
        case .session(let isCertain): self.reopen(isCertain, &random)
        }
    }

    private mutating func open(_ random: inout SplitMix) {
        if self.facts.isOverLink { return self.link(&random) }
        switch random.below(40) {
        case 0: self.obey(self.machine.opened(.refused(status: 401, isFirst: true)))
        case 1: self.obey(self.machine.opened(.failed(executed: .no)))
        case 2: self.obey(self.machine.opened(.over))
        case 3: self.obey(self.machine.answeredHere())
        case 4 where self.facts.hasCredentials:
            self.finishCredential()
            self.obey(self.machine.credentialRemoved(isLost: false))
        default: self.exchange = .dialling
        }
    }

    /// A link takes the message, or does not.
    private mutating func link(_ random: inout SplitMix) {
        if random.below(12) == 0 {
            let failure = CallMachine.Failure(.lost, executed: .no)
            return self.obey(self.machine.failed(failure, at: .after(self.now)))
        }
        if self.facts.messageClass == .oneWay { return self.obey(self.machine.taken()) }
        self.machine.isSent()
        self.sendings += 1
        self.mayHaveRun = true
        self.exchange = .linked
    }

    private mutating func linked(_ random: inout SplitMix) {
        switch random.below(8) {
        case 0:
            self.moves.append("lost")
            self.exchange = .none
            let failure = CallMachine.Failure(.lost, executed: .unknown)
            self.obey(self.machine.failed(failure, at: .after(self.now)))
        case 1:
            self.moves.append("sent again")
            self.machine.isSentAgain()
        case 2 where self.facts.isInitialize:
            self.moves.append("nobody waits")
            self.obey(self.machine.nobodyWaits())
        default:
            self.event(&random)
        }
    }

    private mutating func readBody(_ random: inout SplitMix) {
        let bodies: [StatusReading.Body] = [
            .foreign, .sessionRefusal, .result, .error(code: -32_000, namesSession: false),
        ]
        self.obey(self.machine.bodyRead(bodies[random.below(bodies.count)], at: .after(self.now)))
    }

    private mutating func reopen(_ isCertain: Bool, _ random: inout SplitMix) {
        switch random.below(7) {
        case 0 where !isCertain: self.obey(self.machine.reopened(.kept))
        case 4 where self.facts.hasCredentials:
            let isLost = random.below(2) == 0
            if isLost { self.mayHaveRun = false }
            self.finishCredential()
            self.obey(self.machine.credentialRemoved(isLost: isLost))
        case 1:
            // Only one that is known to be lost is opened again.
            self.mayHaveRun = false
            self.obey(self.machine.reopened(.refused(status: 403, isFirst: false)))
        case 2:
            self.mayHaveRun = false
            self.obey(self.machine.reopened(.failed(executed: .no)))
        case 3: self.obey(self.machine.reopened(.over))
        default:
            // The session was not known: what went in it did not run.
            self.mayHaveRun = false
            self.obey(self.machine.reopened(.open))
        }
    }

    private mutating func upstream(_ random: inout SplitMix) {
        switch self.exchange {
        case .none: break
        case .dialling: self.dial(&random)
        case .asked: self.answer(&random)
        case .answering: self.goOn(&random)
        case .linked: self.linked(&random)
        }
    }

    private mutating func dial(_ random: inout SplitMix) {
        guard random.below(4) > 0 else {
            self.moves.append("not dialled")
            self.exchange = .none
            var failure = CallMachine.Failure(.failedBeforeFirstByte, executed: .no)
            failure.isOfDialling = true
            failure.isFinal = random.below(4) == 0
            return self.obey(self.machine.failed(failure, at: .after(self.now)))
        }
        switch self.machine.connected(hasSession: self.facts.era == .handshake, hasOwnIDs: random.below(4) == 0) {
        case .release:
            self.moves.append("released")
            self.exchange = .none
        case .askForRest:
            self.moves.append("asked for the rest")
            self.exchange = .asked
        case .send:
            self.moves.append("sent")
            if self.mayHaveRun, self.facts.messageClass != .safe { self.broke("what may have run is sent again") }
            self.sendings += 1
            self.mayHaveRun = true
            self.exchange = .asked
        }
    }

    private mutating func answer(_ random: inout SplitMix) {
        guard random.below(6) > 0 else { return self.fail(&random) }
        let statuses = [200, 200, 200, 200, 200, 200, 200, 200, 202, 301, 307, 400, 401, 403, 404, 408, 429, 500, 503]
        var head = CallMachine.Head(status: statuses[random.below(statuses.count)])
        head.mediaType =
            [HTTP1MediaType.json, .json, .json, .eventStream, .eventStream, .html, .other][random.below(7)]
        head.isEmpty = random.below(12) == 0
        head.isCloseDelimited = random.below(8) == 0
        head.isRewritten = random.below(8) == 0
        head.isUndecodable = random.below(12) == 0
        if random.below(2) == 0 { head.retryAfter = .seconds(random.below(4)) }
        self.moves.append("\(head.status) \(head.mediaType)")
        self.exchange = .answering
        if !self.machine.isResuming { self.note(head.status) }
        self.obey(self.machine.head(head))
    }

    /// What a status says of whether the message ran.
    private mutating func note(_ status: Int) {
        switch status {
        case 300..<400, 401, 403, 408, 429: self.mayHaveRun = false
        case 404: self.mayHaveRun = false
        default: break
        }
    }

    private mutating func fail(_ random: inout SplitMix) {
        self.exchange = .none
        let isPartial = random.below(2) == 0
        self.moves.append(isPartial ? "partly written" : "lost")
        if isPartial, !self.machine.isResuming { self.mayHaveRun = false }
        let failure = CallMachine.Failure(isPartial ? .partiallyWritten : .lost, executed: isPartial ? .no : .unknown)
        self.obey(self.machine.failed(failure, at: .after(self.now)))
    }

    private mutating func goOn(_ random: inout SplitMix) {
        switch random.below(8) {
        case 0:
            self.moves.append("ended")
            self.exchange = .none
            self.obey(self.machine.ended())
        case 1:
            self.moves.append("broke off")
            self.exchange = .none
            let failure = CallMachine.Failure(.answerBegan, executed: .yes)
            self.obey(self.machine.failed(failure, at: .after(self.now)))
        default:
            let count = random.below(5) == 0 ? 70_000 : 1 + random.below(200)
            self.moves.append("\(count) bytes")
            let received = self.machine.received(count, isJSON: random.below(30) > 0, limit: 100_000)
            if self.isDone, received != .drop { self.broke("bytes count after the end") }
            switch received {
            case .drop, .hold, .relay, .relayHeld: break
            case .holdAndRead: self.obey(.readBody)
            case .act(let action): self.obey(action)
            case .read: self.event(&random)
            }
        }
    }

    private mutating func event(_ random: inout SplitMix) {
        let events = CallMachine.Event.allCases + [.progress, .notification, .notification]
        let event = events[random.below(events.count)]
        self.moves.append("\(event)")
        let rest: Duration? = random.below(2) == 0 ? .seconds(1) : nil
        switch self.machine.event(event, rest: rest, at: .after(self.now)) {
        case .drop, .deliver, .elsewhere: break
        case .act(let action): self.obey(action)
        case .answer: self.obey(random.below(6) > 0 ? self.machine.answered() : self.machine.flawed(.toolList))
        }
    }

    private mutating func aside(_ random: inout SplitMix) {
        let move = random.below(12)
        self.moves.append("aside \(move)")
        switch move {
        case 0: self.obey(self.machine.callerLeft(isClosed: false))
        case 1: self.obey(self.machine.callerLeft(isClosed: true))
        case 2: self.obey(self.machine.callerBlocked(now: self.now))
        case 3: self.obey(self.machine.callerWritable())
        case 4: if self.facts.isOverLink { self.machine.takenBack(now: self.now) }
        case 5: if random.below(4) == 0 { self.obey(self.machine.callerIsSlow()) }
        case 6: if random.below(4) == 0 { self.obey(self.machine.noRoom(isUnsent: true)) }
        case 7: self.obey(self.machine.drain())
        case 8: self.obey(self.machine.timerFired(.init(0), at: .after(self.now)))
        case 9: self.machine.callerMoved()
        case 10: if random.below(6) == 0 { self.obey(self.machine.upstreamGone(isUnsent: true)) }
        default: self.obey(self.machine.tick(now: self.now, isUnsent: true))
        }
    }

    /// Lets time pass until the call is over, whatever its upstream and its caller do not do.
    mutating func finish() {
        for _ in 0..<8 where !self.isDone {
            self.now += .seconds(2_000)
            self.moves.append("much later")
            self.obey(self.machine.tick(now: self.now, isUnsent: true))
            // A stream without an end of its own has no deadline.
            if self.facts.isListening { self.obey(self.machine.drain()) }
        }
        if self.answers != 1 { self.broke("\(self.answers) answers") }
        if self.credentials.taken != self.credentials.finished { self.broke("credentials are not given back") }
        if self.timer != nil { self.broke("a timer is left") }
        if !self.isDone { self.broke("it never ends") }
    }
}
