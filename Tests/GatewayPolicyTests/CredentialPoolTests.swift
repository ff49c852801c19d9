// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import Testing

@Suite("Credential pool") struct CredentialPoolTests {
    /// Slots that `count` attempts take, none of which is answered.
    static func leases(_ count: Int, in pool: inout CredentialPool) -> [CredentialPool.Lease] {
        (0..<count).compactMap { _ in pool.next() }
    }

    // MARK: Choosing

    @Test("R01: in round-robin every request takes the next slot")
    func turns() {
        var pool = CredentialPool(count: 3, mode: .roundRobin)
        #expect(ScriptedRequest.letters(Self.leases(6, in: &pool).map(\.position)) == "ABCABC")
    }

    @Test("Pools with different numbers never have a credential of the same identity")
    func numbers() {
        var pools = (0..<3).map { CredentialPool(count: 2, mode: .roundRobin, number: $0) }
        var seen: Set<CredentialID> = [.none]
        for index in pools.indices {
            let first = pools[index].slots.map(\.id)
            let next = pools[index].replace(with: [nil, nil, first[1]])
            for id in first + next.prefix(2) { #expect(seen.insert(id).inserted) }
        }
    }

    @Test(
        "R05, R06: slots get even shares of a thousand requests that are in flight at once",
        arguments: [(10, Array(repeating: 100, count: 10)), (3, [334, 333, 333]), (1, [1_000])]
    )
    func shares(count: Int, expected: [Int]) {
        var pool = CredentialPool(count: count, mode: .roundRobin)
        _ = Self.leases(1_000, in: &pool)
        #expect(pool.inFlight == expected)
    }

    @Test("R07: the order stays that of the list however many requests there were", arguments: [1, 2, 3, 7])
    func longOrder(count: Int) {
        var pool = CredentialPool(count: count, mode: .roundRobin)
        var wrong = 0
        for turn in 0..<10_000 {
            guard let lease = pool.next() else { continue }
            if lease.position != turn % count { wrong += 1 }
            pool.release(lease)
        }
        #expect(wrong == 0)
        #expect(pool.inFlight.allSatisfy { $0 == 0 })
    }

    @Test("R10: an attempt that ends without a verdict has used its turn and changes nothing else")
    func withoutVerdict() throws {
        var pool = CredentialPool(count: 2, mode: .roundRobin)
        let lease = try pool.taken()
        #expect(pool.inFlight == [1, 0])
        pool.release(lease)
        #expect(pool.inFlight == [0, 0])
        #expect(pool.failures == [0, 0])
        #expect(pool.next()?.position == 1)
    }

    @Test("Slots that a request tried are passed over, and those are used turns", arguments: [(0, 2), (1, 1)])
    func passedOver(before: Int, expected: Int) {
        var pool = CredentialPool(count: 3, mode: .roundRobin)
        _ = Self.leases(before, in: &pool)
        #expect(pool.next(excluding: before == 0 ? [0, 1] : [0, 2])?.position == expected)
        #expect(pool.currentPosition == (expected + 1) % 3)
    }

    @Test("On-first-failed takes the first slot in ring order that was not tried, and moves nothing")
    func ring() {
        var pool = CredentialPool(count: 3, mode: .onFirstFailed)
        let before = pool.cursor
        #expect(pool.next(excluding: [0])?.position == 1)
        #expect(pool.next(excluding: [0, 1])?.position == 2)
        #expect(pool.next(excluding: [1, 2])?.position == 0)
        #expect(pool.cursor == before)
        #expect(pool.generation == 0)
    }

    @Test(
        "There is no slot for a request that tried all, and asking for one moves nothing",
        arguments: [CredentialPool.Mode.static, .roundRobin, .onFirstFailed]
    )
    func allTried(mode: CredentialPool.Mode) {
        var pool = CredentialPool(count: mode == .static ? 1 : 3, mode: mode)
        let before = PoolObservation(pool)
        let tried = pool.slots.map(\.id)
        #expect(pool.next(excluding: tried) == nil)
        #expect(pool.nextHome(excluding: tried) == nil)
        #expect(pool.lease(from: 0, excluding: tried) == nil)
        #expect(PoolObservation(pool) == before)
    }

    @Test("Homes are spread evenly whatever else is asked, and requests whatever homes there are")
    func homes() {
        var pool = CredentialPool(count: 3, mode: .roundRobin)
        var homes: [Int] = []
        var others: [Int] = []
        for asked in [1, 0, 2, 5, 1, 3] {
            homes += [pool.nextHome()].compactMap { $0?.position }
            others += Self.leases(asked, in: &pool).map(\.position)
        }
        #expect(ScriptedRequest.letters(homes) == "ABCABC")
        #expect(ScriptedRequest.letters(others) == "ABCABCABCABC")
    }

    @Test("In on-first-failed a session's home is the current slot")
    func homeIsCurrent() throws {
        var pool = CredentialPool(count: 3, mode: .onFirstFailed)
        _ = pool.fail(try pool.taken(), at: .zero)
        #expect(pool.nextHome()?.position == 1)
        #expect(pool.nextHome(excluding: [1])?.position == 2)
    }

    @Test(
        "A slot that is named is leased without moving anything, or those after it",
        arguments: [CredentialPool.Mode.roundRobin, .onFirstFailed]
    )
    func named(mode: CredentialPool.Mode) {
        var pool = CredentialPool(count: 3, mode: mode)
        #expect(pool.lease(from: 2)?.position == 2)
        #expect(pool.lease(from: 2, excluding: [2])?.position == 0)
        #expect(pool.lease(from: 2, excluding: [2, 0])?.position == 1)
        #expect(pool.lease(from: 3) == nil)
        #expect(pool.lease(from: .none) == nil)
        #expect(pool.current == 0)
        #expect(pool.inFlight == [1, 1, 1])
    }

    @Test("The current slot is the next turn, or the cursor, and asking for it moves nothing")
    func current() throws {
        var turns = CredentialPool(count: 3, mode: .roundRobin)
        _ = Self.leases(2, in: &turns)
        #expect([turns.current, turns.current] == [2, 2])
        var first = CredentialPool(count: 3, mode: .onFirstFailed)
        _ = first.fail(try first.taken(), at: .zero)
        #expect(first.current == 1)
    }

    @Test("One slot is static whatever the mode, and its refusals are counted and never move")
    func single() throws {
        for mode in [CredentialPool.Mode.static, .roundRobin, .onFirstFailed] {
            var pool = CredentialPool(count: 1, mode: mode)
            #expect(pool.mode == .static)
            #expect(pool.fail(try pool.taken(), at: .zero) == nil)
            #expect(pool.next()?.position == 0)
            #expect(pool.failures == [1])
            #expect(pool.generation == 0)
        }
        #expect(CredentialPool(count: 0, mode: .roundRobin).slots.count == 1)
    }

    // MARK: Outcomes

    @Test("R03: a refusal is counted until the slot is accepted, and only then", arguments: [1, 2, 5])
    func count(refusals: Int) throws {
        var pool = CredentialPool(count: 2, mode: .roundRobin)
        for _ in 0..<refusals { _ = pool.fail(try pool.taken(from: 0), at: .seconds(1)) }
        #expect(pool.failures == [refusals, 0])
        pool.release(try pool.taken(from: 0))
        #expect(pool.failures == [refusals, 0])
        pool.succeed(try pool.taken(from: 1), at: .seconds(2))
        #expect(pool.failures == [refusals, 0])
        pool.succeed(try pool.taken(from: 0), at: .seconds(3))
        #expect(pool.failures == [0, 0])
        #expect(pool.slots[0].lastFailure == .seconds(1))
        #expect(pool.slots.map(\.lastSuccess) == [.seconds(3), .seconds(2)])
    }

    @Test("In round-robin no outcome moves the turn, and no refusal is a move")
    func roundRobinStays() throws {
        var pool = CredentialPool(count: 3, mode: .roundRobin)
        let leases = Self.leases(3, in: &pool)
        #expect(pool.fail(leases[0], at: .zero) == nil)
        pool.succeed(leases[1], at: .zero)
        pool.release(leases[2])
        #expect(pool.current == 0)
        #expect(pool.generation == 0)
    }

    @Test("A thousand refusals in a row are one rejection, and the next after a success is another")
    func rejections() throws {
        var pool = CredentialPool(count: 2, mode: .roundRobin)
        for _ in 0..<1_000 { _ = pool.fail(try pool.taken(from: 0), at: .zero) }
        #expect(pool.rejections == [1, 0])
        pool.succeed(try pool.taken(from: 0), at: .zero)
        _ = pool.fail(try pool.taken(from: 0), at: .zero)
        #expect(pool.rejections == [2, 0])
    }

    @Test("A refusal away from the cursor is counted and does not move it")
    func refusedElsewhere() throws {
        var pool = CredentialPool(count: 3, mode: .onFirstFailed)
        #expect(pool.fail(try pool.taken(from: 2), at: .zero) == nil)
        #expect(pool.cursor == 0)
        #expect(pool.generation == 0)
        #expect(pool.failures == [0, 0, 1])
        #expect(pool.rejections == [0, 0, 1])
    }

    @Test("A success with a slot that was named does not make it the current one")
    func namedSuccess() throws {
        var pool = CredentialPool(count: 3, mode: .onFirstFailed)
        pool.succeed(try pool.taken(from: 2), at: .zero)
        #expect(pool.cursor == 0)
        #expect(pool.generation == 0)
    }

    @Test("A refusal names the slots between which the pool moved, round the ring")
    func moves() throws {
        var pool = CredentialPool(count: 2, mode: .onFirstFailed)
        #expect(pool.fail(try pool.taken(), at: .zero)?.letters == "AB")
        #expect(pool.fail(try pool.taken(), at: .zero)?.letters == "BA")
        #expect(pool.generation == 2)
    }

    @Test("All are refused once none was accepted since, and no longer when one is")
    func allRefused() throws {
        var pool = CredentialPool(count: 2, mode: .onFirstFailed)
        #expect(!pool.areAllRefused())
        _ = pool.fail(try pool.taken(), at: .zero)
        #expect(!pool.areAllRefused())
        _ = pool.fail(try pool.taken(), at: .zero)
        #expect(pool.areAllRefused())
        pool.succeed(try pool.taken(from: 1), at: .zero)
        #expect(!pool.areAllRefused())
    }

    // MARK: What people see

    @Test("A slot shows what calls met, and before them what the gateway's own probe met")
    func condition() throws {
        typealias Probe = CredentialPool.Probe
        let early = Duration.seconds(1)
        let middle = Duration.seconds(2)
        let late = Duration.seconds(3)
        var pool = CredentialPool(count: 3, mode: .roundRobin)
        let leases = Self.leases(2, in: &pool)
        pool.succeed(try #require(leases.first), at: middle)
        _ = pool.fail(try #require(leases.last), at: middle)
        let (used, rejected, unused) = (pool.slots[0], pool.slots[1], pool.slots[2])

        #expect(unused.condition(probed: nil) == .unused)
        #expect(unused.condition(probed: Probe(isAccepted: true, at: early)) == .accepted)
        #expect(unused.condition(probed: Probe(isAccepted: false, at: early)) == .rejected)
        #expect(used.condition(probed: nil) == .accepted)
        #expect(used.condition(probed: Probe(isAccepted: false, at: early)) == .accepted)
        #expect(used.condition(probed: Probe(isAccepted: false, at: late)) == .rejected)
        #expect(rejected.condition(probed: nil) == .rejected)
        // `initialize` needs no credential at many servers whose tools do.
        #expect(rejected.condition(probed: Probe(isAccepted: true, at: late)) == .rejected)

        let (good, bad) = (Probe(isAccepted: true, at: late), Probe(isAccepted: false, at: late))
        #expect(!pool.areAllRefused(probed: [nil, nil, bad]))
        #expect(!pool.areAllRefused(probed: [bad, nil, good]))
        #expect(pool.areAllRefused(probed: [bad, good, bad]))

        #expect(unused.lastSuccess(probed: nil) == nil)
        #expect(unused.lastSuccess(probed: Probe(isAccepted: true, at: early)) == early)
        #expect(unused.lastFailure(probed: Probe(isAccepted: true, at: early)) == nil)
        #expect(used.lastSuccess(probed: Probe(isAccepted: true, at: late)) == late)
        #expect(used.lastSuccess(probed: Probe(isAccepted: true, at: early)) == middle)
        #expect(rejected.lastFailure(probed: Probe(isAccepted: false, at: late)) == late)
        #expect(rejected.lastFailure(probed: nil) == middle)
    }
}
