// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import Testing

@Suite("Standing stream") struct StandingStreamTests {
    typealias Answer = StandingStream.Answer
    typealias Check = StandingStream.Check
    typealias Action = StandingStream.Action

    @Test(
        "What the answer to a GET says of the stream",
        arguments: [
            (200, true, Answer.stream), (200, false, .none(status: 200)), (202, false, .none(status: 202)),
            (204, false, .none(status: 204)), (405, false, .none(status: 405)), (501, false, .none(status: 501)),
            (400, false, .doubtful(status: 400)), (401, false, .doubtful(status: 401)),
            (403, false, .doubtful(status: 403)), (404, false, .doubtful(status: 404)),
            (404, true, .doubtful(status: 404)), (406, false, .doubtful(status: 406)),
            (410, false, .doubtful(status: 410)), (422, false, .doubtful(status: 422)),
            (408, false, .failed), (425, false, .failed), (429, false, .failed), (302, false, .failed),
            (307, false, .failed), (500, false, .failed), (502, true, .failed), (503, false, .failed),
        ] as [(Int, Bool, Answer)]
    )
    func answers(status: Int, isEventStream: Bool, answer: Answer) {
        #expect(Answer(status: status, isEventStream: isEventStream) == answer)
    }

    @Test(
        "What the answer to a message in the same session says of the session and of the credential",
        arguments: [
            (200, true, true, Check.works), (202, false, true, .works), (200, false, false, .works),
            (404, true, true, .works), (400, true, true, .works),
            (400, false, true, .lost), (404, false, true, .lost), (401, false, true, .lost), (401, true, true, .lost),
            (401, false, false, .refused(status: 401)), (403, false, true, .refused(status: 403)),
            (403, false, false, .refused(status: 403)),
            (400, false, false, .unknown), (404, false, false, .unknown), (500, false, true, .unknown),
            (503, true, true, .unknown), (429, false, true, .unknown), (307, false, true, .unknown),
        ] as [(Int, Bool, Bool, Check)]
    )
    func checks(status: Int, isAnswered: Bool, hadSession: Bool, check: Check) {
        #expect(Check(status: status, isAnswered: isAnswered, hadSession: hadSession) == check)
    }

    @Test(
        "A refused GET ends no session and moves no pool unless a message in the same session is refused as well",
        arguments: [401, 403, 404, 400, 406],
        [
            (Check.works, nil), (.lost, .reopen), (.refused(status: 401), .refused(status: 401)),
            (.refused(status: 403), .refused(status: 403)), (.unknown, .again(after: .seconds(1))),
        ] as [(Check, Action?)]
    )
    func doubts(status: Int, outcome: (check: Check, action: Action?)) {
        var stream = StandingStream.StateMachine()
        #expect(stream.answered(Answer(status: status, isEventStream: false), now: .zero) == .check)
        #expect(stream.checked(outcome.check, now: .zero) == outcome.action ?? .unavailable(status: status))
    }

    @Test("A stream that cannot be had is asked for at growing intervals, never twice in a second")
    func pauses() {
        var stream = StandingStream.StateMachine()
        let pauses = (0..<8).map { _ in stream.answered(.failed, now: .zero) }
        #expect(pauses == [1, 2, 4, 8, 16, 32, 32, 32].map { Action.again(after: .seconds($0)) })
        var refused = StandingStream.StateMachine()
        #expect((0..<3).map { _ in refused.pauseAfterRefusal() } == [.seconds(1), .seconds(2), .seconds(4)])
    }

    @Test("A session that is lost again and again is opened again at growing intervals, never twice in a second")
    func reopenings() {
        var stream = StandingStream.StateMachine()
        var (now, reopened) = (Duration.zero, [Duration]())
        while now < .seconds(200) {
            _ = stream.answered(.doubtful(status: 404), now: now)
            switch stream.checked(.lost, now: now) {
            case .reopen: reopened.append(now)
            case .again(let pause):
                #expect(pause >= .seconds(1))
                now += pause
            default: Issue.record("neither opened again nor left alone")
            }
        }
        #expect(zip(reopened, reopened.dropFirst()).allSatisfy { $1 - $0 >= .seconds(1) })
        #expect((3...12).contains(reopened.count))
        // An event says that all is well: the next loss is met at once.
        _ = stream.answered(.stream, now: now)
        stream.heard()
        _ = stream.answered(.doubtful(status: 404), now: now + .seconds(60))
        #expect(stream.checked(.lost, now: now + .seconds(60)) == .reopen)
    }

    @Test("A stream that breaks off is asked for again when its upstream wants that, unless nothing ever comes of it")
    func retries() {
        var stream = StandingStream.StateMachine()
        let short = Duration.milliseconds(250)
        for _ in 0..<10 {
            #expect(stream.answered(.stream, now: .zero) == .read)
            stream.heard()
            #expect(stream.ended(retry: short, now: .zero) == .again(after: short))
        }
        // No event comes any more.
        var pauses: [Action] = []
        for _ in 0..<5 {
            #expect(stream.answered(.stream, now: .zero) == .read)
            pauses.append(stream.ended(retry: short, now: .zero))
        }
        #expect(pauses.prefix(2) == [.again(after: short), .again(after: short)])
        #expect(pauses.suffix(3) == [8, 16, 32].map { Action.again(after: .seconds($0)) })
        // One that stood for a while was good.
        #expect(stream.answered(.stream, now: .zero) == .read)
        #expect(stream.ended(retry: nil, now: .seconds(5)) == .again(after: .seconds(1)))
        #expect(stream.ended(retry: .seconds(30), now: .seconds(6)) == .again(after: .seconds(30)))
    }
}
