// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import GatewayWire
import Testing

/// What one event in one state does not show.
@Suite("Calls: rules") struct CallRuleTests {
    // MARK: Whether the message ran

    @Test("A call that runs out of time while its stream is taken up again is not said not to have run")
    func lateWhileResuming() {
        for stage in [CallStage.resumingLater, .resuming] {
            var call = stage.call()
            #expect(call.tick(now: .seconds(60), isUnsent: true).executed == .unknown)
        }
    }

    @Test(
        "A call that runs out of time while its session is in doubt is not said not to have run",
        arguments: [(body: StatusReading.Body.foreign, executed: RetryRules.Executed.unknown), (.sessionRefusal, .no)]
    )
    func lateWhileInDoubt(body: StatusReading.Body, executed: RetryRules.Executed) {
        var call = CallStage.failure.call()
        #expect(call.bodyRead(body, at: .after(.zero)) == .reopen(isCertain: executed == .no))
        #expect(call.tick(now: .seconds(60), isUnsent: true).executed == executed)
    }

    @Test("A session in doubt that is over for another reason does not say that the message did not run")
    func overWhileInDoubt() {
        var call = CallStage.failure.call()
        _ = call.bodyRead(.foreign, at: .after(.zero))
        #expect(call.reopened(.over).executed == .unknown)
    }

    @Test("A safe message that was lost, sent again and refused is not said not to have run")
    func lostThenRefused() {
        var call = CallStage.sent.call { $0.messageClass = .safe }
        #expect(call.failed(.lost, at: .after(.zero)) == .askBudget)
        #expect(call.budget(isGranted: true, jitter: .zero) == .open(isFresh: true))
        _ = call.connected(hasSession: false, hasOwnIDs: false)
        _ = call.head(.init(status: 403))
        #expect(call.bodyRead(.foreign, at: .after(.zero)) == .judge(status: 403, .answer))
        let action = call.judged(.rejected, status: 403)
        #expect(action.end?.reason == .fault(.credentialRejected(status: 403), executed: .unknown))
        #expect(action.end?.mayStillRun == false)
    }

    @Test("A message in a session that may not be lost is not sent again because its credential was removed")
    func removedWhileInDoubt() {
        func removed(isLost: Bool, _ messageClass: RetryRules.MessageClass = .call) -> CallMachine.Action {
            var call = CallStage.failure.call { $0.messageClass = messageClass }
            _ = call.bodyRead(.foreign, at: .after(.zero))
            return call.credentialRemoved(isLost: isLost)
        }
        #expect(removed(isLost: false).end?.reason == .fault(.status(400), executed: .unknown))
        #expect(removed(isLost: true) == .choose)
        #expect(removed(isLost: false, .safe) == .choose)
    }

    @Test("What a link has not sent yet is taken back by whoever gives the call up")
    func takenBackFromLink() {
        for isUnsent in [true, false] {
            var call = CallStage.openingLink.call()
            #expect(call.noRoom(isUnsent: isUnsent).executed == (isUnsent ? .no : .unknown))
            call = CallStage.openingLink.call()
            #expect(call.upstreamGone(isUnsent: isUnsent).executed == (isUnsent ? .no : .unknown))
            call = CallStage.openingLink.call()
            #expect(call.tick(now: .seconds(60), isUnsent: isUnsent).executed == (isUnsent ? .no : .unknown))
        }
    }

    @Test(
        "A message that is on its way, or not begun, is not asked to be taken back",
        arguments: CallStage.allCases.filter { $0 != .opening && $0 != .openingLink }
    )
    func notTakenBack(stage: CallStage) {
        func isUnsent() -> Bool {
            Issue.record("asked for in \(stage)")
            return true
        }
        var call = stage.call()
        _ = call.tick(now: .seconds(1), isUnsent: isUnsent())
        _ = call.noRoom(isUnsent: isUnsent())
        call = stage.call()
        _ = call.upstreamGone(isUnsent: isUnsent())
        call = stage.call()
        _ = call.tick(now: .seconds(60), isUnsent: isUnsent())
    }

    @Test("A call says of a retry that was not granted what the failed attempt said")
    func askingForBudget() {
        var call = CallStage.asking.call()
        #expect(call.noRoom(isUnsent: true).executed == .no)
        call = CallStage.sent.call { $0.messageClass = .safe }
        _ = call.failed(.lost, at: .after(.zero))
        #expect(call.noRoom(isUnsent: true).executed == .unknown)
    }

    // MARK: Messages before the answer

    @Test("Questions beyond a hundred are not asked elsewhere, but in a shared session they are")
    func manyQuestions() {
        for hasOwnIDs in [false, true] {
            var call = CallStage.opening.call { $0.takesMessages = false }
            _ = call.connected(hasSession: true, hasOwnIDs: hasOwnIDs)
            _ = call.head(.events)
            for _ in 0..<100 { #expect(call.event(.question, at: .after(.zero)) == .elsewhere) }
            #expect(call.event(.question, at: .after(.zero)) == (hasOwnIDs ? .elsewhere : .drop))
            #expect(call.event(.notification, at: .after(.zero)) == .elsewhere)
            #expect(call.event(.progress, at: .after(.zero)) == .elsewhere)
            let takesMessages = call.takesMessages
            #expect(!takesMessages)
        }
    }

    @Test("The stateless era has no questions of servers")
    func statelessQuestions() {
        var call = CallStage.streaming.call { $0.era = .stateless }
        #expect(call.event(.question, at: .after(.zero)) == .drop)
    }

    @Test("Progress moves the deadline up to fifteen minutes, and never that of a call that was taken back")
    func progress() {
        var call = CallStage.link.call()
        var deadlines: [Duration] = []
        for (now, timeout) in [(30, 60), (899, 60), (40, 20)] {
            let moment = CallMachine.Moment(.seconds(now), timeout: .seconds(timeout))
            #expect(call.event(.progress, at: moment) == .deliver)
            deadlines.append(call.deadline)
        }
        call.takenBack(now: .seconds(50))
        deadlines.append(call.deadline)
        #expect(call.event(.progress, at: .after(.seconds(50))) == .deliver)
        deadlines.append(call.deadline)
        #expect(deadlines == [.seconds(90), .seconds(900), .seconds(60), .seconds(51), .seconds(51)])
        #expect(call.tick(now: .seconds(51), isUnsent: true).end?.reason == .takenBack)
    }

    @Test("A stream that is taken up again counts its attempts from its last event on")
    func resumptions() {
        var call = CallStage.resuming.call()
        #expect(call.failed(.lost, at: .after(.zero)).isWait)
        _ = call.timerFired(.init(2), at: .after(.zero))
        _ = call.connected(hasSession: true, hasOwnIDs: false)
        let isResuming = call.isResuming
        #expect(isResuming)
        #expect(call.head(.events) == .takenUp(isPaused: false))
        #expect(call.event(.foreign, rest: .seconds(2), at: .after(.zero)) == .drop)
        for number in 3...5 {
            #expect(call.ended() == .wait(.init(number), .seconds(2), keepsBody: false))
            #expect(call.timerFired(.init(number), at: .after(.zero)) == .connectForRest)
        }
        #expect(call.ended().end?.reason == .fault(.streamLost, executed: .unknown))
    }

    @Test("A stream of the stateless era is not taken up again, whatever ids its events have")
    func statelessStream() {
        var call = CallStage.streaming.call { $0.era = .stateless }
        #expect(call.event(.notification, rest: .seconds(1), at: .after(.zero)) == .deliver)
        #expect(call.ended().end?.reason == .fault(.streamEnded(isTruncated: false), executed: .unknown))
    }

    @Test("A stream is taken up again as its caller takes it")
    func resumedWhileBlocked() {
        var call = CallStage.resuming.call()
        #expect(call.callerBlocked(now: .zero) == .pauseReading)
        #expect(call.callerBlocked(now: .zero) == .none)
        let since = call.blockedSince
        #expect(since == .zero)
        #expect(call.head(.events) == .takenUp(isPaused: true))
        #expect(call.callerWritable() == .resumeReading)
    }

    // MARK: What is held

    @Test("An answer of just below the threshold is held, and one of the threshold is relayed")
    func threshold() {
        for (count, received) in [(64 * 1024 - 1, CallMachine.Received.hold), (64 * 1024, .relayHeld)] {
            var call = CallStage.short.call()
            #expect(call.received(count, isJSON: true, limit: 0) == received)
            call = CallStage.short.call()
            #expect(call.received(1, isJSON: true, limit: 0) == .hold)
            // Only the first bytes have to look like JSON.
            #expect(call.received(count - 1, isJSON: false, limit: 0) == received)
        }
    }

    @Test("A long answer of which nobody would see the beginning is not relayed")
    func longAnswerForNobody() {
        var call = CallStage.short.call()
        #expect(call.callerLeft(isClosed: true) == .detach)
        let received = call.received(64 * 1024, isJSON: true, limit: 0)
        #expect(received.end?.reason == .callerLeft(isReset: false))
        #expect(received.end?.upstream == .readOn)
    }

    @Test("What does not begin as JSON is no answer", arguments: [CallStage.short, .whole])
    func notJSON(stage: CallStage) {
        var call = stage.call()
        #expect(call.received(1, isJSON: false, limit: .max).end?.reason == .fault(.notJSON, executed: .yes))
    }

    @Test("An answer is held up to its limit, which may change while it comes")
    func wholeLimit() {
        var call = CallStage.whole.call()
        #expect(call.received(100, isJSON: true, limit: 100) == .hold)
        #expect(call.received(1, isJSON: true, limit: 101) == .hold)
        #expect(call.received(1, isJSON: true, limit: 101).end?.reason == .fault(.tooLarge, executed: .yes))
    }

    @Test("A stream that goes on and on before the answer to initialize is given up")
    func endlessStream() {
        var call = CallStage.streaming.call {
            $0.isInitialize = true
            $0.streamLimit = 10
        }
        #expect(call.received(10, isJSON: true, limit: 0) == .read)
        #expect(call.received(1, isJSON: true, limit: 0).end?.reason == .fault(.endlessStream, executed: .unknown))
    }

    @Test("What comes behind the answer is read up to 64 KiB and for a second")
    func readOn() {
        var call = CallStage.draining.call()
        #expect(call.received(64 * 1024, isJSON: true, limit: 0) == .drop)
        #expect(call.tick(now: .seconds(5), isUnsent: true) == .none)
        #expect(call.tick(now: .seconds(5.9), isUnsent: true) == .none)
        #expect(call.tick(now: .seconds(6), isUnsent: true) == .over)
        call = CallStage.draining.call()
        #expect(call.received(64 * 1024 + 1, isJSON: true, limit: 0) == .act(.over))
    }

    // MARK: Heads

    @Test("An answer of JSON is held until it is whole where it has to be read first")
    func needsWhole() {
        func head(
            _ edit: (inout CallMachine.Head) -> Void = { _ in },
            _ facts: (inout CallMachine.Facts) -> Void = { _ in }
        )
            -> CallMachine.Action
        {
            var call = CallStage.sent.call(facts)
            var head = CallMachine.Head(status: 200)
            edit(&head)
            #expect(call.head(head) == .accepted(.hold))
            return call.ended()
        }
        #expect(head().end?.reason == .fault(.noBody, executed: .unknown))
        #expect(head({ $0.isCloseDelimited = true }) == .readAnswer)
        #expect(head({ $0.isRewritten = true }) == .readAnswer)
        #expect(head({ _ in }, { $0.isInitialize = true }) == .readAnswer)
        #expect(head({ _ in }, { $0.isMessageWise = true }) == .readAnswer)
    }

    @Test("An upstream whose answer is complete does nothing more for the call, whatever the answer was")
    func completeAnswer() {
        var call = CallStage.whole.call()
        _ = call.ended()
        #expect(call.flawed(.message).end?.mayStillRun == false)
        call = CallStage.short.call()
        _ = call.received(2, isJSON: true, limit: .max)
        #expect(call.ended().end?.mayStillRun == false)
        for isComplete in [false, true] {
            call = CallStage.sent.call()
            _ = call.head(.init(status: 500))
            if isComplete { _ = call.ended() }
            #expect(call.bodyRead(.foreign, at: .after(.zero)).end?.mayStillRun == !isComplete)
        }
    }

    @Test("A body that ends with its connection is truncated where it is no message")
    func truncated() {
        var call = CallStage.sent.call()
        var head = CallMachine.Head(status: 200)
        head.isCloseDelimited = true
        _ = call.head(head)
        _ = call.ended()
        let action = call.flawed(.message)
        #expect(action.end?.reason == .fault(.truncated, executed: .yes))
        // The upstream may be at work on it for all that is known.
        #expect(action.end?.mayStillRun == true)
    }

    @Test(
        "Something else than an answer is none",
        arguments: [
            (HTTP1MediaType.json, true, false, CallMachine.Fault.noBody, RetryRules.Executed.unknown),
            (.other, true, false, .noBody, .unknown),
            (.other, false, false, .wrongContentType, .unknown),
            (.html, false, false, .webPage, .unknown),
            (.html, true, false, .webPage, .unknown),
            (.json, false, true, .undecodable, .yes),
        ]
    )
    func noAnswer(
        type: HTTP1MediaType,
        isEmpty: Bool,
        isUndecodable: Bool,
        fault: CallMachine.Fault,
        executed: RetryRules.Executed
    ) {
        var call = CallStage.sent.call()
        var head = CallMachine.Head(status: 200)
        head.mediaType = type
        head.isEmpty = isEmpty
        head.isUndecodable = isUndecodable
        #expect(call.head(head).end?.reason == .fault(fault, executed: executed))
    }

    @Test("A message that nobody answers is taken, whatever comes with the status")
    func oneWay() {
        var call = CallStage.sent.call { $0.messageClass = .oneWay }
        #expect(call.head(.init(status: 202)).end?.reason == .taken)
        call = CallStage.openingLink.call { $0.messageClass = .oneWay }
        let isStreaming = call.isStreaming
        #expect(!isStreaming)
        #expect(call.taken().end?.reason == .taken)
    }

    @Test("A stream begins with its head, unless that has to wait for the answer")
    func beginning() {
        func begins(_ edit: (inout CallMachine.Facts) -> Void) -> CallMachine.Action {
            var call = CallStage.sent.call(edit)
            return call.head(.events)
        }
        #expect(begins { _ in } == .accepted(.stream(begins: true)))
        #expect(begins { $0.isInitialize = true } == .accepted(.stream(begins: false)))
        #expect(begins { $0.takesMessages = false } == .accepted(.stream(begins: false)))
    }

    @Test("A redirect keeps the credential")
    func redirect() {
        var call = CallStage.sent.call()
        #expect(call.head(.init(status: 308)) == .redirect)
        #expect(call.redirected(isFollowed: true) == .open(isFresh: false))
        let attempts = call.attempts
        #expect(attempts == 2)
    }

    // MARK: The caller and the gateway

    @Test("In the stateless era a caller that leaves, or shuts down its side, cancels")
    func statelessCaller() {
        for isClosed in [false, true] {
            var call = CallStage.sent.call { $0.era = .stateless }
            let end = call.callerLeft(isClosed: isClosed).end
            #expect(end?.reason == .callerLeft(isReset: !isClosed))
            #expect(end?.upstream == .cancel(.callerLeft, isTold: true))
        }
    }

    @Test("Nobody takes back the message that opens a session")
    func initializeIsNotCancelled() {
        var call = CallStage.link.call { $0.isInitialize = true }
        #expect(call.callerIsSlow().end?.upstream == .cancel(.ended, isTold: false))
        call = CallStage.sent.call { $0.isInitialize = true }
        #expect(call.tick(now: .seconds(60), isUnsent: true).end?.upstream == .timedOut(isTold: false))
    }

    @Test("A stateless upstream over HTTP is not told that a call took too long: its connection ends")
    func statelessTimeout() {
        var call = CallStage.sent.call { $0.era = .stateless }
        #expect(call.tick(now: .seconds(60), isUnsent: true).end?.upstream == .timedOut(isTold: false))
    }

    @Test("A stream without an end of its own ends as its era says once it has begun")
    func drained() {
        func drain(_ stage: CallStage, _ edit: (inout CallMachine.Facts) -> Void = { _ in }) -> CallMachine.Action {
            var call = stage.call {
                $0.era = .stateless
                $0.messageClass = .safe
                $0.isListening = true
                edit(&$0)
            }
            let deadline = call.deadline
            #expect(deadline > .seconds(1_000_000))
            _ = call.event(.progress, at: .after(.zero))
            let same = call.deadline
            #expect(same == deadline)
            return call.drain()
        }
        #expect(drain(.streaming).end?.reason == .listeningEnded)
        #expect(drain(.streaming).end?.upstream == .cancel(.drained, isTold: true))
        #expect(drain(.openingLink).end?.reason == .listeningEnded)
        #expect(drain(.sent).end?.reason == .fault(.drained, executed: .no))
        #expect(drain(.streaming, { $0.takesMessages = false }).end?.reason == .fault(.drained, executed: .no))
        var call = CallStage.streaming.call()
        #expect(call.drain() == .none)
    }

    @Test(
        "The end of a call says whether its caller counted as one that takes nothing, and whether a credential is held"
    )
    func ends() {
        var call = CallStage.opening.call()
        _ = call.callerBlocked(now: .zero)
        let end = call.noRoom(isUnsent: true).end
        #expect(end?.wasBlocked == true)
        // What did not run at the upstream does not run there.
        #expect(end?.mayStillRun == false)
        #expect(end?.releasesCredential == true)
        call = CallStage.short.call()
        #expect(call.noRoom(isUnsent: true).end?.releasesCredential == false)
    }

    @Test("What a driver asks is answered by where the call is")
    func questions() {
        func answers(_ stage: CallStage, _ edit: (inout CallMachine.Facts) -> Void = { _ in }) -> [Bool] {
            let call = stage.call(edit)
            return [
                call.isAwaitingHead, call.isOpening, call.isReadingEvents, call.isResuming, call.isReopening,
                call.sendsAlong,
                call.isStreaming, call.beginsStreamUnasked,
            ]
        }
        #expect(answers(.sent) == [true, false, false, false, false, false, false, false])
        #expect(answers(.opening) == [false, true, false, false, false, false, false, false])
        #expect(answers(.streaming) == [false, false, true, false, false, true, true, false])
        #expect(answers(.relaying) == [false, false, false, false, false, true, false, false])
        #expect(answers(.resuming) == [false, false, false, true, false, false, true, false])
        #expect(answers(.resumingLater) == [false, false, false, false, false, false, true, false])
        #expect(answers(.reopening) == [false, false, false, false, true, false, false, false])
        #expect(answers(.openingLink) == [false, true, false, false, false, false, true, true])
        #expect(answers(.link, { $0.isInitialize = true }) == [false, false, true, false, false, true, true, false])
        #expect(answers(.link, { $0.takesMessages = false }) == [false, false, true, false, false, true, true, false])
    }

    @Test("A link that sends a message once more counts one more attempt")
    func sentAgain() {
        var call = CallStage.link.call()
        call.isSentAgain()
        let attempts = call.attempts
        #expect(attempts == 2)
    }
}
