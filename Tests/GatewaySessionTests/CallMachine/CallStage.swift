// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import GatewayWire

/// A state of a call, and the way to it.
enum CallStage: String, CaseIterable {
    case new
    case queued
    case choosing
    case opening
    case sent
    case short
    case whole
    case relaying
    case streaming
    case refusal
    case failure
    case judging
    case reopening
    case asking
    case pausing
    case resumingLater = "resuming later"
    case resuming
    case draining
    case done
    case openingLink = "opening link"
    case link

    /// A `tools/call` in a handshake session at an upstream with a pool, or over a link.
    var facts: CallMachine.Facts {
        var facts = CallMachine.Facts(
            era: .handshake,
            messageClass: .call,
            startedAt: .zero,
            timeout: .seconds(60)
        )
        facts.isOverLink = self == .link || self == .openingLink
        facts.hasCredentials = !facts.isOverLink
        return facts
    }

    /// A call in this state.
    func call(_ edit: (inout CallMachine.Facts) -> Void = { _ in }) -> CallMachine.StateMachine {
        var facts = self.facts
        edit(&facts)
        var call = CallMachine.StateMachine(facts)
        self.lead(&call)
        return call
    }

    private func lead(_ call: inout CallMachine.StateMachine) {
        switch self {
        case .new:
            break
        case .queued:
            _ = call.start(hasPlace: false)
        case .choosing, .openingLink:
            _ = call.start(hasPlace: true)
        case .opening:
            Self.choosing.lead(&call)
            _ = call.chosen(true)
        case .sent:
            Self.opening.lead(&call)
            _ = call.connected(hasSession: true, hasOwnIDs: false)
        case .short:
            Self.sent.lead(&call)
            _ = call.head(.init(status: 200))
        case .whole:
            Self.sent.lead(&call)
            var head = CallMachine.Head(status: 200)
            head.isRewritten = true
            _ = call.head(head)
        case .relaying:
            Self.short.lead(&call)
            _ = call.received(64 * 1024, isJSON: true, limit: .max)
        case .streaming:
            Self.sent.lead(&call)
            _ = call.head(.events)
        case .refusal:
            Self.sent.lead(&call)
            _ = call.head(.init(status: 403))
        case .failure:
            Self.sent.lead(&call)
            _ = call.head(.init(status: 400))
        case .judging:
            Self.refusal.lead(&call)
            _ = call.bodyRead(.foreign, at: .after(.zero))
        case .reopening:
            Self.failure.lead(&call)
            _ = call.bodyRead(.sessionRefusal, at: .after(.zero))
        case .asking:
            Self.opening.lead(&call)
            _ = call.failed(.dialling, at: .after(.zero))
        case .pausing:
            Self.asking.lead(&call)
            _ = call.budget(isGranted: true, jitter: .milliseconds(50))
        case .resumingLater:
            Self.streaming.lead(&call)
            _ = call.event(.notification, rest: .seconds(1), at: .after(.zero))
            _ = call.ended()
        case .resuming:
            Self.resumingLater.lead(&call)
            _ = call.timerFired(.init(1), at: .after(.zero))
        case .draining:
            Self.streaming.lead(&call)
            _ = call.event(.answer, at: .after(.zero))
            _ = call.answered()
        case .done:
            Self.short.lead(&call)
            _ = call.received(2, isJSON: true, limit: .max)
            _ = call.ended()
        case .link:
            Self.openingLink.lead(&call)
            call.isSent()
        }
    }
}

extension CallMachine.Head {
    /// A stream of events.
    static var events: Self {
        var head = CallMachine.Head(status: 200)
        head.mediaType = .eventStream
        return head
    }
}

extension CallMachine.Moment {
    /// This time after the start of the call.
    static func after(_ time: Duration) -> Self { .init(time, timeout: .seconds(60)) }
}

extension CallMachine.Failure {
    /// There was no connection.
    static var dialling: Self {
        var failure = CallMachine.Failure(.failedBeforeFirstByte, executed: .no)
        failure.isOfDialling = true
        return failure
    }

    /// The connection was lost before any status.
    static var lost: Self { .init(.lost, executed: .unknown) }
}

/// Something that happens to a call.
enum CallInput: String, CaseIterable {
    case start
    case startWithoutPlace = "start without place"
    case admitted
    case notAdmitted = "not admitted"
    case chosen
    case noneLeft = "none left"
    case openingFailed = "opening failed"
    case openingRefused = "opening refused"
    case openingOver = "opening over"
    case credentialRemoved = "credential removed"
    case opened
    case answeredHere = "answered here"
    case connected
    case sent
    case sentAgain = "sent again"
    case json = "200"
    case events = "200 events"
    case found = "302"
    case redirect = "307"
    case unauthorized = "401"
    case failing = "500"
    case followed
    case notFollowed = "not followed"
    case bytes
    case many
    case ended
    case notDialled = "not dialled"
    case lost
    case answered
    case flawed
    case bodyForeign = "body foreign"
    case bodyAnswer = "body answer"
    case bodyLoss = "body loss"
    case reopened
    case kept
    case reopeningRefused = "reopening refused"
    case reopeningFailed = "reopening failed"
    case granted
    case notGranted = "not granted"
    case again
    case rejected
    case exhausted
    case timer
    case late
    case progress
    case notification
    case question
    case answer
    case foreign
    case garbage
    case taken
    case shut
    case left
    case moved
    case slow
    case blocked
    case writable
    case takenBack = "taken back"
    case tick
    case deadline
    case noRoom = "no room"
    case drain
    case upstreamGone = "upstream gone"
    case nobodyWaits = "nobody waits"

    /// Lets it happen; returns what is to be done, in few words.
    func happen(to call: inout CallMachine.StateMachine) -> String {
        self.onTheWay(&call) ?? self.withTheAnswer(&call) ?? self.aside(&call)
    }

    private func onTheWay(_ call: inout CallMachine.StateMachine) -> String? {
        switch self {
        case .start: return call.start(hasPlace: true).text
        case .startWithoutPlace: return call.start(hasPlace: false).text
        case .admitted: return call.admitted(true).text
        case .notAdmitted: return call.admitted(false).text
        case .chosen: return call.chosen(true).text
        case .noneLeft: return call.chosen(false).text
        case .openingFailed: return call.opened(.failed(executed: .no)).text
        case .openingRefused: return call.opened(.refused(status: 403, isFirst: true)).text
        case .openingOver: return call.opened(.over).text
        case .credentialRemoved: return call.credentialRemoved(isLost: false).text
        case .opened: return call.opened(.open).text
        case .answeredHere: return call.answeredHere().text
        case .connected:
            let connected = call.connected(hasSession: true, hasOwnIDs: false)
            return connected == .release ? "–" : "\(connected)"
        case .sent:
            call.isSent()
            return "–"
        case .sentAgain:
            call.isSentAgain()
            return "–"
        case .granted: return call.budget(isGranted: true, jitter: .milliseconds(50)).text
        case .notGranted: return call.budget(isGranted: false, jitter: .zero).text
        case .again: return call.judged(.again, status: 403).text
        case .rejected: return call.judged(.rejected, status: 403).text
        case .exhausted: return call.judged(.exhausted, status: 403).text
        case .notDialled: return call.failed(.dialling, at: .after(.seconds(1))).text
        case .lost: return call.failed(.lost, at: .after(.seconds(1))).text
        default: return nil
        }
    }

    private func withTheAnswer(_ call: inout CallMachine.StateMachine) -> String? {
        switch self {
        case .json: call.head(.init(status: 200)).text
        case .events: call.head(.events).text
        case .found: call.head(.init(status: 302)).text
        case .redirect: call.head(.init(status: 307)).text
        case .unauthorized: call.head(.init(status: 401)).text
        case .failing: call.head(.init(status: 500)).text
        case .followed: call.redirected(isFollowed: true).text
        case .notFollowed: call.redirected(isFollowed: false).text
        case .bytes: call.received(2, isJSON: true, limit: 1_000_000).text
        case .many: call.received(2_000_000, isJSON: true, limit: 1_000_000).text
        case .ended: call.ended().text
        case .answered: call.answered().text
        case .flawed: call.flawed(.message).text
        case .bodyForeign: call.bodyRead(.foreign, at: .after(.seconds(1))).text
        case .bodyAnswer: call.bodyRead(.result, at: .after(.seconds(1))).text
        case .bodyLoss: call.bodyRead(.sessionRefusal, at: .after(.seconds(1))).text
        case .reopened: call.reopened(.open).text
        case .kept: call.reopened(.kept).text
        case .reopeningRefused: call.reopened(.refused(status: 403, isFirst: false)).text
        case .reopeningFailed: call.reopened(.failed(executed: .no)).text
        case .progress: call.event(.progress, at: .after(.seconds(1))).text
        case .notification: call.event(.notification, at: .after(.seconds(1))).text
        case .question: call.event(.question, at: .after(.seconds(1))).text
        case .answer: call.event(.answer, at: .after(.seconds(1))).text
        case .foreign: call.event(.foreign, at: .after(.seconds(1))).text
        case .garbage: call.event(.garbage, at: .after(.seconds(1))).text
        default: nil
        }
    }

    private func aside(_ call: inout CallMachine.StateMachine) -> String {
        switch self {
        case .timer: return call.timerFired(.init(1), at: .after(.seconds(1))).text
        case .late: return call.timerFired(.init(0), at: .after(.seconds(1))).text
        case .taken: return call.taken().text
        case .shut: return call.callerLeft(isClosed: false).text
        case .left: return call.callerLeft(isClosed: true).text
        case .moved:
            call.callerMoved()
            return "–"
        case .slow: return call.callerIsSlow().text
        case .blocked: return call.callerBlocked(now: .seconds(1)).text
        case .writable: return call.callerWritable().text
        case .takenBack:
            call.takenBack(now: .seconds(1))
            return "–"
        case .tick: return call.tick(now: .seconds(1), isUnsent: true).text
        case .deadline: return call.tick(now: .seconds(60), isUnsent: true).text
        case .noRoom: return call.noRoom(isUnsent: false).text
        case .drain: return call.drain().text
        case .upstreamGone: return call.upstreamGone(isUnsent: false).text
        case .nobodyWaits: return call.nobodyWaits().text
        default: return "?"
        }
    }
}
