// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewayTestRandom
import Testing

/// Requests that overlap (credentials §4.4): every step of every request is written down, so that the order is the
/// test's and not the scheduler's.
@Suite("Credentials under overlapping requests") struct CredentialInterleavingTests {
    typealias Pool = CredentialPool

    /// Requests that may try every slot of `count`.
    static func request(slots count: Int) -> ScriptedRequest {
        ScriptedRequest(rules: .init(mode: .onFirstFailed, attemptLimit: count, retryOn: [401, 403]))
    }

    // MARK: One revoked credential

    @Test("C01: of two requests refused with one credential the first moves the pool, and both go on with the next")
    func twoRefusals() {
        var pool = Pool(count: 3, mode: .onFirstFailed)
        var one = Self.request(slots: 3)
        var other = Self.request(slots: 3)
        #expect([one.send(in: &pool), other.send(in: &pool)] == [0, 0])
        one.receive(401, in: &pool)
        other.receive(401, in: &pool)
        #expect(one.moves == ["AB"])
        #expect(other.moves == [])
        #expect(pool.generation == 1)
        #expect([one.send(in: &pool), other.send(in: &pool)] == [1, 1])
        #expect(pool.failures == [2, 0, 0])
    }

    @Test("C02: a thousand requests in flight when a credential is revoked move the pool once", arguments: 1...5)
    func herd(seed: UInt64) {
        var random = SplitMix(seed: seed)
        var pool = Pool(count: 10, mode: .onFirstFailed)
        var requests = Array(repeating: Self.request(slots: 10), count: 1_000)
        for index in requests.indices { requests[index].send(in: &pool) }
        for index in requests.indices.shuffled(using: &random) { requests[index].receive(401, in: &pool) }
        #expect(pool.generation == 1)
        #expect(pool.failures[0] == 1_000)
        #expect(pool.rejections[0] == 1)
        for index in requests.indices.shuffled(using: &random) { requests[index].send(in: &pool) }
        for index in requests.indices.shuffled(using: &random) { requests[index].receive(200, in: &pool) }
        #expect(requests.count { $0.sends == [0, 1] && $0.result == .answered(200) } == 1_000)
        #expect(requests.flatMap(\.moves) == ["AB"])
        #expect(pool.cursor == 1)
        #expect(pool.generation == 1)
        #expect(pool.failures == [1_000] + Array(repeating: 0, count: 9))
        #expect(pool.rejections == [1] + Array(repeating: 0, count: 9))
        #expect(pool.inFlight.allSatisfy { $0 == 0 })
    }

    @Test("C02 with retries that start while others are still to be refused", arguments: 1...20)
    func mingledHerd(seed: UInt64) {
        var random = SplitMix(seed: seed)
        var pool = Pool(count: 10, mode: .onFirstFailed)
        var requests = Array(repeating: Self.request(slots: 10), count: 1_000)
        var underWay = Array(requests.indices)
        for index in underWay { requests[index].send(in: &pool) }
        while !underWay.isEmpty {
            let place = random.below(underWay.count)
            let index = underWay[place]
            if let slot = requests[index].attempts.position {
                requests[index].receive(slot == 0 ? 401 : 200, in: &pool)
            } else {
                requests[index].send(in: &pool)
            }
            if requests[index].result != nil { underWay.remove(at: place) }
        }
        #expect(requests.count { $0.sends == [0, 1] && $0.result == .answered(200) } == 1_000)
        #expect(pool.cursor == 1)
        #expect(pool.generation == 1)
        #expect(pool.failures[0] == 1_000)
        #expect(pool.rejections[0] == 1)
    }

    /// What a pool would be without the count of its moves.
    struct NaiveRotator {
        private(set) var cursor = 0
        private(set) var moves = 0
        let count: Int

        mutating func fail() {
            self.cursor = (self.cursor + 1) % self.count
            self.moves += 1
        }
    }

    @Test("C03: a rotator that does not count its moves goes round and stays on the revoked credential")
    func naive() {
        var rotator = NaiveRotator(count: 10)
        for _ in 0..<1_000 { rotator.fail() }
        #expect(rotator.moves == 1_000)
        #expect(rotator.cursor == 0)
    }

    // MARK: Late answers

    @Test("C04: a late success with the credential that others were refused with resets its count and moves nothing")
    func lateSuccess() {
        var pool = Pool(count: 3, mode: .onFirstFailed)
        var slow = Self.request(slots: 3)
        var quick = Self.request(slots: 3)
        slow.send(in: &pool)
        quick.run(in: &pool, answers: [401, 200, 200])
        #expect(quick.sends == [0, 1])
        #expect(pool.failures == [1, 0, 0])
        slow.receive(200, in: &pool)
        #expect(slow.result == .answered(200))
        #expect(pool.cursor == 1)
        #expect(pool.generation == 1)
        #expect(pool.failures == [0, 0, 0])
    }

    @Test("C05: a late refusal moves nothing, and the request goes on with the slot that the others found")
    func lateRefusal() {
        var pool = Pool(count: 3, mode: .onFirstFailed)
        var slow = Self.request(slots: 3)
        var quick = Self.request(slots: 3)
        slow.send(in: &pool)
        quick.run(in: &pool, answers: [401, 401, 200])
        #expect(quick.sends == [0, 1, 2])
        #expect(pool.generation == 2)
        slow.receive(401, in: &pool)
        #expect(slow.moves == [])
        #expect(pool.cursor == 2)
        #expect(pool.generation == 2)
        #expect(slow.send(in: &pool) == 2)
        slow.receive(200, in: &pool)
        #expect(slow.result == .answered(200))
        #expect(pool.failures == [2, 1, 0])
    }

    /// C06: the request that was refused with A while another was refused with B, so that A is current again; it has
    /// been sent with B.
    static func crossed(in pool: inout Pool) -> ScriptedRequest {
        var one = Self.request(slots: 2)
        var other = Self.request(slots: 2)
        one.send(in: &pool)
        one.receive(401, in: &pool)
        other.send(in: &pool)
        other.receive(401, in: &pool)
        one.send(in: &pool)
        return one
    }

    @Test("C06: a request never goes back to a slot that it tried, even if that is the current one")
    func neverTwice() {
        var pool = Pool(count: 2, mode: .onFirstFailed)
        let request = Self.crossed(in: &pool)
        #expect(request.sends == [0, 1])
        #expect(pool.cursor == 0)
        #expect(pool.generation == 2)
    }

    @Test("C07: a request that had to go past the current slot and is accepted makes its slot the current one")
    func promotion() {
        var pool = Pool(count: 2, mode: .onFirstFailed)
        var request = Self.crossed(in: &pool)
        request.receive(200, in: &pool)
        #expect(request.result == .answered(200))
        #expect(pool.cursor == 1)
        #expect(pool.generation == 3)
        #expect(pool.failures == [1, 0])
    }

    @Test("C08: it does not if the pool has moved in the meantime")
    func latePromotion() {
        var pool = Pool(count: 2, mode: .onFirstFailed)
        var request = Self.crossed(in: &pool)
        // There and back, so that the cursor is the same and only the count tells.
        var others = [Self.request(slots: 2), Self.request(slots: 2)]
        others[0].send(in: &pool)
        others[0].receive(401, in: &pool)
        others[1].send(in: &pool)
        others[1].receive(401, in: &pool)
        #expect(pool.cursor == 0)
        #expect(pool.generation == 4)
        request.receive(200, in: &pool)
        #expect(request.result == .answered(200))
        #expect(pool.cursor == 0)
        #expect(pool.generation == 4)
        #expect(pool.failures == [2, 0])
    }

    @Test("An attempt that ends without a verdict while the pool moves changes nothing", arguments: [500, 429, 407])
    func lateNeutral(status: Int) {
        var pool = Pool(count: 3, mode: .onFirstFailed)
        var slow = Self.request(slots: 3)
        var quick = Self.request(slots: 3)
        slow.send(in: &pool)
        quick.run(in: &pool, answers: [401, 200, 200])
        slow.receive(.status(status), in: &pool)
        #expect(pool.cursor == 1)
        #expect(pool.generation == 1)
        #expect(pool.failures == [1, 0, 0])
    }

    // MARK: Reload

    /// What may become of an attempt.
    static let outcomes: [ScriptedAnswer] = [200, 401, 403, 500, .lost]

    @Test("C09: what becomes of an attempt whose credential was removed touches no other", arguments: outcomes)
    func removed(outcome: ScriptedAnswer) {
        var pool = Pool(count: 3, mode: .onFirstFailed)
        var request = Self.request(slots: 3)
        request.send(in: &pool)
        pool.reload(origins: [1, 2])
        let before = PoolObservation(pool)
        request.receive(outcome, in: &pool)
        #expect(PoolObservation(pool) == before)
        #expect(request.moves == [])
        #expect(pool.cursor == 0)
    }

    @Test("C09: a value that was removed and configured again begins anew", arguments: outcomes)
    func removedAndBack(outcome: ScriptedAnswer) {
        var pool = Pool(count: 2, mode: .onFirstFailed)
        var request = Self.request(slots: 2)
        request.send(in: &pool)
        pool.reload(origins: [1])
        pool.reload(origins: [nil, 0])
        let before = PoolObservation(pool)
        request.receive(outcome, in: &pool)
        #expect(PoolObservation(pool) == before)
    }

    @Test("C10: what is known of a credential follows its value to another position, and so does the cursor")
    func swapped() throws {
        var pool = Pool(count: 2, mode: .onFirstFailed)
        var request = Self.request(slots: 2)
        request.run(in: &pool, answers: [401, 200])
        let lease = try pool.taken(from: 1)
        #expect(pool.cursor == 1)
        pool.reload(origins: [1, 0])
        #expect(pool.cursor == 0)
        #expect(pool.failures == [0, 1])
        #expect(pool.rejections == [0, 1])
        #expect(pool.inFlight == [1, 0])
        #expect(pool.slots.map(\.lastSuccess) == [.zero, nil])
        #expect(pool.slots.map(\.lastFailure) == [nil, .zero])
        // The lease is of B, which is the first now and the current one still.
        #expect(pool.fail(lease, at: .zero)?.letters == "AB")
        #expect(pool.failures == [1, 1])
        #expect(pool.cursor == 1)
    }

    @Test(
        "C10: the cursor follows its value; if that is gone, it goes to the next one that stays, else to the first",
        arguments: [
            ([2, 1, 0], 1), ([1, 2], 0), ([nil, 0, 1, 2], 2), ([0, 2], 1), ([2, 0], 0), ([nil, 0], 1), ([nil, nil], 0),
            ([0, nil, 2], 2),
        ] as [([Int?], Int)]
    )
    func cursorAfterReload(origins: [Int?], expected: Int) {
        var pool = Pool(count: 3, mode: .onFirstFailed)
        var request = Self.request(slots: 3)
        request.run(in: &pool, answers: [401, 200, 200])
        let generation = pool.generation
        pool.reload(origins: origins)
        #expect(pool.slots.count == origins.count)
        #expect(pool.cursor == expected)
        #expect(pool.generation == (origins.contains(1) ? generation : generation + 1))
        #expect(pool.rotations == 1)
    }

    @Test("C10: a new credential has no history")
    func newcomer() {
        var pool = Pool(count: 2, mode: .onFirstFailed)
        var request = Self.request(slots: 2)
        request.run(in: &pool, answers: [401, 401])
        pool.reload(origins: [nil, 0, 1, nil])
        #expect(pool.failures == [0, 1, 1, 0])
        #expect(pool.rejections == [0, 1, 1, 0])
        #expect(!pool.areAllRefused())
    }

    @Test("C11: a list that shrinks while attempts are under way leaves no index out of range", arguments: outcomes)
    func shrunk(outcome: ScriptedAnswer) {
        for kept in 0..<3 {
            var pool = Pool(count: 3, mode: .roundRobin)
            let rules = CredentialAttempts.Rules(mode: .roundRobin, attemptLimit: 3, retryOn: [401, 403])
            var requests = Array(repeating: ScriptedRequest(rules: rules), count: 3)
            for index in requests.indices { requests[index].send(in: &pool) }
            pool.reload(origins: [kept])
            for index in requests.indices { requests[index].receive(outcome, in: &pool) }
            #expect(pool.inFlight == [0])
            #expect(pool.failures == [outcome == 401 || outcome == 403 ? 1 : 0])
            #expect(pool.currentPosition == 0)
            #expect(pool.next()?.position == 0)
        }
    }

    @Test("C11: turns go on in a list of another length, none left out", arguments: 1...6, [1, 2, 3, 5])
    func turnsAfterReload(count: Int, newCount: Int) {
        var pool = Pool(count: count, mode: .roundRobin)
        for _ in 0..<(count - 1) { _ = pool.next() }
        pool.reload(origins: (0..<newCount).map { $0 < count ? $0 : nil })
        let slots = (0..<newCount).compactMap { _ in pool.next()?.position }
        #expect(slots.sorted() == Array(0..<newCount))
    }

    @Test("C11: a list that shrinks to one and grows again is static only as long as there is one")
    func shrunkAndGrown() throws {
        var pool = Pool(count: 3, mode: .onFirstFailed)
        pool.reload(origins: [2])
        #expect(pool.mode == .static)
        #expect(pool.fail(try pool.taken(), at: .zero) == nil)
        #expect(pool.failures == [1])
        pool.reload(origins: [0, nil])
        #expect(pool.mode == .onFirstFailed)
        #expect(pool.fail(try pool.taken(), at: .zero)?.letters == "AB")
    }

    @Test("C10: of equal values in a new list the first goes on with what is known, each lease counts in one slot")
    func duplicated() throws {
        var pool = Pool(count: 2, mode: .onFirstFailed)
        let lease = try pool.taken()
        pool.reload(origins: [0, 0, 1])
        #expect(pool.inFlight == [1, 0, 0])
        #expect(pool.fail(lease, at: .zero)?.letters == "AB")
        #expect(pool.inFlight == [0, 0, 0])
        #expect(pool.failures == [1, 0, 0])
        pool.release(try pool.taken(from: pool.slots[1].id))
        #expect(pool.inFlight == [0, 0, 0])
    }

    @Test(
        "C10: a request that is sent again after a reload passes over the credentials that it tried, wherever they are",
        arguments: [([1, 0], true), ([nil, 0, 1], true), ([1], true), ([nil], true), ([nil, 0], true), ([0], false)]
            as [([Int?], Bool)],
        [CredentialAttempts.Choice.turn, .home, .session(0), .idle]
    )
    func retriedAfterReload(reload: (origins: [Int?], isSent: Bool), choice: CredentialAttempts.Choice) {
        for mode in [Pool.Mode.roundRobin, .onFirstFailed] {
            var pool = Pool(count: 2, mode: mode)
            let rules = CredentialAttempts.Rules(mode: mode, attemptLimit: 2, retryOn: [401, 403])
            var request = ScriptedRequest(choice, rules: rules)
            #expect(request.send(in: &pool) == 0)
            request.receive(401, in: &pool)
            pool.reload(origins: reload.origins)
            let slot = request.send(in: &pool)
            #expect((slot != nil) == reload.isSent, "\(mode)")
            #expect(slot.map { reload.origins[$0] } != 0, "\(mode)")
        }
    }

    @Test("A list of nothing is no list: the pool keeps what it has")
    func empty() {
        var pool = Pool(count: 2, mode: .roundRobin)
        let before = PoolObservation(pool)
        pool.reload(origins: [])
        #expect(PoolObservation(pool) == before)
    }
}
