// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import Testing

@Suite("Session table") struct SessionTableTests {
    typealias Table = SessionTable<String, Int>

    private var generator = SystemRandomNumberGenerator()

    private mutating func id() -> SessionID { SessionID(using: &self.generator) }

    private static func isOpened(_ opening: Table.Opening) -> Bool {
        if case .opened = opening { true } else { false }
    }

    @Test("A session is found by the principal that opened it and by nobody else")
    mutating func foreignPrincipal() {
        var table = Table(capacity: 10, idleLimit: .seconds(60))
        let id = self.id()
        #expect(Self.isOpened(table.open(id, principal: "a", principalLimit: nil, payload: 7, now: .zero)))
        #expect(table.begin(id, principal: "b") == nil)
        #expect(table.begin(self.id(), principal: "a") == nil)
        #expect(table.begin(id, principal: "a") == 7)
    }

    @Test("At the cap the longest idle session of the same principal makes room", arguments: [nil, 2])
    mutating func eviction(principalLimit: Int?) {
        var table = Table(capacity: principalLimit == nil ? 2 : 10, idleLimit: .seconds(60))
        let (old, young) = (self.id(), self.id())
        _ = table.open(young, principal: "a", principalLimit: principalLimit, payload: 1, now: .seconds(2))
        _ = table.open(old, principal: "a", principalLimit: principalLimit, payload: 2, now: .seconds(1))
        guard
            case .opened(let evicted) = table.open(
                self.id(),
                principal: "a",
                principalLimit: principalLimit,
                payload: 3,
                now: .seconds(3)
            )
        else {
            Issue.record("refused")
            return
        }
        #expect(evicted?.id == old)
        #expect(evicted?.payload == 2)
        #expect(table.count == 2)
        #expect(table.begin(old, principal: "a") == nil)
    }

    @Test("One below the cap nobody has to go")
    mutating func belowCap() {
        var table = Table(capacity: 2, idleLimit: .seconds(60))
        _ = table.open(self.id(), principal: "a", principalLimit: nil, payload: 1, now: .zero)
        guard
            case .opened(let evicted) = table.open(
                self.id(),
                principal: "a",
                principalLimit: nil,
                payload: 2,
                now: .zero
            )
        else {
            Issue.record("refused")
            return
        }
        #expect(evicted == nil)
    }

    @Test("A session in use is not evicted, nor is another principal's: the newcomer is refused")
    mutating func refused() {
        var table = Table(capacity: 2, idleLimit: .seconds(60))
        let busy = self.id()
        _ = table.open(busy, principal: "a", principalLimit: nil, payload: 1, now: .zero)
        _ = table.begin(busy, principal: "a")
        _ = table.open(self.id(), principal: "b", principalLimit: nil, payload: 2, now: .zero)
        #expect(!Self.isOpened(table.open(self.id(), principal: "a", principalLimit: nil, payload: 3, now: .zero)))
        table.end(busy, now: .seconds(1))
        #expect(Self.isOpened(table.open(self.id(), principal: "a", principalLimit: nil, payload: 3, now: .zero)))
    }

    @Test("A session expires when it was unused for the idle limit, and not while it is used")
    mutating func expiry() {
        var table = Table(capacity: 10, idleLimit: .seconds(30))
        let (idle, busy) = (self.id(), self.id())
        _ = table.open(idle, principal: "a", principalLimit: nil, payload: 1, now: .zero)
        _ = table.open(busy, principal: "a", principalLimit: nil, payload: 2, now: .zero)
        _ = table.begin(busy, principal: "a")
        #expect(table.expire(now: .seconds(29)).isEmpty)
        #expect(table.expire(now: .seconds(30)).map(\.id) == [idle])
        #expect(table.expire(now: .seconds(300)).isEmpty)
        table.end(busy, now: .seconds(300))
        #expect(table.expire(now: .seconds(329)).isEmpty)
        #expect(table.expire(now: .seconds(330)).map(\.id) == [busy])
        #expect(table.count == 0)
    }

    @Test("Whatever happens, the count is that of the sessions that can be found")
    mutating func randomWalk() {
        var table = Table(capacity: 20, idleLimit: .seconds(50))
        var model: [SessionID: (principal: String, uses: Int)] = [:]
        var now = Duration.zero
        for step in 0..<10_000 {
            now += .milliseconds(Int.random(in: 0...200))
            let known = model.randomElement()
            switch Int.random(in: 0..<6) {
            case 0, 1:
                let (id, principal) = (self.id(), ["a", "b", "c"].randomElement() ?? "a")
                if case .opened(let evicted) = table.open(
                    id,
                    principal: principal,
                    principalLimit: 10,
                    payload: step,
                    now: now
                ) {
                    if let evicted {
                        #expect(model[evicted.id]?.uses == 0)
                        #expect(model[evicted.id]?.principal == principal)
                        model[evicted.id] = nil
                    }
                    model[id] = (principal, 0)
                }
            case 2:
                guard let known else { continue }
                #expect(table.begin(known.key, principal: known.value.principal) != nil)
                model[known.key]?.uses += 1
            case 3:
                guard let known, known.value.uses > 0 else { continue }
                table.end(known.key, now: now)
                model[known.key]?.uses -= 1
            case 4:
                guard let known else { continue }
                #expect(table.remove(known.key)?.id == known.key)
                #expect(table.remove(known.key)?.id == nil)
                model[known.key] = nil
            default:
                for ended in table.expire(now: now) {
                    #expect(model[ended.id]?.uses == 0)
                    model[ended.id] = nil
                }
            }
            #expect(table.count == model.count)
        }
        #expect(Set(table.removeAll().map(\.id)) == Set(model.keys))
    }
}
