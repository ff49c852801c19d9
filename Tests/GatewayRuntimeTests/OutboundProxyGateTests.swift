// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import GatewayTransport

@Suite("Gate of an outbound proxy") struct OutboundProxyGateTests {
    /// How many were let go on together.
    final class Together: Sendable {
        private let count = Mutex((now: 0, most: 0))
        var most: Int { self.count.withLock { $0.most } }
        func began() { self.count.withLock { $0 = ($0.now + 1, max($0.most, $0.now + 1)) } }
        func ended() { self.count.withLock { $0.now -= 1 } }
    }

    /// How many of those who asked at once were let go on and refused, when each that goes on ends with `outcome`.
    static func crowd(
        _ count: Int,
        at gate: OutboundProxyGate,
        ending outcome: OutboundProxyAdmission.Outcome
    ) async -> (gone: Int, refused: Int, together: Int) {
        let group = MultiThreadedEventLoopGroup.singleton
        let together = Together()
        let told = await withTaskGroup(of: Bool.self) { tasks in
            for _ in 0..<count {
                tasks.addTask {
                    let eventLoop = group.next()
                    return await withCheckedContinuation { continuation in
                        eventLoop.execute {
                            gate.enter(on: eventLoop) { answer in
                                guard case .go = answer else {
                                    return continuation.resume(returning: false)
                                }
                                together.began()
                                // What it has to do takes a while.
                                eventLoop.scheduleTask(in: .milliseconds(1)) {
                                    together.ended()
                                    gate.leave(outcome)
                                    continuation.resume(returning: true)
                                }
                            }
                        }
                    }
                }
            }
            return await tasks.reduce(into: (0, 0)) { if $1 { $0.0 += 1 } else { $0.1 += 1 } }
        }
        return (told.0, told.1, together.most)
    }

    @Test("However many ask at once on all event loops, a login that is rejected is shown once")
    func rejected() async {
        let (gone, refused, _) = await Self.crowd(500, at: OutboundProxyGate(needsLogin: true), ending: .rejected)
        #expect(gone == 1 && refused == 499)
    }

    @Test("Everybody gets through a proxy that accepts, one first, then more and more")
    func accepted() async {
        let (gone, refused, together) = await Self.crowd(
            500,
            at: OutboundProxyGate(needsLogin: true),
            ending: .accepted
        )
        #expect(gone == 500 && refused == 0)
        #expect(together > OutboundProxyAdmission.firstWindow)
    }

    @Test("Never more than ten at once try a proxy that is not there")
    func failed() async {
        let (gone, refused, together) = await Self.crowd(200, at: OutboundProxyGate(needsLogin: false), ending: .failed)
        #expect(gone == 200 && refused == 0)
        #expect(together <= OutboundProxyAdmission.firstWindow)
    }

    @Test("One proxy, user and password have one gate, whatever else is configured")
    func shared() {
        var gates = OutboundProxyGates()
        func proxy(_ change: (inout OutboundProxy) -> Void = { _ in }) -> OutboundProxy {
            var proxy = OutboundProxy(
                kind: .http,
                host: "h",
                port: 1,
                username: Secret("u"),
                password: Secret("p"),
                setting: "HTTPS_PROXY"
            )
            change(&proxy)
            return proxy
        }
        let gate = gates.gate(of: proxy())
        #expect(gates.gate(of: proxy { $0.setting = "other" }) === gate)
        #expect(gates.gate(of: proxy { $0.tunnel = .never }) === gate)
        let others = [
            proxy { $0.kind = .https }, proxy { $0.host = "i" }, proxy { $0.port = 2 },
            proxy { $0.username = Secret("v") }, proxy { $0.password = Secret("q") }, proxy { $0.password = nil },
        ]
        for other in others { #expect(gates.gate(of: other) !== gate) }
    }
}
