// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@testable import GatewaySession

@Suite("A session bridge in place of another") struct SessionBridgeSuccessionTests {
    private typealias Bridge = SessionBridge.StateMachine

    private static func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    private static func call(_ bridge: inout Bridge, _ caller: Int, _ id: Int64) -> Int64 {
        bridge.requested(by: caller, id: .integer(id), literal: Self.bytes("\(id)"), token: Self.bytes("\(id)"))
    }

    private static func ask(_ bridge: inout Bridge, _ id: Int64, during call: Int64? = nil) -> SessionBridge.Question {
        bridge.asked(.elicitationCreate, id: .integer(id), literal: Self.bytes("\(id)"), during: call)
    }

    @Test("A caller that moved takes along what it can be asked, what it subscribed to and its level")
    func wishes() {
        var bridge = Bridge(sharing: .shared)
        bridge.joined(1, capabilities: [.elicitation, .roots])
        bridge.joined(2, capabilities: [])
        #expect(bridge.capabilities(of: 1) == [.elicitation, .roots] && bridge.capabilities(of: 3) == [])
        for uri in ["b", "a"] { #expect(bridge.subscribed(1, to: Self.bytes(uri)) == true) }
        #expect(bridge.subscribed(2, to: Self.bytes("b")) == true)
        _ = bridge.leveled(1, .debug)
        _ = bridge.leveled(2, .error)
        var wishes = SessionBridge.Wishes()
        wishes.capabilities = [.elicitation, .roots]
        wishes.subscriptions = ["a", "b"].map(Self.bytes)
        wishes.severity = .debug
        #expect(bridge.moved(1) == wishes)
        // It asks for nothing here any more; what the others asked for stands.
        #expect(bridge.resources == [Self.bytes("b")] && bridge.severity == .error)
        #expect(bridge.moved(1).subscriptions.isEmpty && bridge.moved(1).severity == nil)
        #expect(bridge.moved(3) == SessionBridge.Wishes())
    }

    @Test(
        "What is said unasked is for a caller that moved no longer, and what is about its calls and questions still is"
    )
    func whatGoesOn() {
        var bridge = Bridge(sharing: .shared)
        bridge.joined(1, capabilities: [.elicitation])
        bridge.joined(2, capabilities: [])
        #expect(bridge.subscribed(1, to: Self.bytes("a")) == true)
        let one = Self.call(&bridge, 1, 7)
        let other = Self.call(&bridge, 1, 8)
        guard case .ask(1, _, let question) = Self.ask(&bridge, 70) else {
            Issue.record("not asked")
            return
        }
        _ = bridge.moved(1)
        #expect(bridge.listChanged == .callers([2]))
        #expect(bridge.updated(Self.bytes("a")) == .callers([]))
        #expect(bridge.progressed(.integer(one))?.call == one)
        #expect(bridge.logged(.info) == .caller(1, call: other))
        #expect(Self.ask(&bridge, 71) == .ask(caller: 1, call: other, id: question + 1))
        #expect(bridge.responded(by: 1, id: .integer(question)) == Self.bytes("70"))
        #expect(bridge.cancelled(by: 1, id: .integer(8)) == other)
        #expect(bridge.answered(.integer(one)) == .answer(call: one, id: Self.bytes("7")))
        #expect(bridge.left(1).cancelled == [other])
        #expect(bridge.callCount == 0)
    }

    @Test("A caller that came is asked for what nobody asked for here, and the level if that is another now")
    func came() {
        var bridge = Bridge(sharing: .shared)
        bridge.joined(1, capabilities: [])
        bridge.joined(2, capabilities: [])
        #expect(bridge.subscribed(1, to: Self.bytes("a")) == true)
        _ = bridge.leveled(1, .warning)
        var wishes = SessionBridge.Wishes()
        wishes.subscriptions = ["a", "b"].map(Self.bytes)
        wishes.severity = .info
        let news = bridge.came(2, with: wishes)
        #expect(news.resources == [Self.bytes("b")] && news.severity == .info)
        #expect(bridge.updated(Self.bytes("a")) == .callers([1, 2]))
        let again = bridge.came(2, with: wishes)
        #expect(again.resources.isEmpty && again.severity == nil)
        // Whoever is gone by then asks for nothing.
        let stranger = bridge.came(3, with: wishes)
        #expect(stranger.resources.isEmpty && stranger.severity == nil && bridge.callerCount == 2)
    }

    @Test("A level that a caller sets on its way counts, and not the one that it had before")
    func levelOnTheWay() {
        var bridge = Bridge(sharing: .shared)
        bridge.joined(1, capabilities: [])
        _ = bridge.leveled(1, .error)
        var wishes = SessionBridge.Wishes()
        wishes.severity = .debug
        #expect(bridge.came(1, with: wishes).severity == nil && bridge.severity == .error)
    }

    @Test("Subscriptions above the bound are left out")
    func bounds() {
        var bridge = Bridge(sharing: .shared)
        bridge.joined(1, capabilities: [])
        var wishes = SessionBridge.Wishes()
        wishes.subscriptions = (0..<1_500).map { Self.bytes("\($0)") }
        #expect(bridge.came(1, with: wishes).resources.count == 1_000)
    }

    @Test(
        "Its numbers are above those of the bridge before, and never lower than its own",
        arguments: [(0, 1_000_001), (41, 1_000_042), (.max, 1)] as [(Int64, Int64)]
    )
    func numbers(last: Int64, next: Int64) {
        var bridge = Bridge(sharing: .shared)
        bridge.joined(1, capabilities: [])
        bridge.follows(last)
        let first = Self.call(&bridge, 1, 1)
        #expect(first == next && bridge.lastNumber == first)
        bridge.follows(0)
        #expect(Self.call(&bridge, 1, 2) >= first + 1)
    }
}
