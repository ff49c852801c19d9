// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import GatewayTestRandom
import Testing

@Suite("Session table") struct SessionTableTests {
    typealias Table = SessionTable<Principal, Int, Int>

    /// One of the principals of an owner.
    struct Principal: SessionPrincipal, ExpressibleByStringLiteral {
        let owner: String
        var variant = 0
        var place = 0

        init(stringLiteral owner: String) { self.owner = owner }

        init(_ owner: String, variant: Int = 0, at place: Int = 0) {
            self.owner = owner
            self.variant = variant
            self.place = place
        }
    }

    private var generator = SystemRandomNumberGenerator()

    private mutating func id() -> SessionID { SessionID(using: &self.generator) }

    private static func isOpened(_ opening: Table.Opening) -> Bool {
        if case .opened = opening { true } else { false }
    }

    @Test("A session is found by the principal that opened it and by nobody else")
    mutating func foreignPrincipal() {
        var table = Table(capacity: 10, idleLimit: .seconds(60))
        let id = self.id()
        #expect(Self.isOpened(table.open(id, principal: "a", ownerLimit: nil, payload: 7, now: .zero)))
        #expect(table.begin(id, principal: "b") == nil)
        #expect(table.begin(self.id(), principal: "a") == nil)
        #expect(table.begin(id, principal: "a") == 7)
    }

    @Test("At the cap the longest idle session of the same principal makes room", arguments: [nil, 2])
    mutating func eviction(ownerLimit: Int?) {
        var table = Table(capacity: ownerLimit == nil ? 2 : 10, idleLimit: .seconds(60))
        let (old, young) = (self.id(), self.id())
        _ = table.open(old, principal: "a", ownerLimit: ownerLimit, payload: 2, now: .seconds(1))
        _ = table.open(young, principal: "a", ownerLimit: ownerLimit, payload: 1, now: .seconds(2))
        guard
            case .opened(let evicted) = table.open(
                self.id(),
                principal: "a",
                ownerLimit: ownerLimit,
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
        _ = table.open(self.id(), principal: "a", ownerLimit: nil, payload: 1, now: .zero)
        guard
            case .opened(let evicted) = table.open(
                self.id(),
                principal: "a",
                ownerLimit: nil,
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
        _ = table.open(busy, principal: "a", ownerLimit: nil, payload: 1, now: .zero)
        _ = table.begin(busy, principal: "a")
        _ = table.open(self.id(), principal: "b", ownerLimit: nil, payload: 2, now: .zero)
        #expect(!Self.isOpened(table.open(self.id(), principal: "a", ownerLimit: nil, payload: 3, now: .zero)))
        table.end(busy, now: .seconds(1))
        #expect(Self.isOpened(table.open(self.id(), principal: "a", ownerLimit: nil, payload: 3, now: .zero)))
    }

    @Test("A session is taken out as unused only if nothing ever came in it", arguments: [false, true])
    mutating func unused(isUsed: Bool) {
        var table = Table(capacity: 10, idleLimit: .seconds(60))
        let id = self.id()
        _ = table.open(id, principal: "a", ownerLimit: nil, payload: 7, now: .zero)
        if isUsed {
            _ = table.begin(id, principal: "a")
            table.end(id, now: .zero)
        }
        let removed = table.removeUnused(id)
        #expect(removed?.payload == (isUsed ? nil : 7))
        #expect(table.count == (isUsed ? 1 : 0))
        #expect(table.removeUnused(id) == nil)
    }

    @Test("A session is sealed when no more than so many use it, and then nothing begins in it until it is taken out")
    mutating func sealing() {
        var table = Table(capacity: 10, idleLimit: .seconds(60))
        let id = self.id()
        _ = table.open(id, principal: "a", ownerLimit: nil, payload: 7, now: .zero)
        _ = table.begin(id, principal: "a")
        _ = table.begin(id, principal: "a")
        let isSealedTooEarly = table.seal(id, ifUsesAtMost: 1)
        #expect(!isSealedTooEarly)
        #expect(table.begin(id, principal: "a") == 7)
        table.end(id, now: .zero)
        table.end(id, now: .zero)
        let isSealed = table.seal(id, ifUsesAtMost: 1)
        #expect(isSealed)
        #expect(table.begin(id, principal: "a") == nil)
        #expect(table.count == 1)
        #expect(table.expire(now: .seconds(60)).isEmpty)
        #expect(table.remove(id)?.payload == 7)
        let isGoneSealed = table.seal(id, ifUsesAtMost: 1)
        #expect(isGoneSealed)
    }

    @Test("A session expires when it was unused for the idle limit, and not while it is used")
    mutating func expiry() {
        var table = Table(capacity: 10, idleLimit: .seconds(30))
        let (idle, busy) = (self.id(), self.id())
        _ = table.open(idle, principal: "a", ownerLimit: nil, payload: 1, now: .zero)
        _ = table.open(busy, principal: "a", ownerLimit: nil, payload: 2, now: .zero)
        _ = table.begin(busy, principal: "a")
        #expect(table.expire(now: .seconds(29)).isEmpty)
        #expect(table.expire(now: .seconds(30)).map(\.id) == [idle])
        #expect(table.expire(now: .seconds(300)).isEmpty)
        table.end(busy, now: .seconds(300))
        #expect(table.expire(now: .seconds(329)).isEmpty)
        #expect(table.expire(now: .seconds(330)).map(\.id) == [busy])
        #expect(table.count == 0)
    }

    @Test("A lower capacity lets nobody more in, and everybody stay; a higher one lets more in")
    mutating func tunedCapacity() {
        var table = Table(capacity: 3, idleLimit: .seconds(60))
        let busy = (0..<3).map { _ in self.id() }
        for id in busy {
            _ = table.open(id, principal: "a", ownerLimit: nil, payload: 1, now: .zero)
            _ = table.begin(id, principal: "a")
        }
        table.tune(capacity: 2, idleLimit: .seconds(60))
        #expect(table.count == 3)
        #expect(!Self.isOpened(table.open(self.id(), principal: "a", ownerLimit: nil, payload: 2, now: .zero)))
        // One makes room for one, so that there are not more than before.
        table.end(busy[0], now: .zero)
        #expect(Self.isOpened(table.open(self.id(), principal: "a", ownerLimit: nil, payload: 2, now: .zero)))
        #expect(table.count == 3)
        table.tune(capacity: 4, idleLimit: .seconds(60))
        #expect(Self.isOpened(table.open(self.id(), principal: "b", ownerLimit: nil, payload: 3, now: .zero)))
        #expect(table.count == 4)
    }

    @Test("Another idle limit counts for sessions that are there, used or never used")
    mutating func tunedIdleLimit() {
        var table = Table(capacity: 10, idleLimit: .seconds(1_800))
        let (abandoned, used) = (self.id(), self.id())
        for id in [abandoned, used] { _ = table.open(id, principal: "a", ownerLimit: nil, payload: 1, now: .zero) }
        _ = table.begin(used, principal: "a")
        table.end(used, now: .seconds(10))
        table.tune(capacity: 10, idleLimit: .seconds(30))
        #expect(table.expire(now: .seconds(29)).isEmpty)
        #expect(table.expire(now: .seconds(39)).map(\.id) == [abandoned])
        table.tune(capacity: 10, idleLimit: .seconds(300))
        #expect(table.expire(now: .seconds(309)).isEmpty)
        #expect(table.expire(now: .seconds(310)).map(\.id) == [used])
    }

    @Test("An owner's sessions are counted together, under whatever principals and wherever it has them")
    mutating func countsOwners() {
        var table = Table(capacity: 100, idleLimit: .seconds(60))
        var ids: [SessionID] = []
        for number in 0..<3 {
            ids.append(self.id())
            let principal = Principal("a", variant: number, at: number)
            _ = table.open(ids[number], principal: principal, ownerLimit: 3, payload: number, now: .seconds(number))
        }
        _ = table.begin(ids[0], principal: Principal("a"))
        _ = table.open(self.id(), principal: "b", ownerLimit: 3, payload: 9, now: .zero)
        // The first is in use: the second has been idle longest.
        let fourth = Principal("a", variant: 4, at: 4)
        guard
            case .opened(let evicted) = table.open(
                self.id(),
                principal: fourth,
                ownerLimit: 3,
                payload: 4,
                now: .seconds(4)
            )
        else {
            Issue.record("refused")
            return
        }
        #expect(evicted?.id == ids[1])
        // Being of one owner does not let one principal find the session of another.
        #expect(table.begin(ids[2], principal: fourth) == nil)
    }

    @Test("A session that was never used after it was opened is gone after a minute", arguments: [30, 60, 1_800])
    mutating func neverUsed(idleLimit: Int) {
        var table = Table(capacity: 10, idleLimit: .seconds(idleLimit))
        let (abandoned, used) = (self.id(), self.id())
        for id in [abandoned, used] {
            _ = table.open(id, principal: "a", ownerLimit: nil, payload: 1, now: .zero)
        }
        _ = table.begin(used, principal: "a")
        table.end(used, now: .seconds(1))
        let limit = min(idleLimit, 60)
        #expect(table.expire(now: .seconds(limit) - .nanoseconds(1)).isEmpty)
        #expect(table.expire(now: .seconds(limit)).map(\.id) == [abandoned])
        #expect(table.expire(now: .seconds(idleLimit + 1)).map(\.id) == [used])
    }

    /// How many sessions the owners a, b and c have in a place, how many of them in use, and whose goes for a new one of c.
    struct Share: CustomTestStringConvertible {
        var counts: [Int]
        var busy: [Int] = [0, 0, 0]
        var goes: String?
        var testDescription: String { "\(self.counts), in use \(self.busy): \(self.goes ?? "nobody") gives way" }
    }

    @Test(
        "For a share of a place the owner that has most there gives way, else the asking one does itself",
        arguments: [
            Share(counts: [4, 3, 0], goes: "a"), Share(counts: [3, 4, 1], goes: "b"),
            Share(counts: [2, 1, 0], goes: "a"), Share(counts: [1, 1, 0], goes: nil),
            Share(counts: [3, 3, 2], goes: "c"), Share(counts: [3, 3, 2], busy: [0, 0, 2], goes: nil),
            Share(counts: [5, 3, 1], busy: [5, 0, 1], goes: "b"),
            Share(counts: [5, 2, 1], busy: [5, 0, 1], goes: nil),
            Share(counts: [5, 2, 1], busy: [5, 0, 0], goes: "c"), Share(counts: [0, 0, 0], goes: nil),
            Share(counts: [3, 3, 0], goes: "a"),
        ]
    )
    mutating func makesRoom(_ share: Share) {
        var table = Table(capacity: 100, idleLimit: .seconds(60))
        var oldest: [String: SessionID] = [:]
        var now = 0
        for (owner, (count, busy)) in zip(["a", "b", "c"], zip(share.counts, share.busy)) {
            for number in 0..<count {
                let (id, principal) = (self.id(), Principal(owner, variant: number))
                now += 1
                _ = table.open(id, principal: principal, ownerLimit: nil, payload: number, now: .seconds(now))
                if number < busy {
                    _ = table.begin(id, principal: principal)
                } else if oldest[owner] == nil {
                    oldest[owner] = id
                }
            }
            // What an owner has elsewhere does not count.
            _ = table.open(self.id(), principal: Principal(owner, at: 1), ownerLimit: nil, payload: 0, now: .zero)
        }
        let ended = table.makeRoom(for: Principal("c", variant: 99))
        #expect(ended?.id == share.goes.flatMap { oldest[$0] })
        #expect(table.count == share.counts.reduce(3, +) - (share.goes == nil ? 0 : 1))
    }

    @Test("However often an owner comes back, the shares of a place end up within one of each other")
    mutating func convergesToShares() {
        var table = Table(capacity: 100, idleLimit: .seconds(60))
        var counts = ["a": 12, "b": 0, "c": 0]
        var owners: [SessionID: String] = [:]
        for number in 0..<12 {
            let id = self.id()
            owners[id] = "a"
            _ = table.open(id, principal: "a", ownerLimit: nil, payload: 0, now: .seconds(number))
        }
        for round in 0..<60 {
            let owner = ["a", "b", "c"][round % 3]
            guard let ended = table.makeRoom(for: Principal(owner)), let loser = owners.removeValue(forKey: ended.id)
            else {
                Issue.record("nobody gives way")
                return
            }
            counts[loser, default: 0] -= 1
            let id = self.id()
            owners[id] = owner
            counts[owner, default: 0] += 1
            _ = table.open(id, principal: Principal(owner), ownerLimit: nil, payload: 0, now: .seconds(100 + round))
        }
        #expect(counts == ["a": 4, "b": 4, "c": 4])
    }

    @Test("Who has to go at the cap is found without looking through the sessions", arguments: [100, 10_000])
    mutating func evictsAtOnce(count: Int) {
        var table = Table(capacity: count, idleLimit: .seconds(60))
        // One owner has all of it, in many places, and half of its sessions are in use.
        for number in 0..<count {
            let (id, principal) = (self.id(), Principal("a", at: number % 7))
            _ = table.open(id, principal: principal, ownerLimit: nil, payload: number, now: .zero)
            if number % 2 == 0 { _ = table.begin(id, principal: principal) }
        }
        #expect(table.looks == 0)
        for number in 0..<50 {
            let opening = table.open(self.id(), principal: "a", ownerLimit: nil, payload: 0, now: .seconds(1))
            guard case .opened(let evicted?) = opening else {
                Issue.record("nobody had to go")
                return
            }
            #expect(evicted.payload == 2 * number + 1)
        }
        #expect(table.looks == 50)
    }

    @Test("Who gives way in a place is found by looking at each owner there once, however many sessions it has")
    mutating func makesRoomAtOnce() {
        var table = Table(capacity: 10_000, idleLimit: .seconds(60))
        for number in 0..<3_000 {
            let principal = Principal(["a", "b", "c"][number % 3])
            _ = table.open(self.id(), principal: principal, ownerLimit: nil, payload: number, now: .seconds(number))
        }
        #expect(table.makeRoom(for: "d")?.payload == 0)
        #expect(table.looks == 3)
    }

    @Test("Sessions expire by parts as they do all at once")
    mutating func expiresByParts() {
        var table = Table(capacity: 1_000, idleLimit: .seconds(30))
        for number in 0..<1_000 {
            _ = table.open(self.id(), principal: "a", ownerLimit: nil, payload: number, now: .seconds(number))
        }
        #expect(table.placeCount == 1_000)
        var ended: [Int] = []
        for start in stride(from: 0, to: table.placeCount + 512, by: 256) {
            ended += table.expire(now: .seconds(529), among: start..<(start + 256)).map(\.payload)
        }
        #expect(ended == Array(0..<500))
        #expect(table.count == 500)
        // Their places are taken again.
        _ = table.open(self.id(), principal: "b", ownerLimit: nil, payload: 0, now: .seconds(1_000))
        #expect(table.placeCount == 1_000)
    }

    /// What should be known of a session.
    private struct ModelSession {
        let principal: Principal
        var place: Int
        /// The step in which it was used last, or came to its place.
        var since: Int
        var uses = 0
        var wasUsed = false
        var lastUsed: Duration
    }

    @Test("Whatever happens, the table is what a plain model says", arguments: 0..<10 as Range<UInt64>)
    mutating func randomWalk(seed: UInt64) {
        var random = SplitMix(seed: seed)
        var table = Table(capacity: 20, idleLimit: .seconds(70))
        var model: [SessionID: ModelSession] = [:]
        var now = Duration.zero
        func idlest(_ isMeant: (ModelSession) -> Bool) -> SessionID? {
            model.filter { $0.value.uses == 0 && isMeant($0.value) }.min { $0.value.lastUsed < $1.value.lastUsed }?.key
        }
        /// Of each owner at a place the one that is there, or idle there, for longest; of these the one that was used first.
        func idlest(at place: Int, of owners: Set<String>) -> SessionID? {
            owners.compactMap { owner in
                model.filter { $0.value.uses == 0 && $0.value.place == place && $0.value.principal.owner == owner }
                    .min { $0.value.since < $1.value.since }
            }
            .min { $0.value.lastUsed < $1.value.lastUsed }?
            .key
        }
        for step in 0..<4_000 {
            now += .milliseconds(Int.random(in: 1...2_000, using: &random))
            let known = model.randomElement(using: &random)
            let owner = ["a", "b", "c"].randomElement(using: &random) ?? "a"
            let asking = Principal(
                owner,
                variant: Int.random(in: 0..<3, using: &random),
                at: Int.random(in: 0..<2, using: &random)
            )
            switch Int.random(in: 0..<9, using: &random) {
            case 0...2:
                let id = self.id()
                let own = model.values.filter { $0.principal.owner == owner }.count
                let isFull = model.count >= 20 || own >= 10
                let expected = isFull ? idlest { $0.principal.owner == owner } : nil
                switch table.open(id, principal: asking, ownerLimit: 10, payload: step, now: now) {
                case .opened(let evicted):
                    #expect(evicted?.id == expected && (expected != nil) == isFull)
                    if let expected { model[expected] = nil }
                    model[id] = ModelSession(principal: asking, place: asking.place, since: step, lastUsed: now)
                case .refused:
                    #expect(isFull && expected == nil)
                }
            case 3, 4:
                guard let known else { continue }
                #expect(table.begin(known.key, principal: asking) == nil || asking == known.value.principal)
                if asking == known.value.principal {
                    model[known.key]?.uses += 1
                } else {
                    #expect(table.begin(known.key, principal: known.value.principal) != nil)
                    model[known.key]?.uses += 1
                }
                model[known.key]?.wasUsed = true
            case 5:
                guard let known, known.value.uses > 0 else { continue }
                for _ in 0..<known.value.uses { table.end(known.key, now: now) }
                model[known.key]?.uses = 0
                model[known.key]?.lastUsed = now
                model[known.key]?.since = step
            case 6:
                guard let known, Int.random(in: 0..<8, using: &random) == 0 else { continue }
                #expect(table.remove(known.key)?.id == known.key)
                #expect(table.remove(known.key)?.id == nil)
                model[known.key] = nil
            case 7:
                guard let known, Int.random(in: 0..<4, using: &random) == 0 else { continue }
                table.move(known.key, to: asking.place)
                guard known.value.place != asking.place else { continue }
                model[known.key]?.place = asking.place
                model[known.key]?.since = step
            default:
                if Bool.random(using: &random) {
                    let due = model.filter { _, session in
                        session.uses == 0 && session.lastUsed + .seconds(session.wasUsed ? 70 : 60) <= now
                    }
                    #expect(Set(table.expire(now: now).map(\.id)) == Set(due.keys))
                    for id in due.keys { model[id] = nil }
                } else {
                    let here = model.values.filter { $0.place == asking.place }
                    let counts = here.reduce(into: [:]) { $0[$1.principal.owner, default: 0] += 1 }
                    let rich = counts.filter { entry in
                        entry.value >= counts[owner, default: 0] + 2
                            && idlest(at: asking.place, of: [entry.key]) != nil
                    }
                    let most = Set(rich.filter { $0.value == rich.values.max() }.keys)
                    let expected = idlest(at: asking.place, of: rich.isEmpty ? [owner] : most)
                    #expect(table.makeRoom(for: asking)?.id == expected)
                    if let expected { model[expected] = nil }
                }
            }
            #expect(table.count == model.count)
            for place in 0..<2 {
                let here = model.values.filter { $0.place == place }.count
                #expect(table.sessions(at: place).count == here && table.hasSessions(at: place) == (here > 0))
            }
        }
        #expect(Set(table.removeAll().map(\.id)) == Set(model.keys))
        #expect(table.count == 0)
    }

    @Test("Who has to make room is decided by the place that was given, not by the principal")
    mutating func placeGiven() {
        var table = Table(capacity: 10, idleLimit: .seconds(60))
        let ids = (0..<3).map { _ in self.id() }
        for (number, place) in [1, 2, 2].enumerated() {
            _ = table.open(
                ids[number],
                principal: "a",
                place: place,
                ownerLimit: nil,
                payload: number,
                now: .seconds(number)
            )
        }
        #expect(table.makeRoom(for: "a", at: 3) == nil)
        #expect(table.makeRoom(for: "a", at: 2)?.id == ids[1])
        #expect(table.sessions(at: 1) == [0] && table.sessions(at: 2) == [2] && table.sessions(at: 3).isEmpty)
    }

    @Test("A place is known to be empty when its last session is over, whoever else has sessions there or elsewhere")
    mutating func emptyPlace() {
        var table = Table(capacity: 10, idleLimit: .seconds(60))
        let (one, other, elsewhere) = (self.id(), self.id(), self.id())
        _ = table.open(one, principal: "a", place: 1, ownerLimit: nil, payload: 1, now: .zero)
        _ = table.open(other, principal: "b", place: 1, ownerLimit: nil, payload: 2, now: .zero)
        _ = table.open(elsewhere, principal: "a", place: 2, ownerLimit: nil, payload: 3, now: .zero)
        #expect(table.hasSessions(at: 1) && table.hasSessions(at: 2) && !table.hasSessions(at: 3))
        _ = table.remove(one)
        #expect(table.hasSessions(at: 1))
        _ = table.remove(other)
        #expect(!table.hasSessions(at: 1) && table.hasSessions(at: 2))
        #expect(table.sessions { $0.owner == "a" } == [3])
    }
}

/// In these tests a principal has its sessions at one place.
extension SessionTable where Principal == SessionTableTests.Principal, Place == Int {
    fileprivate mutating func open(
        _ id: SessionID,
        principal: Principal,
        ownerLimit: Int?,
        payload: Payload,
        now: Duration
    ) -> Opening {
        self.open(
            id,
            principal: principal,
            place: principal.place,
            ownerLimit: ownerLimit,
            payload: payload,
            now: now
        )
    }

    fileprivate mutating func makeRoom(for principal: Principal) -> Ended? {
        self.makeRoom(for: principal, at: principal.place)
    }
}
