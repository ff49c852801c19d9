// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayTestRandom
import GatewayWire
import Testing

@testable import GatewaySession

@Suite("Session bridge") struct SessionBridgeTests {
    private static func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    private static func call(
        _ machine: inout SessionBridge.StateMachine,
        _ caller: Int,
        _ id: Int64,
        token: String? = nil
    ) -> Int64 {
        machine.requested(
            by: caller,
            id: .integer(id),
            literal: Self.bytes("\(id)"),
            token: token.map(Self.bytes)
        )
    }

    // MARK: Calls

    @Test("Callers that use the same ids get their own answers, once, under the id that they wrote")
    func sameIDs() {
        var machine = SessionBridge.StateMachine(sharing: .shared)
        machine.joined(1, capabilities: [])
        machine.joined(2, capabilities: [])
        let one = machine.requested(by: 1, id: .integer(0), literal: Self.bytes("0"), token: nil)
        let two = machine.requested(by: 2, id: .integer(0), literal: Self.bytes("0"), token: nil)
        let text = machine.requested(by: 2, id: .string(Self.bytes("0")), literal: Self.bytes("\"0\""), token: nil)
        #expect(one == 1 && two == 2 && text == 3)
        #expect(machine.answered(.integer(3)) == .answer(call: 3, id: Self.bytes("\"0\"")))
        #expect(machine.answered(.integer(2)) == .answer(call: 2, id: Self.bytes("0")))
        #expect(machine.answered(.integer(2)) == .unknown)
        #expect(machine.answered(.string(Self.bytes("1"))) == .unknown)
        #expect(machine.answered(.integer(1)) == .answer(call: 1, id: Self.bytes("0")))
        #expect(machine.callCount == 0)
    }

    @Test(
        "A caller may use one id and one token for several calls at once, and each has its own answer and progress",
        arguments: [SessionBridge.Sharing.exclusive, .shared]
    )
    func equalIDsOfOneCaller(sharing: SessionBridge.Sharing) {
        var machine = SessionBridge.StateMachine(sharing: sharing)
        machine.joined(1, capabilities: [])
        let calls = (0..<4).map { _ in Self.call(&machine, 1, 7, token: "9") }
        #expect(Set(calls).count == 4 && machine.callCount(of: 1) == 4)
        for call in calls.reversed() {
            #expect(machine.progressed(.integer(call))?.call == call)
            #expect(machine.progressed(.integer(call))?.token == Self.bytes("9"))
            #expect(machine.answered(.integer(call)) == .answer(call: call, id: Self.bytes("7")))
            #expect(machine.answered(.integer(call)) == .unknown)
        }
        #expect(machine.callCount == 0)
    }

    @Test("A call that was withdrawn is over, and its id is used again")
    func withdrawnID() {
        var machine = SessionBridge.StateMachine(sharing: .exclusive)
        machine.joined(1, capabilities: [])
        let call = Self.call(&machine, 1, 7)
        let withdrawn = machine.withdraw(call)
        let again = machine.withdraw(call)
        #expect(withdrawn && !again)
        #expect(machine.answered(.integer(call)) == .unknown)
        let next = Self.call(&machine, 1, 7)
        #expect(machine.answered(.integer(next)) == .answer(call: next, id: Self.bytes("7")))
    }

    @Test("A cancellation is for the newest call with its id that was not cancelled before")
    func cancelledByID() {
        var machine = SessionBridge.StateMachine(sharing: .shared)
        machine.joined(1, capabilities: [])
        machine.joined(2, capabilities: [])
        func cancel(_ machine: inout SessionBridge.StateMachine, _ caller: Int = 1) -> Int64? {
            machine.cancelled(by: caller, id: .integer(7))
        }
        let calls = (0..<4).map { _ in Self.call(&machine, 1, 7) }
        let other = Self.call(&machine, 2, 7)
        #expect(machine.cancelled(by: 1, id: .string(Self.bytes("7"))) == nil)
        #expect(machine.cancelled(by: 3, id: .integer(7)) == nil)
        // It is in flight until its answer comes, or none does.
        #expect(cancel(&machine) == calls[3])
        #expect(machine.callCount(of: 1) == 4)
        // One in the middle of the row has its answer.
        #expect(machine.answered(.integer(calls[1])) == .answer(call: calls[1], id: Self.bytes("7")))
        #expect(cancel(&machine) == calls[2])
        #expect(machine.answered(.integer(calls[3])) == .answer(call: calls[3], id: Self.bytes("7")))
        let newest = Self.call(&machine, 1, 7)
        #expect(cancel(&machine) == newest)
        #expect(cancel(&machine) == calls[0])
        #expect(cancel(&machine) == nil)
        #expect(cancel(&machine, 2) == other)
        _ = machine.upstreamLost()
        #expect(cancel(&machine) == nil && machine.callCount == 0)
    }

    @Test("Progress goes to the caller of its token, as that wrote it, and to nobody when the call is over")
    func progress() {
        var machine = SessionBridge.StateMachine(sharing: .shared)
        machine.joined(1, capabilities: [])
        let call = Self.call(&machine, 1, 1, token: #""t""#)
        let silent = Self.call(&machine, 1, 2)
        #expect(machine.progressed(.integer(call))?.token == Self.bytes(#""t""#))
        #expect(machine.progressed(.integer(call))?.call == call)
        #expect(machine.progressed(.integer(silent)) == nil)
        #expect(machine.progressed(.string(Self.bytes("t"))) == nil)
        _ = machine.answered(.integer(call))
        #expect(machine.progressed(.integer(call)) == nil)
    }

    @Test("A lost upstream takes every call with it and no caller")
    func lost() {
        var machine = SessionBridge.StateMachine(sharing: .shared)
        machine.joined(1, capabilities: [.roots])
        _ = machine.subscribed(1, to: Self.bytes("file:///a"))
        _ = Self.call(&machine, 1, 1)
        let own = machine.requestedByGateway()
        _ = machine.asked(.rootsList, id: .integer(9), literal: Self.bytes("9"))
        #expect(machine.upstreamLost() == [1, own])
        #expect(machine.callCount == 0 && machine.callerCount == 1)
        #expect(machine.responded(by: 1, id: .integer(3)) == nil)
        #expect(machine.resources == [Self.bytes("file:///a")])
        #expect(machine.answered(.integer(1)) == .unknown)
        let next = Self.call(&machine, 1, 1)
        #expect(machine.answered(.integer(next)) == .answer(call: next, id: Self.bytes("1")))
    }

    // MARK: Calls that were withdrawn

    /// How a caller comes to wait no longer for a call that the upstream goes on with.
    enum Withdrawal: CaseIterable, CustomTestStringConvertible {
        case withdrawn
        case left
        var testDescription: String { self == .withdrawn ? "timed out or cancelled" : "its caller left" }
    }

    /// Callers 1 and 2 that can answer everything, of which 1 has withdrawn its call 1.
    private static func machine(_ withdrawal: Withdrawal) -> SessionBridge.StateMachine {
        var machine = SessionBridge.StateMachine(sharing: .shared)
        machine.joined(1, capabilities: [.roots])
        machine.joined(2, capabilities: [.roots])
        let call = Self.call(&machine, 1, 1)
        switch withdrawal {
        case .withdrawn: _ = machine.withdraw(call)
        case .left: _ = machine.left(1)
        }
        return machine
    }

    private static func ask(_ machine: inout SessionBridge.StateMachine, _ id: Int64) -> SessionBridge.Question {
        machine.asked(.rootsList, id: .integer(id), literal: Self.bytes("\(id)"))
    }

    @Test(
        "What a withdrawn call causes reaches no other caller until the upstream answers it",
        arguments: Withdrawal.allCases
    )
    func withdrawn(_ withdrawal: Withdrawal) {
        var machine = Self.machine(withdrawal)
        let call: Int64 = 1
        let other = Self.call(&machine, 2, 1)
        #expect(Self.ask(&machine, 1) == .refuse)
        #expect(machine.logged(.error) == .nobody(isLogged: true))
        #expect(machine.asked(.rootsList, id: .integer(2), literal: [], during: call) == .refuse)
        #expect(machine.logged(.error, during: call) == .nobody(isLogged: true))
        // What comes on the stream of a call that is in flight is for its caller all the same.
        #expect(machine.logged(.error, during: other) == .caller(2, call: other))
        #expect(machine.answered(.integer(call)) == .unknown)
        #expect(machine.logged(.error) == .caller(2, call: other))
        guard case .ask(2, other, _) = Self.ask(&machine, 3) else {
            Issue.record("not asked")
            return
        }
    }

    @Test("A caller that is still there is asked because of a call that it withdrew, one that has left is not")
    func withdrawnAlone() {
        var machine = Self.machine(.withdrawn)
        #expect(machine.logged(.error) == .caller(1, call: nil))
        guard case .ask(1, nil, _) = Self.ask(&machine, 1) else {
            Issue.record("not asked")
            return
        }
        // The id is free at once, and the call that has it now is another one.
        let again = Self.call(&machine, 1, 1)
        #expect(again == 3)
        #expect(machine.logged(.error) == .caller(1, call: again))
        var abandoned = Self.machine(.left)
        #expect(abandoned.logged(.error) == .nobody(isLogged: true))
        #expect(Self.ask(&abandoned, 1) == .refuse)
    }

    @Test("When the upstream session is lost or opened anew, withdrawn calls are too", arguments: [true, false])
    func withdrawnAndLost(isLost: Bool) {
        var machine = Self.machine(.left)
        let before = Self.call(&machine, 2, 1)
        if isLost { _ = machine.upstreamLost() } else { machine.renewed() }
        let call = isLost ? Self.call(&machine, 2, 1) : before
        #expect(machine.logged(.error) == .caller(2, call: call))
    }

    @Test(
        "Above the bound of withdrawn calls nobody is the only caller until the session is lost",
        arguments: [-1, 0, 1]
    )
    func withdrawnLimit(above: Int) {
        var machine = SessionBridge.StateMachine(sharing: .shared)
        machine.joined(1, capabilities: [.roots])
        for id in 0..<Int64(SessionBridge.withdrawnLimit + above) {
            let call = Self.call(&machine, 1, id)
            let isWithdrawn = machine.withdraw(call)
            #expect(isWithdrawn == true)
        }
        let isInDoubt = above > 0
        #expect(machine.logged(.error) == (isInDoubt ? .nobody(isLogged: true) : .caller(1, call: nil)))
        for id in 0..<Int64(SessionBridge.withdrawnLimit + above) { _ = machine.answered(.integer(id + 1)) }
        let call = Self.call(&machine, 1, 1)
        #expect(machine.logged(.error) == (isInDoubt ? .nobody(isLogged: true) : .caller(1, call: call)))
        _ = machine.upstreamLost()
        let last = Self.call(&machine, 1, 1)
        #expect(machine.logged(.error) == .caller(1, call: last))
    }

    @Test(
        "A withdrawn call that is never answered counts for two intervals, and so does doubt",
        arguments: [1, SessionBridge.withdrawnLimit + 1]
    )
    func withdrawnForEver(count: Int) {
        var machine = SessionBridge.StateMachine(sharing: .shared)
        machine.joined(1, capabilities: [.roots])
        machine.joined(2, capabilities: [.roots])
        // One interval had passed before: only what comes behind the withdrawal counts.
        machine.grewOlder()
        for id in 0..<Int64(count) {
            let call = Self.call(&machine, 1, id)
            _ = machine.withdraw(call)
        }
        let call = Self.call(&machine, 2, 1)
        for _ in 0..<2 {
            #expect(machine.logged(.error) == .nobody(isLogged: true))
            machine.grewOlder()
        }
        #expect(machine.logged(.error) == .caller(2, call: call))
        // The answer that nobody counted on any more changes nothing.
        #expect(machine.answered(.integer(1)) == .unknown)
        #expect(machine.logged(.error) == .caller(2, call: call))
    }

    @Test("In the stateless era a log message is for the only call that there is, none being withdrawn")
    func withdrawnStateless() {
        var machine = SessionBridge.StateMachine(sharing: .shared)
        machine.becameStateless()
        let one = Self.call(&machine, -1, 1)
        #expect(machine.logged(.error) == .call(one))
        let isWithdrawn = machine.withdraw(one)
        #expect(isWithdrawn)
        #expect(machine.logged(.error) == .nobody(isLogged: true))
        let two = Self.call(&machine, -2, 1)
        #expect(machine.logged(.error) == .nobody(isLogged: true))
        #expect(machine.logged(.error, during: one) == .nobody(isLogged: true))
        #expect(machine.logged(.error, during: two) == .call(two))
        #expect(machine.answered(.integer(one)) == .unknown)
        #expect(machine.logged(.error) == .call(two))
    }

    @Test("A log message finds its call beside a ping of the gateway and a caller that only listens")
    func logsBesideOwnCalls() {
        var machine = SessionBridge.StateMachine(sharing: .shared)
        machine.becameStateless()
        let ping = machine.requestedByGateway()
        #expect(machine.logged(.error) == .nobody(isLogged: true))
        let literal = Self.bytes("1")
        let listening = machine.requested(by: -1, id: .integer(1), literal: literal, token: nil, isListening: true)
        #expect(machine.logged(.error) == .nobody(isLogged: true))
        let call = Self.call(&machine, -2, 1)
        #expect(machine.logged(.error) == .call(call))
        let isWithdrawn = machine.withdraw(listening)
        #expect(isWithdrawn)
        #expect(machine.logged(.error) == .call(call))
        #expect(machine.answered(.integer(ping)) == .own(call: ping))
        #expect(machine.answered(.integer(listening)) == .unknown)
        #expect(machine.logged(.error) == .call(call))
    }

    // MARK: Questions

    @Test("On a shared session a question goes to the only caller with calls in flight, if it can answer it")
    func questions() {
        var machine = SessionBridge.StateMachine(sharing: .shared)
        machine.joined(1, capabilities: [.sampling])
        machine.joined(2, capabilities: [.elicitation])
        func ask(_ method: MCPMethod, _ id: Int64) -> SessionBridge.Question {
            machine.asked(method, id: .integer(id), literal: Self.bytes("\(id)"))
        }
        #expect(ask(.samplingCreateMessage, 1) == .refuse)
        let call = Self.call(&machine, 1, 1)
        #expect(ask(.elicitationCreate, 2) == .refuse)
        #expect(ask(.other, 3) == .refuse)
        guard case .ask(1, call, let id) = ask(.samplingCreateMessage, 4) else {
            Issue.record("not asked")
            return
        }
        // Nobody else answers for it, and it is answered once.
        #expect(machine.responded(by: 2, id: .integer(id)) == nil)
        #expect(machine.responded(by: 1, id: .integer(id)) == Self.bytes("4"))
        #expect(machine.responded(by: 1, id: .integer(id)) == nil)
        let other = Self.call(&machine, 2, 1)
        #expect(ask(.samplingCreateMessage, 5) == .refuse)
        // What comes on a call's own stream is for that call's caller.
        #expect(
            machine.asked(.elicitationCreate, id: .integer(6), literal: Self.bytes("6"), during: other)
                == .ask(caller: 2, call: other, id: id + 2)
        )
    }

    /// How a question comes to be open no longer.
    enum Closing: CaseIterable {
        case answered
        case takenBack
        case undelivered
        case lost
    }

    @Test(
        "A caller reports progress under a token of what it alone was asked, while that is open",
        arguments: Closing.allCases
    )
    func progressOfQuestions(_ closing: Closing) {
        var machine = SessionBridge.StateMachine(sharing: .shared)
        machine.joined(1, capabilities: [.sampling])
        machine.joined(2, capabilities: [.sampling])
        let calls = [1, 2].map { Self.call(&machine, $0, 1) }
        func ask(_ id: Int64, _ token: MessageIDValue?, _ caller: Int) -> Int64? {
            let question = machine.asked(
                .samplingCreateMessage,
                id: .integer(id),
                literal: Self.bytes("\(id)"),
                token: token,
                during: calls[caller - 1]
            )
            guard case .ask(caller, _, let number) = question else { return nil }
            return number
        }
        let text = MessageIDValue.string(Self.bytes("5"))
        let one = ask(10, .integer(5), 1) ?? 0
        let same = ask(11, .integer(5), 1)
        #expect(ask(12, text, 2) != nil && ask(13, nil, 2) != nil && same != nil)
        #expect(machine.isAsked(1, token: .integer(5)) && machine.isAsked(2, token: text))
        // Neither under another's token, nor under one of another type, nor under the id of a question.
        #expect(!machine.isAsked(2, token: .integer(5)) && !machine.isAsked(1, token: text))
        #expect(!machine.isAsked(1, token: .integer(10)) && !machine.isAsked(2, token: .integer(13)))
        #expect(machine.isAsked(3, token: .integer(5)) == false)
        switch closing {
        case .answered: #expect(machine.responded(by: 1, id: .integer(one)) == Self.bytes("10"))
        case .takenBack: #expect(machine.cancelled(.integer(10))?.id == one)
        case .undelivered: #expect(machine.undelivered(one) == Self.bytes("10"))
        case .lost: _ = machine.upstreamLost()
        }
        // The other question under this token is open still.
        #expect(machine.isAsked(1, token: .integer(5)) == (closing != .lost))
        if let same { _ = machine.responded(by: 1, id: .integer(same)) }
        #expect(machine.isAsked(1, token: .integer(5)) == false)
        #expect(machine.isAsked(2, token: text) == (closing != .lost))
    }

    @Test("A caller that answers nothing is asked no more above a bound, others are", arguments: [-1, 0, 1])
    func questionLimit(above: Int) {
        var machine = SessionBridge.StateMachine(sharing: .shared)
        machine.joined(1, capabilities: [.roots])
        machine.joined(2, capabilities: [.roots])
        let calls = [1, 2].map { Self.call(&machine, $0, 1) }
        var asked = 0
        let limit = SessionBridge.questionLimit
        for id in 0..<Int64(limit + above) {
            if case .ask = machine.asked(.rootsList, id: .integer(id), literal: [], during: calls[0]) { asked += 1 }
        }
        #expect(asked == min(limit + above, limit))
        #expect(machine.asked(.rootsList, id: .integer(-1), literal: [], during: calls[1]) != .refuse)
        #expect(machine.cancelled(.integer(0)) != nil)
        #expect(machine.asked(.rootsList, id: .integer(-2), literal: [], during: calls[0]) != .refuse)
        #expect(machine.left(1).unanswered.count == asked)
    }

    @Test("On a session of its own a caller is asked whatever it is, and a stateless upstream may not ask")
    func owner() {
        var own = SessionBridge.StateMachine(sharing: .exclusive)
        own.joined(1, capabilities: [])
        #expect(
            own.asked(.other, id: .string(Self.bytes("q")), literal: Self.bytes("\"q\""))
                == .ask(caller: 1, call: nil, id: 1)
        )
        // The same id twice is a mistake of the upstream.
        #expect(own.asked(.other, id: .string(Self.bytes("q")), literal: Self.bytes("\"q\"")) == .refuse)
        #expect(own.cancelled(.string(Self.bytes("q")))?.id == 1)
        #expect(own.cancelled(.string(Self.bytes("q"))) == nil)
        var stateless = SessionBridge.StateMachine(sharing: .shared)
        stateless.becameStateless()
        _ = Self.call(&stateless, -1, 1)
        #expect(stateless.asked(.samplingCreateMessage, id: .integer(1), literal: Self.bytes("1")) == .refuse)
    }

    @Test("Who leaves takes its calls along, and its questions are given back unanswered")
    func leaving() {
        var machine = SessionBridge.StateMachine(sharing: .shared)
        machine.joined(1, capabilities: [.roots])
        machine.joined(2, capabilities: [])
        _ = machine.subscribed(1, to: Self.bytes("a"))
        _ = machine.subscribed(1, to: Self.bytes("b"))
        _ = machine.subscribed(2, to: Self.bytes("b"))
        let call = Self.call(&machine, 1, 1)
        _ = machine.asked(.rootsList, id: .integer(5), literal: Self.bytes("5"))
        let departure = machine.left(1)
        #expect(departure.cancelled == [call])
        #expect(departure.unanswered == [Self.bytes("5")])
        #expect(departure.unsubscribed == [Self.bytes("a")])
        #expect(machine.answered(.integer(call)) == .unknown)
        #expect(machine.left(1) == SessionBridge.Departure())
        #expect(machine.callerCount == 1)
    }

    // MARK: Notifications

    @Test("A log message goes to the only caller that it can concern, if that wants it")
    func logs() {
        var machine = SessionBridge.StateMachine(sharing: .shared)
        machine.joined(1, capabilities: [])
        machine.joined(2, capabilities: [])
        #expect(machine.logged(.error) == .nobody(isLogged: true))
        let call = Self.call(&machine, 1, 1)
        #expect(machine.logged(.debug) == .caller(1, call: call))
        #expect(machine.leveled(1, .warning) == .warning)
        #expect(machine.leveled(2, .debug) == .debug)
        #expect(machine.severity == .debug)
        #expect(machine.logged(.notice) == .nobody(isLogged: false))
        #expect(machine.logged(.warning) == .caller(1, call: call))
        let other = Self.call(&machine, 2, 1)
        #expect(machine.logged(.error) == .nobody(isLogged: true))
        #expect(machine.logged(.debug, during: other) == .caller(2, call: other))
    }

    @Test("Changes go to all, changed resources to who subscribed, and what nobody knows to the owner alone")
    func changes() {
        var machine = SessionBridge.StateMachine(sharing: .shared)
        for caller in 1...3 { machine.joined(caller, capabilities: []) }
        _ = machine.subscribed(3, to: Self.bytes("a"))
        _ = machine.subscribed(2, to: Self.bytes("a"))
        #expect(machine.listChanged == .callers([1, 2, 3]))
        #expect(machine.updated(Self.bytes("a")) == .callers([2, 3]))
        #expect(machine.updated(Self.bytes("b")) == .callers([]))
        #expect(machine.unknownNotification == .nobody(isLogged: false))
        let isLast = machine.unsubscribed(2, from: Self.bytes("a"))
        #expect(!isLast)
        #expect(machine.updated(Self.bytes("a")) == .callers([3]))
        var own = SessionBridge.StateMachine(sharing: .exclusive)
        own.joined(7, capabilities: [])
        #expect(own.listChanged == .caller(7, call: nil))
        #expect(own.updated(Self.bytes("b")) == .caller(7, call: nil))
        #expect(own.unknownNotification == .caller(7, call: nil))
    }

    // MARK: Subscriptions

    @Test("A caller that subscribes to as much as it may is refused more, and no other is", arguments: [-1, 0, 1])
    func subscriptionsOfCaller(above: Int) {
        var machine = SessionBridge.StateMachine(sharing: .shared)
        machine.joined(1, capabilities: [])
        machine.joined(2, capabilities: [])
        for uri in 0..<(1_000 + above) {
            let isTaken = machine.subscribed(1, to: Self.bytes("a:\(uri)"))
            #expect(isTaken == (uri < 1_000))
        }
        #expect(machine.resources.count == min(1_000 + above, 1_000))
        let again = machine.subscribed(1, to: Self.bytes("a:0"))
        let more = machine.subscribed(1, to: Self.bytes("b"))
        let other = machine.subscribed(2, to: Self.bytes("b"))
        #expect(again && other && more == (above < 0))
        // There is room again when one ends; what was refused is nobody's.
        let isLast = machine.unsubscribed(1, from: Self.bytes("a:0"))
        let instead = machine.subscribed(1, to: Self.bytes("c"))
        #expect(isLast && instead)
        #expect(machine.updated(Self.bytes("b")) == .callers(above < 0 ? [1, 2] : [2]))
        #expect(machine.left(1).unsubscribed.count == 1_000 - (above < 0 ? 1 : 0))
        #expect(machine.resources == [Self.bytes("b")])
        let stranger = machine.subscribed(3, to: Self.bytes("b"))
        #expect(stranger == false)
    }

    @Test("The bytes of URIs are bounded for a caller and for all, and what several share counts once for all")
    func subscriptionBytes() {
        var subscriptions = Subscriptions(
            limits: .init(urisOfCaller: 100, bytesOfCaller: 10, uris: 100, bytes: 25, pairs: 5)
        )
        func subscribe(_ uri: String, _ caller: Int) -> Bool { subscriptions.insert(Self.bytes(uri), of: caller) }
        #expect(subscribe("1234567890", 1) && !subscribe("x", 1) && !subscribe("12345678901", 2))
        #expect(subscribe("abcdefghij", 2) && subscribe("1234567890", 3))
        #expect(!subscribe("123456", 4) && subscribe("12345", 4) && !subscribe("y", 5))
        // Shared by one more, who may have it although all bytes are taken; then there are as many pairs as may be.
        #expect(subscribe("1234567890", 5) && !subscribe("1234567890", 6))
        _ = subscriptions.removeAll(of: 3)
        #expect(subscribe("1234567890", 6))
        #expect(subscriptions.removeAll(of: 2) == [Self.bytes("abcdefghij")])
        #expect(subscribe("1234567", 2))
    }

    @Test("Whatever comes and goes, subscriptions are what a plain model says", arguments: 0..<30 as Range<UInt64>)
    func randomSubscriptions(seed: UInt64) {
        var random = SplitMix(seed: seed)
        let limits = Subscriptions.Limits(urisOfCaller: 4, bytesOfCaller: 9, uris: 8, bytes: 20, pairs: 14)
        var subscriptions = Subscriptions(limits: limits)
        var model: [Int: Set<[UInt8]>] = [:]
        for _ in 0..<2_000 {
            let caller = Int.random(in: 0..<6, using: &random)
            let letter = UInt8.random(in: 97..<109, using: &random)
            let uri = [UInt8](repeating: letter, count: Int(letter) % 4 + 1)
            let all = model.values.reduce(into: Set<[UInt8]>()) { $0.formUnion($1) }
            switch Int.random(in: 0..<8, using: &random) {
            case 0:
                let gone = model.removeValue(forKey: caller) ?? []
                let kept = model.values.reduce(into: Set<[UInt8]>()) { $0.formUnion($1) }
                #expect(Set(subscriptions.removeAll(of: caller)) == gone.subtracting(kept))
            case 1, 2:
                model[caller]?.remove(uri)
                #expect(subscriptions.remove(uri, of: caller) == !model.values.contains { $0.contains(uri) })
            default:
                let own = model[caller] ?? []
                let hasRoom =
                    own.count < 4 && own.joined().count + uri.count <= 9
                    && model.values.reduce(0) { $0 + $1.count } < 14
                    && (all.contains(uri) || all.count < 8 && all.joined().count + uri.count <= 20)
                let isTaken = subscriptions.insert(uri, of: caller)
                #expect(isTaken == (own.contains(uri) || hasRoom))
                if isTaken { model[caller, default: []].insert(uri) }
            }
            #expect(subscriptions.uris == model.values.reduce(into: []) { $0.formUnion($1) })
            #expect(subscriptions.callers(of: uri) == model.filter { $0.value.contains(uri) }.keys.sorted())
        }
    }

    // MARK: All of it

    /// What should be known of a call.
    private struct ModelCall {
        var caller: Int
        var id: Int64
        /// Whether the upstream still owes its answer, but its caller waits for it no longer.
        var isWithdrawn = false
        /// Whether its caller cancelled it, so that no other cancellation is for it.
        var isCancelled = false
    }

    @Test("Whatever happens in whatever order, messages go to whom they concern alone", arguments: 0..<50)
    func randomWalk(seed: UInt64) {
        var random = SplitMix(seed: seed)
        var machine = SessionBridge.StateMachine(sharing: .shared)
        var model: [Int64: ModelCall] = [:]
        var callers: Set<Int> = []
        var next = 0
        for _ in 0..<2_000 {
            switch Int.random(in: 0..<12, using: &random) {
            case 0:
                next += 1
                machine.joined(next, capabilities: [.roots])
                callers.insert(next)
            case 1:
                guard let caller = callers.randomElement(using: &random) else { continue }
                callers.remove(caller)
                let gone = model.filter { $0.value.caller == caller && !$0.value.isWithdrawn }.keys.sorted()
                let departure = machine.left(caller)
                #expect(departure.cancelled.sorted() == gone)
                for call in gone { model[call]?.isWithdrawn = true }
            case 2...4:
                guard let caller = callers.randomElement(using: &random) else { continue }
                let id = Int64.random(in: 0..<8, using: &random)
                if Int.random(in: 0..<4, using: &random) == 0 {
                    let named = model.filter {
                        $0.value.caller == caller && $0.value.id == id && !$0.value.isWithdrawn && !$0.value.isCancelled
                    }
                    #expect(machine.cancelled(by: caller, id: .integer(id)) == named.keys.max())
                    if let call = named.keys.max() { model[call]?.isCancelled = true }
                } else {
                    let call = Self.call(&machine, caller, id)
                    #expect(model[call] == nil)
                    model[call] = ModelCall(caller: caller, id: id)
                }
            case 5...7:
                let call = model.keys.randomElement(using: &random) ?? 0
                let response = machine.answered(.integer(call))
                if let entry = model.removeValue(forKey: call), !entry.isWithdrawn {
                    #expect(response == .answer(call: call, id: Self.bytes("\(entry.id)")))
                } else {
                    #expect(response == .unknown)
                }
            case 8:
                guard let call = model.keys.randomElement(using: &random) else { continue }
                let wasInFlight = machine.withdraw(call)
                #expect(wasInFlight == (model[call]?.isWithdrawn == false))
                model[call]?.isWithdrawn = true
            case 9:
                switch Int.random(in: 0..<20, using: &random) {
                case 0:
                    let inFlight = model.filter { !$0.value.isWithdrawn }.keys.sorted()
                    #expect(machine.upstreamLost() == inFlight)
                    model = [:]
                case 1:
                    machine.renewed()
                    model = model.filter { !$0.value.isWithdrawn }
                default:
                    break
                }
            default:
                let busy = Set(model.values.map(\.caller))
                let only = busy.count == 1 ? busy.first.flatMap { callers.contains($0) ? $0 : nil } : nil
                let id = Int64.random(in: 0..<1_000_000, using: &random)
                let question = machine.asked(.rootsList, id: .integer(id), literal: Self.bytes("\(id)"))
                if case .ask(let caller, let call, let number) = question {
                    #expect(only == caller)
                    #expect(call == nil || model[call ?? 0]?.caller == caller && model[call ?? 0]?.isWithdrawn == false)
                    #expect(machine.responded(by: caller, id: .integer(number)) == Self.bytes("\(id)"))
                } else {
                    #expect(only == nil)
                }
                if case .caller(let caller, _) = machine.logged(.error) {
                    #expect(only == caller)
                } else {
                    #expect(only == nil)
                }
            }
            let inFlight = model.values.filter { !$0.isWithdrawn }.count
            #expect(machine.callCount == inFlight && machine.callerCount == callers.count)
        }
    }
}
