// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import GatewayWire
import Testing

@Suite("Routing to slots") struct SlotRoutingTests {
    static func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    static func text(_ bytes: [UInt8]?) -> String? { bytes.map { String(decoding: $0, as: UTF8.self) } }

    static func string(_ text: String) -> MessageIDValue { .string(Self.bytes(text)) }

    /// Where an answer goes, in a form that can be compared.
    static func answered(_ routing: inout SlotRouting, _ id: MessageIDValue) -> String? {
        routing.answered(id).map { "\($0.slot.number): \(String(decoding: $0.literal, as: UTF8.self))" }
    }

    /// A question with a number as its id; the id under which the caller is asked, nil: the same.
    static func ask(_ routing: inout SlotRouting, _ id: Int64, token: Int64? = nil, by slot: CredentialID) -> String? {
        Self.text(
            routing.asked(.integer(id), literal: Self.bytes("\(id)"), token: token.map { .integer($0) }, by: slot)
        )
    }

    // MARK: Home

    enum Event {
        case refused(CredentialID)
        case accepted(CredentialID)
    }

    struct Case: CustomTestStringConvertible {
        var name: String
        var events: [Event]
        /// For each event that is an acceptance, whether it made a new home.
        var isNew: [Bool]
        var home: CredentialID
        var isRefused = false
        var testDescription: String { self.name }
    }

    @Test(
        "S14: the home moves to the slot that is accepted next once its own was refused, and at no other time",
        arguments: [
            Case(name: "accepted", events: [.accepted(0)], isNew: [false], home: 0),
            Case(name: "another accepted", events: [.accepted(1), .accepted(2)], isNew: [false, false], home: 0),
            Case(name: "another refused", events: [.refused(1), .accepted(2)], isNew: [false], home: 0),
            Case(name: "refused", events: [.refused(0)], isNew: [], home: 0, isRefused: true),
            Case(name: "refused, then another", events: [.refused(0), .accepted(1)], isNew: [true], home: 1),
            Case(name: "refused, then the same", events: [.refused(0), .accepted(0)], isNew: [false], home: 0),
            Case(
                name: "accepted again before another",
                events: [.refused(0), .accepted(0), .accepted(1)],
                isNew: [false, false],
                home: 0
            ),
            Case(
                name: "refused twice",
                events: [.refused(0), .refused(0), .refused(1), .accepted(2), .accepted(1)],
                isNew: [true, false],
                home: 2
            ),
            Case(
                name: "the new home is refused too",
                events: [.refused(0), .accepted(1), .refused(0), .accepted(2), .refused(1), .accepted(0)],
                isNew: [true, false, true],
                home: 0
            ),
        ]
    )
    func home(_ example: Case) {
        var routing = SlotRouting(home: 0)
        var isNew: [Bool] = []
        for event in example.events {
            switch event {
            case .refused(let slot): routing.refused(slot)
            case .accepted(let slot): isNew.append(routing.accepted(slot))
            }
        }
        #expect(isNew == example.isNew)
        #expect(routing.home == example.home)
        #expect(routing.isHomeRefused == example.isRefused)
    }

    @Test("What a new home must be told is kept: the subscriptions in their order, each once, and the last level")
    func told() {
        var routing = SlotRouting(home: 0)
        #expect(routing.subscriptions == [])
        #expect(routing.severity == nil)
        for uri in ["a:1", "a:2", "a:1", "a:3"] { routing.subscribed(to: Self.bytes(uri)) }
        routing.unsubscribed(from: Self.bytes("a:2"))
        routing.unsubscribed(from: Self.bytes("a:4"))
        routing.leveled(.debug)
        routing.leveled(.error)
        routing.refused(0)
        #expect(routing.accepted(1) == true)
        #expect(routing.subscriptions.map { Self.text($0) } == ["a:1", "a:3"])
        #expect(routing.severity == .error)
        routing.subscribed(to: Self.bytes("a:2"))
        #expect(routing.subscriptions.map { Self.text($0) } == ["a:1", "a:3", "a:2"])
    }

    @Test("Subscriptions above the limit are not kept, and there is room again when one ends", arguments: [-1, 0, 1])
    func subscriptionLimit(above: Int) {
        var routing = SlotRouting(home: 0)
        let limit = SlotRouting.subscriptionLimit
        let kept = (0..<(limit + above)).filter { routing.subscribed(to: Self.bytes("a:\($0)")) }
        #expect(routing.subscriptions.count == kept.count && kept.count == min(limit + above, limit))
        #expect(routing.canSubscribe(to: Self.bytes("a:0")))
        #expect(routing.canSubscribe(to: Self.bytes("b:0")) == (above < 0))
        routing.unsubscribed(from: Self.bytes("a:0"))
        let isKept = routing.subscribed(to: Self.bytes("b:0"))
        #expect(isKept && routing.subscriptions.last == Self.bytes("b:0"))
    }

    @Test("Nor are subscriptions whose URIs are longer than the bytes for them", arguments: [-1, 0, 1])
    func subscriptionByteLimit(above: Int) {
        var routing = SlotRouting(home: 0)
        let half = SlotRouting.subscriptionByteLimit / 2
        func uri(_ byte: UInt8, _ count: Int) -> [UInt8] { Array(repeating: byte, count: count) }
        let first = routing.subscribed(to: uri(1, half))
        let again = routing.subscribed(to: uri(1, half))
        let second = routing.subscribed(to: uri(2, half + above))
        #expect(first && again && second == (above <= 0))
        routing.unsubscribed(from: uri(1, half))
        let third = routing.subscribed(to: uri(2, half + above))
        #expect(third)
    }

    @Test("A home whose credential was removed is left with the next message, as one that was refused")
    func removedHome() {
        var routing = SlotRouting(home: 1)
        routing.follow(1) { $0 != 1 }
        #expect(routing.isHomeRefused)
        #expect(routing.lastRefused == 1)
        #expect(!routing.isSettled(at: 1))
        let isNew = routing.accepted(2)
        #expect(isNew)
        #expect(routing.home == 2)
        #expect(routing.isSettled(at: 1))
        #expect(!routing.isSettled(at: 2))
    }

    @Test(
        "Another order, or the end of another credential, leaves the home alone",
        arguments: [[2, 1, 0], [1], [1, 3]]
    )
    func keptHome(list: [CredentialID]) {
        var routing = SlotRouting(home: 1)
        routing.follow(1) { list.contains($0) }
        #expect(!routing.isHomeRefused)
        let isNew = routing.accepted(3)
        #expect(!isNew)
        #expect(routing.home == 1)
    }

    @Test("A list is looked through once, and what was refused of it is forgotten with the credential")
    func lookedThroughOnce() {
        var routing = SlotRouting(home: 0)
        routing.refused(1)
        routing.refused(2)
        var looks = 0
        for _ in 0..<2 {
            routing.follow(1) { credential in
                looks += 1
                return credential != 1
            }
        }
        #expect(looks == 3)
        #expect(!routing.isRefused(1))
        #expect(routing.isRefused(2))
    }

    // MARK: Calls

    @Test("S13: a cancellation goes where the call is, which is where it was sent last")
    func calls() {
        var routing = SlotRouting(home: 0)
        for (id, slot) in ([0, 1, 0, 1] as [CredentialID]).enumerated() {
            routing.started(.integer(Int64(id)), at: slot)
        }
        #expect((0..<5).map { routing.slot(ofCall: .integer($0)) } == [0, 1, 0, 1, nil])
        routing.started(.integer(1), at: 2, insteadOf: 1)
        #expect(routing.slot(ofCall: .integer(1)) == 2)
        routing.ended(.integer(1), at: 2)
        #expect(routing.slot(ofCall: .integer(1)) == nil)
        #expect(routing.slot(ofCall: .integer(0)) == 0)
    }

    @Test("Of calls with one id a cancellation goes to the newest, whichever of them moved or ended")
    func equalIDs() {
        var routing = SlotRouting(home: 0)
        let id = MessageIDValue.integer(1)
        routing.started(id, at: 0)
        routing.started(id, at: 1)
        routing.started(id, at: 2)
        #expect(routing.slot(ofCall: id) == 2)
        // The first was refused and sent again elsewhere: it is no newer for that.
        routing.started(id, at: 3, insteadOf: 0)
        #expect(routing.slot(ofCall: id) == 2)
        routing.started(id, at: 4, insteadOf: 2)
        #expect(routing.slot(ofCall: id) == 4)
        routing.ended(id, at: 1)
        #expect(routing.slot(ofCall: id) == 4)
        routing.ended(id, at: 4)
        #expect(routing.slot(ofCall: id) == 3)
        routing.ended(id, at: 3)
        #expect(routing.slot(ofCall: id) == nil)
        routing.ended(id, at: 3)
        #expect(routing.slot(ofCall: id) == nil)
    }

    @Test("A number and the same digits as text are two calls")
    func callIDs() {
        var routing = SlotRouting(home: 0)
        routing.started(.integer(1), at: 1)
        routing.started(Self.string("1"), at: 2)
        #expect(routing.slot(ofCall: .integer(1)) == 1)
        #expect(routing.slot(ofCall: Self.string("1")) == 2)
    }

    @Test("Calls stay where they are when the home moves")
    func callsAtOldHome() {
        var routing = SlotRouting(home: 0)
        routing.started(.integer(1), at: 0)
        routing.refused(0)
        #expect(routing.accepted(1) == true)
        #expect(routing.slot(ofCall: .integer(1)) == 0)
    }

    // MARK: Questions

    @Test("A question keeps its id, and its answer goes where it came from, once")
    func question() {
        var routing = SlotRouting(home: 0)
        #expect(Self.text(routing.asked(Self.string("q"), literal: Self.bytes(#""\u0071""#), token: nil, by: 2)) == nil)
        #expect(Self.answered(&routing, Self.string("q")) == #"2: "\u0071""#)
        #expect(Self.answered(&routing, Self.string("q")) == nil)
        #expect(Self.answered(&routing, .integer(7)) == nil)
    }

    @Test("Questions of several slots under one id are told apart, and each answer goes back with the id it has there")
    func collision() {
        var routing = SlotRouting(home: 0)
        #expect(Self.ask(&routing, 1, by: 0) == nil)
        #expect(Self.ask(&routing, 1, by: 1) == #""mcp-proxy-1""#)
        #expect(Self.ask(&routing, 1, by: 2) == #""mcp-proxy-2""#)
        #expect(Self.ask(&routing, 2, by: 1) == nil)
        #expect(Self.answered(&routing, Self.string("mcp-proxy-2")) == "2: 1")
        #expect(Self.answered(&routing, .integer(1)) == "0: 1")
        #expect(Self.answered(&routing, .integer(2)) == "1: 2")
        #expect(Self.answered(&routing, Self.string("mcp-proxy-1")) == "1: 1")
        #expect(Self.answered(&routing, Self.string("mcp-proxy-1")) == nil)
    }

    @Test("No question is given a name that another has, be it the upstream's own", arguments: [0, 1, 2])
    func takenName(slot: CredentialID) {
        var routing = SlotRouting(home: 0)
        let own = Self.bytes(#""mcp-proxy-1""#)
        #expect(routing.asked(Self.string("mcp-proxy-1"), literal: own, token: nil, by: slot) == nil)
        #expect(Self.ask(&routing, 1, by: 0) == nil)
        #expect(Self.ask(&routing, 1, by: 1) == #""mcp-proxy-2""#)
        #expect(Self.answered(&routing, Self.string("mcp-proxy-1")) == #"\#(slot.number): "mcp-proxy-1""#)
        #expect(Self.answered(&routing, Self.string("mcp-proxy-2")) == "1: 1")
        #expect(Self.answered(&routing, .integer(1)) == "0: 1")
    }

    @Test("A question whose own id is a name that was given to another gets a name too", arguments: [0, 1, 2])
    func lateName(slot: CredentialID) {
        var routing = SlotRouting(home: 0)
        let own = Self.bytes(#""mcp-proxy-1""#)
        #expect(Self.ask(&routing, 1, by: 0) == nil)
        #expect(Self.ask(&routing, 1, by: 1) == #""mcp-proxy-1""#)
        let name = routing.asked(Self.string("mcp-proxy-1"), literal: own, token: nil, by: slot)
        #expect(Self.text(name) == #""mcp-proxy-2""#)
        #expect(Self.answered(&routing, Self.string("mcp-proxy-1")) == "1: 1")
        #expect(Self.answered(&routing, Self.string("mcp-proxy-2")) == #"\#(slot.number): "mcp-proxy-1""#)
    }

    @Test("A question that a slot repeats is one, with the token that it came with last")
    func repeatedQuestion() {
        var routing = SlotRouting(home: 0)
        for token in 1...5 { #expect(Self.ask(&routing, 1, token: Int64(token), by: 1) == nil) }
        #expect((1...5).map { routing.slot(ofToken: .integer($0)) } == [nil, nil, nil, nil, 1])
        #expect(Self.answered(&routing, .integer(1)) == "1: 1")
        #expect(routing.slot(ofToken: .integer(5)) == nil)
    }

    @Test("Once a question is answered its id is free for every slot")
    func freed() {
        var routing = SlotRouting(home: 0)
        for slot in [0, 1, 0, 2] as [CredentialID] {
            #expect(Self.ask(&routing, 1, by: slot) == nil)
            #expect(Self.answered(&routing, .integer(1)) == "\(slot.number): 1")
        }
    }

    @Test("Progress goes where its question came from, until that is answered")
    func progress() {
        var routing = SlotRouting(home: 0)
        #expect(Self.ask(&routing, 1, token: 11, by: 1) == nil)
        #expect(Self.ask(&routing, 2, token: 12, by: 2) == nil)
        #expect(Self.ask(&routing, 3, by: 2) == nil)
        #expect(routing.slot(ofToken: .integer(11)) == 1)
        #expect(routing.slot(ofToken: .integer(12)) == 2)
        #expect(routing.slot(ofToken: .integer(3)) == nil)
        #expect(Self.answered(&routing, .integer(1)) == "1: 1")
        #expect(routing.slot(ofToken: .integer(11)) == nil)
        #expect(routing.slot(ofToken: .integer(12)) == 2)
    }

    @Test("Of questions with one token the last has it, and an answer to one leaves it to the other")
    func sharedToken() {
        var routing = SlotRouting(home: 0)
        #expect(Self.ask(&routing, 1, token: 5, by: 1) == nil)
        #expect(Self.ask(&routing, 2, token: 5, by: 2) == nil)
        #expect(routing.slot(ofToken: .integer(5)) == 2)
        #expect(Self.answered(&routing, .integer(2)) == "2: 2")
        #expect(routing.slot(ofToken: .integer(5)) == 1)
        #expect(Self.ask(&routing, 3, token: 5, by: 0) == nil)
        #expect(Self.answered(&routing, .integer(1)) == "1: 1")
        #expect(routing.slot(ofToken: .integer(5)) == 0)
        #expect(Self.answered(&routing, .integer(3)) == "0: 3")
        #expect(routing.slot(ofToken: .integer(5)) == nil)
    }

    @Test(
        "Questions above the limit are not kept, and there is room again when one is answered",
        arguments: [-1, 0, 1]
    )
    func questionLimit(above: Int) {
        var routing = SlotRouting(home: 0)
        let limit = SlotRouting.questionLimit
        for id in 0..<(limit + above) { #expect(Self.ask(&routing, Int64(id), token: Int64(id), by: 1) == nil) }
        let isKept = above < 1
        #expect(Self.answered(&routing, .integer(0)) == "1: 0")
        #expect((routing.slot(ofToken: .integer(Int64(limit + above - 1))) == 1) == isKept)
        #expect((Self.answered(&routing, .integer(Int64(limit + above - 1))) != nil) == isKept)
        #expect(Self.ask(&routing, 100_000, by: 2) == nil)
        #expect(Self.answered(&routing, .integer(100_000)) == "2: 100000")
    }

    @Test("A question that its slot takes back is taken back under the id that the caller knows, and forgotten")
    func withdrawn() {
        var routing = SlotRouting(home: 0)
        #expect(routing.asked(.integer(0), literal: Array("0".utf8), token: nil, by: 0) == nil)
        let renamed = routing.asked(.integer(0), literal: Array("0".utf8), token: nil, by: 1)
        #expect(renamed != nil)
        #expect(routing.withdrawn(.integer(0), literal: Array("0".utf8), by: 1) == renamed)
        #expect(routing.withdrawn(.integer(0), literal: Array("0".utf8), by: 1) == nil)
        #expect(routing.slot(ofQuestion: .integer(0)) == 0)
        #expect(routing.withdrawn(.integer(0), literal: Array("0".utf8), by: 0) == nil)
        #expect(routing.slot(ofQuestion: .integer(0)) == nil)
    }

    // MARK: Other slots

    @Test("A slot that was refused counts as refused until it is accepted, which is said once")
    func refusedSlots() {
        var routing = SlotRouting(home: 0)
        #expect(!routing.isRefused(1))
        let wasNever = routing.returned(1)
        #expect(!wasNever)
        routing.refused(1)
        routing.refused(2)
        #expect(routing.isRefused(1) && routing.isRefused(2) && !routing.isRefused(0))
        let isBack = routing.returned(1)
        let isBackAgain = routing.returned(1)
        #expect(isBack && !isBackAgain)
        #expect(!routing.isRefused(1) && routing.isRefused(2))
    }

    @Test(
        "From another slot than the home a caller hears what is about one call or question, and what is about all once",
        arguments: [
            (#"{"id":0,"method":"elicitation/create"}"#, true), (#"{"id":0,"method":"x/unknown"}"#, true),
            (#"{"method":"notifications/progress"}"#, true), (#"{"method":"notifications/cancelled"}"#, true),
            (#"{"method":"notifications/elicitation/complete"}"#, true),
            (#"{"method":"notifications/tools/list_changed"}"#, false),
            (#"{"method":"notifications/resources/updated"}"#, false),
            (#"{"method":"notifications/x/unknown"}"#, false), (#"{"id":0,"result":{}}"#, false),
            (#"{"id":0,"error":{"code":1,"message":"m"}}"#, false),
        ]
    )
    func aside(message: String, isHeard: Bool) throws {
        let bytes = Array(#"{"jsonrpc":"2.0",\#(message.dropFirst())"#.utf8)
        guard case .message(let envelope) = try EnvelopeScanner(maximumDepth: 64).scan(bytes.span) else {
            Issue.record("no message")
            return
        }
        #expect(SlotRouting(home: 0).hearsAside(envelope, severity: nil) == isHeard)
    }

    @Test("A log message of another slot is heard unless the caller set a higher level, of which only the home knows")
    func asideLog() throws {
        let bytes = Array(#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#.utf8)
        guard case .message(let envelope) = try EnvelopeScanner(maximumDepth: 64).scan(bytes.span) else {
            Issue.record("no message")
            return
        }
        var routing = SlotRouting(home: 0)
        #expect(routing.hearsAside(envelope, severity: .debug))
        routing.leveled(.warning)
        #expect(LogSeverity.allCases.filter { routing.hearsAside(envelope, severity: $0) }.first == .warning)
        #expect(routing.hearsAside(envelope, severity: nil))
    }
}
