// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@testable import GatewaySession

/// One upstream session with callers 1 and 2, fed with messages as they stand on the wire.
struct RouterProbe: ~Copyable {
    var machine: SessionBridge.StateMachine

    init(_ sharing: SessionBridge.Sharing, _ carrier: MessageRouter.Carrier = .oneStream) {
        self.machine = SessionBridge.StateMachine(sharing: sharing, carrier: carrier)
        for caller in sharing == .exclusive ? 1...1 : 1...2 where sharing != .stateless {
            self.machine.joined(caller, capabilities: [.sampling, .elicitation, .roots])
        }
    }

    private static func envelope(_ bytes: [UInt8], _ source: EnvelopeScanner.Source) throws -> Envelope {
        let scanner = EnvelopeScanner(source: source, maximumDepth: 16)
        guard case .message(let envelope) = try scanner.scan(bytes.span) else { throw Unreadable() }
        return envelope
    }

    struct Unreadable: Error {}

    mutating func sends(_ caller: Int?, _ text: String) throws -> MessageRouter.Sending {
        let message = Array(text.utf8)
        let envelope = try Self.envelope(message, .downstream)
        return self.machine.sending(message.span, envelope, of: caller)
    }

    /// The number of a call.
    mutating func call(_ caller: Int?, _ text: String) throws -> Int64 {
        guard case .request(let call, _) = try self.sends(caller, text) else { throw Unreadable() }
        return call
    }

    mutating func hears(_ text: String, along call: Int64? = nil) throws -> MessageRouter.Delivery {
        let message = Array(text.utf8)
        let envelope = try Self.envelope(message, .upstream)
        return self.machine.delivery(message.span, envelope, along: call)
    }

    /// A message with its edits made.
    static func edited(_ text: String, _ edits: [MessageEdit]) -> String {
        var bytes = Array(text.utf8)
        for edit in edits.sorted(by: { $0.range.lowerBound > $1.range.lowerBound }) {
            bytes.replaceSubrange(edit.range, with: edit.text)
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

func request(_ id: String, _ method: String, _ params: String = "{}") -> String {
    #"{"jsonrpc":"2.0","id":\#(id),"method":"\#(method)","params":\#(params)}"#
}

func notification(_ method: String, _ params: String = "{}") -> String {
    #"{"jsonrpc":"2.0","method":"\#(method)","params":\#(params)}"#
}

private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

@Suite("Message router: what callers send") struct MessageRouterSendingTests {
    @Test("A request goes up under a number of ours, which is its progress token too, and all else as it came")
    func numbered() throws {
        var probe = RouterProbe(.shared)
        _ = try probe.call(2, request("7", "tools/list"))
        let text = request("7", "tools/call", #"{"name":"x","_meta":{"progressToken":"p"}}"#)
        guard case .request(let call, let edits) = try probe.sends(1, text) else {
            Issue.record("it is not sent")
            return
        }
        #expect(call == 2)
        #expect(
            RouterProbe.edited(text, edits) == request("2", "tools/call", #"{"name":"x","_meta":{"progressToken":2}}"#)
        )
    }

    @Test("Requests of the stateless era stand alone, so that equal ids of two are no doubt")
    func stateless() throws {
        var probe = RouterProbe(.stateless)
        let one = try probe.call(nil, request("1", "tools/call"))
        let two = try probe.call(nil, request("1", "tools/call"))
        #expect(one != two)
        for call in [two, one] {
            let answer = try probe.hears(#"{"jsonrpc":"2.0","id":\#(call),"result":{}}"#)
            #expect(answer == .answer(call: call, edits: [.init(22..<23, bytes("1"))]))
        }
    }

    @Test(
        "A subscription reaches the upstream until nobody subscribes, and bounds are kept, only where callers share",
        arguments: [SessionBridge.Sharing.shared, .exclusive]
    )
    func subscriptions(sharing: SessionBridge.Sharing) throws {
        var probe = RouterProbe(sharing)
        let uri = #"{"uri":"file:///a"}"#
        for caller in probe.machine.callerCount == 2 ? [1, 2] : [1] {
            _ = try probe.call(caller, request("1", "resources/subscribe", uri))
        }
        let first = try probe.sends(1, request("2", "resources/unsubscribe", uri))
        if sharing == .shared {
            #expect(first == .emptyResult)
            _ = try probe.call(2, request("2", "resources/unsubscribe", uri))
        } else {
            #expect(first != .emptyResult)
        }
        for number in 0..<1_000 {
            _ = try probe.call(1, request("3", "resources/subscribe", #"{"uri":"\#(number)"}"#))
        }
        let last = try probe.sends(1, request("4", "resources/subscribe", #"{"uri":"more"}"#))
        #expect((last == .tooManySubscriptions) == (sharing == .shared))
    }

    @Test("A shared session is set to the level of the most curious caller")
    func severity() throws {
        var probe = RouterProbe(.shared)
        _ = try probe.call(1, request("1", "logging/setLevel", #"{"level":"info"}"#))
        let text = request("1", "logging/setLevel", #"{"level":"error"}"#)
        guard case .request(_, let edits) = try probe.sends(2, text) else {
            Issue.record("it is not sent")
            return
        }
        #expect(RouterProbe.edited(text, edits) == request("2", "logging/setLevel", #"{"level":"info"}"#))
    }

    @Test("A cancellation names the call by our number, and is nobody's if there is no such call")
    func cancelled() throws {
        var probe = RouterProbe(.shared)
        _ = try probe.call(2, request("5", "tools/call"))
        let call = try probe.call(1, request("5", "tools/call"))
        let text = notification("notifications/cancelled", #"{"requestId":5}"#)
        guard case .oneWay(let edits, cancels: call) = try probe.sends(1, text) else {
            Issue.record("it does not cancel the caller's own call")
            return
        }
        #expect(RouterProbe.edited(text, edits) == notification("notifications/cancelled", #"{"requestId":2}"#))
        #expect(try probe.sends(1, text) == .taken)
        #expect(try probe.sends(nil, text) == .taken)
    }

    @Test("What only its own session can mean is not passed on where callers share")
    func ownBusiness() throws {
        for method in ["notifications/initialized", "notifications/roots/list_changed"] {
            var shared = RouterProbe(.shared)
            #expect(try shared.sends(1, notification(method)) == .taken)
            var own = RouterProbe(.exclusive)
            #expect(try own.sends(1, notification(method)) == .oneWay(edits: [], cancels: nil))
        }
    }

    @Test("A caller answers, and reports progress on, only what it was asked")
    func questions() throws {
        var probe = RouterProbe(.shared)
        _ = try probe.call(1, request("1", "tools/call"))
        let progress = notification("notifications/progress", #"{"progressToken":"q","progress":1}"#)
        #expect(try probe.sends(1, progress) == .taken)
        let asked = try probe.hears(request(#""u""#, "roots/list", #"{"_meta":{"progressToken":"q"}}"#))
        guard case .caller(_, .question(let number), _) = asked else {
            Issue.record("nobody is asked")
            return
        }
        #expect(try probe.sends(1, progress) == .oneWay(edits: [], cancels: nil))
        #expect(try probe.sends(2, progress) == .taken)
        let answer = #"{"jsonrpc":"2.0","id":\#(number),"result":{}}"#
        #expect(try probe.sends(2, answer) == .taken)
        #expect(try probe.sends(nil, answer) == .taken)
        #expect(try probe.sends(1, answer) == .oneWay(edits: [.init(22..<23, bytes(#""u""#))], cancels: nil))
        #expect(try probe.sends(1, answer) == .taken)
    }
}

@Suite("Message router: what upstreams send") struct MessageRouterDeliveryTests {
    /// A session of callers 1 and 2 in which only caller 1 has a call, number 1, with a progress token.
    private static func busy(
        _ sharing: SessionBridge.Sharing,
        _ carrier: MessageRouter.Carrier = .oneStream
    ) throws -> RouterProbe {
        var probe = RouterProbe(sharing, carrier)
        _ = try probe.call(1, request("9", "tools/call", #"{"_meta":{"progressToken":"p"}}"#))
        return probe
    }

    @Test("Answers end calls on one stream, and are no business of the router along an answer")
    func answers() throws {
        let answer = #"{"jsonrpc":"2.0","id":1,"result":{}}"#
        var stream = try Self.busy(.shared)
        #expect(try stream.hears(answer) == .answer(call: 1, edits: [.init(22..<23, bytes("9"))]))
        #expect(try stream.hears(answer) == .answerToNoCall)
        let own = stream.machine.requestedByGateway()
        #expect(try stream.hears(#"{"jsonrpc":"2.0","id":\#(own),"result":{}}"#) == .ownAnswer(call: own))
        #expect(
            try stream.hears(#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}"#)
                == .nobody(isLogged: false)
        )
        var answers = try Self.busy(.shared, .answersAndStream)
        #expect(try answers.hears(answer) == .nobody(isLogged: false))
        #expect(answers.machine.callCount == 1)
    }

    @Test("The end of a listening names it by the id that its caller wrote")
    func listenEnd() throws {
        var probe = RouterProbe(.stateless)
        let call = try probe.call(nil, request(#""mine""#, "subscriptions/listen"))
        let meta = #"{"_meta":{"io.modelcontextprotocol/subscriptionId":\#(call)}}"#
        let text = #"{"jsonrpc":"2.0","id":\#(call),"result":\#(meta)}"#
        guard case .answer(call, let edits) = try probe.hears(text) else {
            Issue.record("it is no answer")
            return
        }
        let own = #"{"_meta":{"io.modelcontextprotocol/subscriptionId":"mine"}}"#
        #expect(RouterProbe.edited(text, edits) == #"{"jsonrpc":"2.0","id":"mine","result":\#(own)}"#)
    }

    @Test("A ping is answered here, and a question that nobody can answer is refused, under the upstream's own id")
    func answeredHere() throws {
        var probe = RouterProbe(.shared)
        #expect(try probe.hears(request(#""u""#, "ping")) == .pong(id: bytes(#""u""#)))
        #expect(try probe.hears(request("4", "roots/list")) == .refuse(id: bytes("4")))
        _ = try probe.call(1, request("1", "tools/call"))
        #expect(try probe.hears(request("4", "tools/call")) == .refuse(id: bytes("4")))
        _ = try probe.call(2, request("1", "tools/call"))
        #expect(try probe.hears(request("4", "roots/list")) == .refuse(id: bytes("4")))
        var stateless = RouterProbe(.stateless)
        _ = try stateless.call(nil, request("1", "tools/call"))
        #expect(try stateless.hears(request("4", "roots/list")) == .refuse(id: bytes("4")))
    }

    /// Where a message came that is for caller 1 alone, and along which call it goes.
    struct Way: Sendable, CustomTestStringConvertible {
        let carrier: MessageRouter.Carrier
        let cameAlong: Int64?
        let goesAlong: Int64?

        var testDescription: String { "\(self.carrier), came along \(self.cameAlong as Any)" }
    }

    static let ways = [
        Way(carrier: .oneStream, cameAlong: nil, goesAlong: 1),
        Way(carrier: .answersAndStream, cameAlong: 1, goesAlong: 1),
        Way(carrier: .answersAndStream, cameAlong: nil, goesAlong: nil),
    ]

    @Test(
        "A question, and its end, go along a call if they came so, or if all comes on one stream",
        arguments: Self.ways
    )
    func question(way: Way) throws {
        var probe = try Self.busy(.shared, way.carrier)
        let question = request(#""u""#, "roots/list")
        let recipient = MessageRouter.Recipient(caller: 1, call: way.goesAlong)
        #expect(
            try probe.hears(question, along: way.cameAlong)
                == .caller(recipient, .question(2), edits: [.init(22..<25, bytes("2"))])
        )
        let end = notification("notifications/cancelled", #"{"requestId":"u"}"#)
        guard case .caller(recipient, .withdrawnQuestion, let edits) = try probe.hears(end, along: way.cameAlong) else {
            Issue.record("the end of the question goes another way")
            return
        }
        #expect(RouterProbe.edited(end, edits) == notification("notifications/cancelled", #"{"requestId":2}"#))
        #expect(try probe.hears(end, along: way.cameAlong) == .nobody(isLogged: false))
    }

    @Test("A log message goes the same ways, to the only caller that it can concern", arguments: Self.ways)
    func log(way: Way) throws {
        var probe = try Self.busy(.shared, way.carrier)
        let log = notification("notifications/message", #"{"level":"info","data":1}"#)
        let recipient = MessageRouter.Recipient(caller: 1, call: way.goesAlong)
        #expect(try probe.hears(log, along: way.cameAlong) == .caller(recipient, .notification, edits: []))
        _ = try probe.call(1, request("1", "logging/setLevel", #"{"level":"error"}"#))
        #expect(try probe.hears(log, along: way.cameAlong) == .nobody(isLogged: false))
        _ = try probe.call(2, request("1", "tools/call"))
        if way.cameAlong == nil { #expect(try probe.hears(log) == .nobody(isLogged: true)) }
    }

    @Test("The end of a question that came along another caller's call goes to whom was asked, where it listens")
    func strayEnd() throws {
        var probe = try Self.busy(.shared, .answersAndStream)
        _ = try probe.hears(request(#""u""#, "roots/list"), along: 1)
        let other = try probe.call(2, request("1", "tools/call"))
        let end = notification("notifications/cancelled", #"{"requestId":"u"}"#)
        guard case .caller(let recipient, .withdrawnQuestion, _) = try probe.hears(end, along: other) else {
            Issue.record("nobody hears of the end")
            return
        }
        #expect(recipient == .init(caller: 1, call: nil))
    }

    @Test("Progress goes along the call of its token, under the token that its caller wrote, and nowhere else")
    func progress() throws {
        let text = notification("notifications/progress", #"{"progressToken":1,"progress":1}"#)
        let start = text.utf8.count - #"1,"progress":1}}"#.utf8.count
        let own = MessageRouter.Delivery.caller(
            .init(caller: nil, call: 1),
            .progress,
            edits: [.init(start..<(start + 1), bytes(#""p""#))]
        )
        var stream = try Self.busy(.shared)
        #expect(try stream.hears(text) == own)
        var answers = try Self.busy(.shared, .answersAndStream)
        #expect(try answers.hears(text, along: 1) == own)
        #expect(try answers.hears(text) == .nobody(isLogged: false))
        let other = try answers.call(2, request("1", "tools/call"))
        #expect(try answers.hears(text, along: other) == .nobody(isLogged: false))
        _ = answers.machine.withdraw(1)
        #expect(try answers.hears(text, along: 1) == .nobody(isLogged: false))
    }

    @Test("A list that changed is everybody's, and a resource is theirs who subscribe to it, however it came")
    func changes() throws {
        for way in Self.ways {
            let call = way.cameAlong
            var probe = try Self.busy(.shared, way.carrier)
            for list in ["tools", "prompts", "resources"] {
                let changed = notification("notifications/\(list)/list_changed")
                #expect(try probe.hears(changed, along: call) == .callers([1, 2]))
            }
            let updated = notification("notifications/resources/updated", #"{"uri":"file:///a"}"#)
            #expect(try probe.hears(updated, along: call) == .callers([]))
            _ = try probe.call(2, request("1", "resources/subscribe", #"{"uri":"file:///a"}"#))
            #expect(try probe.hears(updated, along: call) == .callers([2]))
            let nameless = notification("notifications/resources/updated")
            #expect(try probe.hears(nameless, along: call) == .nobody(isLogged: false))
        }
    }

    @Test(
        "All that is no answer is its owner's where one caller has the session, along its newest call",
        arguments: [
            "notifications/message", "notifications/tools/list_changed", "notifications/resources/updated",
            "notifications/tasks", "notifications/subscriptions/acknowledged", "notifications/other",
        ]
    )
    func exclusive(method: String) throws {
        var probe = RouterProbe(.exclusive)
        let text = notification(method, #"{"uri":"a","level":"info"}"#)
        #expect(try probe.hears(text) == .caller(.init(caller: 1, call: nil), .notification, edits: []))
        let call = try probe.call(1, request("1", "tools/call"))
        #expect(try probe.hears(text) == .caller(.init(caller: 1, call: call), .notification, edits: []))
    }

    @Test(
        "What nobody knows is its caller's along a call, and nobody's elsewhere where callers share",
        arguments: [
            "notifications/other", "notifications/tasks", "notifications/subscriptions/acknowledged",
            "notifications/elicitation/complete",
        ]
    )
    func unknown(method: String) throws {
        var stream = try Self.busy(.shared)
        #expect(try stream.hears(notification(method)) == .nobody(isLogged: false))
        var answers = try Self.busy(.shared, .answersAndStream)
        #expect(try answers.hears(notification(method)) == .nobody(isLogged: false))
        #expect(
            try answers.hears(notification(method), along: 1)
                == .caller(.init(caller: 1, call: 1), .notification, edits: [])
        )
        _ = answers.machine.withdraw(1)
        #expect(try answers.hears(notification(method), along: 1) == .nobody(isLogged: false))
    }

    @Test(
        "In the stateless era changes belong to the listening that they name, which its caller knows by its own id",
        arguments: [
            "notifications/tools/list_changed", "notifications/prompts/list_changed",
            "notifications/resources/list_changed", "notifications/resources/updated", "notifications/tasks",
            "notifications/subscriptions/acknowledged", "notifications/other",
        ]
    )
    func subscribed(method: String) throws {
        var probe = RouterProbe(.stateless)
        let call = try probe.call(nil, request(#""mine""#, "subscriptions/listen"))
        func text(_ id: String) -> String {
            notification(method, #"{"_meta":{"io.modelcontextprotocol/subscriptionId":\#(id)}}"#)
        }
        let recipient = MessageRouter.Recipient(caller: nil, call: call)
        guard case .caller(recipient, .notification, let edits) = try probe.hears(text("\(call)")) else {
            Issue.record("it is not the listening's")
            return
        }
        #expect(RouterProbe.edited(text("\(call)"), edits) == text(#""mine""#))
        #expect(try probe.hears(text("77")) == .nobody(isLogged: false))
        #expect(try probe.hears(text(#""1""#)) == .nobody(isLogged: false))
        #expect(try probe.hears(notification(method)) == .nobody(isLogged: false))
    }

    @Test("A log message of the stateless era is the only call's that there is")
    func statelessLog() throws {
        var probe = RouterProbe(.stateless)
        let log = notification("notifications/message", #"{"level":"info","data":1}"#)
        #expect(try probe.hears(log) == .nobody(isLogged: true))
        let call = try probe.call(nil, request("1", "tools/call"))
        #expect(try probe.hears(log) == .caller(.init(caller: nil, call: call), .notification, edits: []))
        _ = try probe.call(nil, request("1", "tools/call"))
        #expect(try probe.hears(log) == .nobody(isLogged: true))
    }
}
