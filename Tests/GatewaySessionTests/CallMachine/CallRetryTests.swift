// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import GatewayWire
import Testing

/// What one event in one state does not show of credentials, lost sessions and messages that are sent again.
@Suite("Calls: rules of what is tried again") struct CallRetryTests {
    // MARK: Credentials and sessions

    @Test("Without a pool a refusal is the end, unless it may be about the session")
    func noPool() {
        func refusal(_ status: Int, hasSession: Bool) -> CallMachine.Action {
            var call = CallStage.openingLink.call {
                $0.isOverLink = false
                $0.hasCredentials = false
            }
            _ = call.connected(hasSession: hasSession, hasOwnIDs: false)
            return call.head(.init(status: status))
        }
        let rejected = CallMachine.Reason.fault(.credentialRejected(status: 401), executed: .no)
        #expect(refusal(401, hasSession: false).end?.reason == rejected)
        #expect(refusal(401, hasSession: true).isWait)
        #expect(refusal(403, hasSession: true).end != nil)
    }

    @Test("A 401 in a session is about that first")
    func unauthorizedSession() {
        func read(_ body: StatusReading.Body) -> CallMachine.StateMachine {
            var call = CallStage.sent.call()
            _ = call.head(.init(status: 401))
            let isCertain = body == .sessionRefusal
            #expect(call.bodyRead(body, at: .after(.zero)) == .reopen(isCertain: isCertain))
            return call
        }
        var call = read(.sessionRefusal)
        #expect(call.reopened(.refused(status: 500, isFirst: true)) == .judge(status: 401, .answer))
        call = read(.foreign)
        #expect(call.reopened(.kept) == .readBody)
        #expect(call.bodyRead(.foreign, at: .after(.zero)) == .judge(status: 401, .answer))
    }

    @Test("A session is opened again once; the second time it is over")
    func lostTwice() {
        var call = CallStage.reopening.call()
        let isReopening = call.isReopening
        #expect(isReopening)
        #expect(call.reopened(.open) == .open(isFresh: false))
        _ = call.connected(hasSession: true, hasOwnIDs: false)
        _ = call.head(.init(status: 404))
        #expect(call.bodyRead(.foreign, at: .after(.zero)).end?.reason == .sessionOver(executed: .no))
    }

    @Test("With another credential a message comes to another session, which may be lost as well")
    func lostWithAnotherCredential() {
        for isRemoved in [false, true] {
            var call = CallStage.reopening.call()
            _ = call.reopened(.open)
            if isRemoved {
                #expect(call.credentialRemoved(isLost: false) == .choose)
            } else {
                _ = call.opened(.refused(status: 403, isFirst: true))
                #expect(call.judged(.again, status: 403) == .choose)
            }
            _ = call.chosen(true)
            _ = call.connected(hasSession: true, hasOwnIDs: false)
            _ = call.head(.init(status: 404))
            #expect(call.bodyRead(.foreign, at: .after(.zero)) == .reopen(isCertain: true))
        }
    }

    @Test("A body that is too long for a session's refusal is not waited for")
    func longFailure() {
        func many(_ status: Int) -> CallMachine.Received {
            var call = CallStage.sent.call()
            _ = call.head(.init(status: status))
            return call.received(11, isJSON: false, limit: 10)
        }
        #expect(many(404) == .act(.reopen(isCertain: true)))
        #expect(many(400) == .act(.reopen(isCertain: false)))
        #expect(many(500).end?.reason == .fault(.status(500), executed: .unknown))
    }

    @Test(
        "What was refused in a session that is there was refused for itself",
        arguments: [
            (StatusReading.Body.result, CallMachine.Reason.answeredWithFailure),
            (.foreign, .fault(.status(400), executed: .unknown)),
        ]
    )
    func kept(body: StatusReading.Body, reason: CallMachine.Reason) {
        var call = CallStage.failure.call()
        _ = call.bodyRead(.foreign, at: .after(.zero))
        #expect(call.reopened(.kept) == .readBody)
        #expect(call.bodyRead(body, at: .after(.zero)).end?.reason == reason)
    }

    @Test("A long message that was refused goes out again on a connection that was not kept")
    func longMessage() {
        for isLong in [false, true] {
            var call = CallStage.judging.call { $0.isLong = isLong }
            #expect(call.judged(.again, status: 403) == .choose)
            #expect(call.chosen(true) == .open(isFresh: isLong))
        }
    }

    // MARK: Retries

    @Test(
        "A status without an answer ends the call, or has it sent again where that is safe",
        arguments: [
            (429, RetryRules.MessageClass.safe, nil, "end rateLimited=no, cancel ended"),
            (503, .safe, 2, "ask budget"), (503, .call, 2, "end status(503)=unknown, cancel ended"),
            (503, .safe, 3, "end status(503)=unknown, cancel ended"),
            (503, .safe, nil, "end status(503)=unknown, cancel ended"),
            (502, .safe, nil, "ask budget"), (408, .call, nil, "ask budget"),
            (500, .safe, nil, "end status(500)=unknown, cancel ended"),
            (405, .call, nil, "end status(405)=no, cancel ended"),
        ] as [(Int, RetryRules.MessageClass, Int?, String)]
    )
    func statuses(status: Int, messageClass: RetryRules.MessageClass, retryAfter: Int?, action: String) {
        var call = CallStage.sent.call { $0.messageClass = messageClass }
        var head = CallMachine.Head(status: status)
        head.retryAfter = retryAfter.map { .seconds($0) }
        #expect(call.head(head) == .none)
        #expect(call.ended() == .readBody)
        #expect(call.bodyRead(.foreign, at: .after(.zero)).text == action)
    }

    @Test("A failed attempt is made again only for a caller that is there, in time, and once")
    func retries() {
        func lost(_ prepare: (inout CallMachine.StateMachine) -> Void, after time: Duration = .zero)
            -> CallMachine.Action
        {
            var call = CallStage.opening.call()
            prepare(&call)
            return call.failed(.dialling, at: .after(time))
        }
        #expect(lost { _ in } == .askBudget)
        #expect(lost { _ = $0.callerLeft(isClosed: true) }.end != nil)
        #expect(lost { $0.callerMoved() }.end != nil)
        #expect(lost { $0.takenBack(now: .zero) }.end != nil)
        #expect(lost({ _ in }, after: .seconds(50)).end != nil)
        let isSecond: (inout CallMachine.StateMachine) -> Void = { call in
            _ = call.failed(.dialling, at: .after(.zero))
            _ = call.budget(isGranted: true, jitter: .zero)
            _ = call.timerFired(.init(1), at: .after(.zero))
        }
        #expect(lost(isSecond).end != nil)
        var call = CallStage.opening.call()
        var failure = CallMachine.Failure.dialling
        failure.isFinal = true
        #expect(call.failed(failure, at: .after(.zero)).end?.reason == .fault(.reported, executed: .no))
    }

    @Test("The body of what is no refusal of a session breaks off as any answer does")
    func brokenFailure() {
        var call = CallStage.sent.call()
        _ = call.head(.init(status: 500))
        let failure = CallMachine.Failure(.answerBegan, executed: .unknown)
        #expect(call.failed(failure, at: .after(.zero)).end?.reason == .fault(.reported, executed: .unknown))
    }

    @Test("A retry waits as long as an outbound proxy says, and a moment more")
    func pause() {
        var call = CallStage.opening.call()
        var failure = CallMachine.Failure.dialling
        failure.retryAfter = .seconds(1)
        _ = call.failed(failure, at: .after(.zero))
        let action = call.budget(isGranted: true, jitter: .milliseconds(70))
        #expect(action == .wait(.init(1), .milliseconds(1_070), keepsBody: false))
    }

    @Test("A timer of an earlier attempt means nothing to the next one")
    func lateTimer() {
        var call = CallStage.refusal.call()
        _ = call.bodyRead(.foreign, at: .after(.zero))
        _ = call.judged(.again, status: 403)
        _ = call.chosen(true)
        _ = call.connected(hasSession: true, hasOwnIDs: false)
        _ = call.head(.init(status: 500))
        #expect(call.timerFired(.init(1), at: .after(.zero)) == .none)
        // It fired, so that there is none to be cancelled.
        #expect(call.noRoom(isUnsent: true).end?.cancelsTimer == false)
    }

    @Test("A timer that has not fired is cancelled at the end, whichever fired before it")
    func unfiredTimer() {
        var call = CallStage.refusal.call()
        #expect(call.noRoom(isUnsent: true).end?.cancelsTimer == true)
        call = CallStage.resuming.call()
        #expect(call.ended() == .wait(.init(2), .seconds(1), keepsBody: false))
        #expect(call.timerFired(.init(1), at: .after(.zero)) == .none)
        #expect(call.noRoom(isUnsent: true).end?.cancelsTimer == true)
    }

    @Test("A timer that ends nothing does nothing")
    func emptyTimer() {
        var call = CallStage.refusal.call()
        #expect(call.ended() == .readBody)
        #expect(call.bodyRead(.foreign, at: .after(.zero)) == .judge(status: 403, .answer))
        #expect(call.timerFired(.init(1), at: .after(.zero)) == .none)
    }
}
