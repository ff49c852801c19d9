// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import Testing

/// A list of credentials that changes while attempts are under way (credentials §2.11, decision 0036).
@Suite("Credentials by identity") struct CredentialReplacementTests {
    typealias Pool = CredentialPool

    static let modes = [Pool.Mode.roundRobin, .onFirstFailed]

    static func rules(_ mode: Pool.Mode, limit: Int = 3) -> CredentialAttempts.Rules {
        CredentialAttempts.Rules(mode: mode, attemptLimit: limit, retryOn: [401, 403])
    }

    @Test("Who stays keeps its identity at any position, and a value that comes back is a new one", arguments: modes)
    func identities(mode: Pool.Mode) {
        var pool = Pool(count: 3, mode: mode)
        #expect(pool.replace(with: [2, 0, nil]) == [2, 0, 3])
        #expect(pool.replace(with: [nil, 3]) == [4, 3])
        #expect(pool.replace(with: [4, nil, 3, nil]) == [4, 5, 3, 6])
    }

    @Test("Another order of the same credentials changes nothing but the order", arguments: modes)
    func reordered(mode: Pool.Mode) throws {
        var pool = Pool(count: 3, mode: mode)
        _ = pool.fail(try pool.taken(), at: .seconds(1))
        pool.succeed(try pool.taken(from: 1), at: .seconds(2))
        _ = try pool.taken(from: 2)
        let before = Dictionary(uniqueKeysWithValues: pool.slots.map { ($0.id, PoolObservation.Slot($0)) })
        let (current, generation, rotations) = (pool.current, pool.generation, pool.rotations)
        pool.replace(with: [2, 1, 0])
        #expect(Dictionary(uniqueKeysWithValues: pool.slots.map { ($0.id, PoolObservation.Slot($0)) }) == before)
        #expect(pool.slots.map(\.id) == [2, 1, 0])
        #expect(pool.current == current)
        #expect(pool.generation == generation)
        #expect(pool.rotations == rotations)
        #expect(pool.takeForgotten() == [])
    }

    @Test(
        "The turn goes on with the credential whose turn it is, else with the next one that stays",
        arguments: [
            (1, [2, 1, 0], "BACBAC"), (1, [0, 2], "CACA"), (2, [nil, 0, 1], "ABDABD"), (0, [1, 2, nil], "BCDBCD"),
            (1, [nil, nil], "DEDE"),
        ] as [(Int, [CredentialID?], String)]
    )
    func turns(taken: Int, list: [CredentialID?], expected: String) {
        var pool = Pool(count: 3, mode: .roundRobin)
        for _ in 0..<taken { _ = pool.next() }
        pool.replace(with: list)
        let order = (0..<expected.count).compactMap { _ in pool.next()?.credential }
        #expect(ScriptedRequest.letters(order) == expected)
    }

    @Test("A removed credential is leased in no way, and one that is bound to it is told so", arguments: modes)
    func removed(mode: Pool.Mode) throws {
        var pool = Pool(count: 3, mode: mode)
        let lease = try pool.taken(from: 1)
        pool.replace(with: [0, 2])
        for choice in [CredentialAttempts.Choice.turn, .home, .session(1), .after(1), .idle] {
            for _ in 0..<3 {
                var attempts = CredentialAttempts(choice, rules: Self.rules(mode))
                let credential = attempts.begin(in: &pool)
                #expect(credential == 0 || credential == 2, "\(choice)")
                attempts.release(in: &pool)
            }
        }
        var pinned = CredentialAttempts(.pinned(1), rules: Self.rules(mode))
        #expect(pinned.begin(in: &pool) == nil)
        #expect(pool.lease(from: 1) == nil)
        #expect(pool.departing.map(\.inFlight) == [1])
        pool.release(lease)
    }

    /// What may become of an attempt.
    static let outcomes: [ScriptedAnswer] = [200, 401, 403, 500, .lost]

    @Test("A removed credential is forgotten with its last attempt, whatever becomes of that", arguments: outcomes)
    func forgotten(outcome: ScriptedAnswer) {
        var pool = Pool(count: 2, mode: .onFirstFailed)
        var requests = Array(repeating: ScriptedRequest(rules: Self.rules(.onFirstFailed)), count: 2)
        for index in requests.indices { requests[index].send(in: &pool) }
        pool.replace(with: [1])
        #expect(pool.takeForgotten() == [])
        requests[0].receive(outcome, in: &pool)
        #expect(pool.takeForgotten() == [])
        requests[1].receive(outcome, in: &pool)
        #expect(pool.takeForgotten() == [0])
        #expect(pool.takeForgotten() == [])
        #expect(pool.departing.isEmpty)
        #expect(pool.failures == [0])
    }

    @Test("One that nobody uses is forgotten at once")
    func unused() {
        var pool = Pool(count: 3, mode: .roundRobin)
        pool.replace(with: [1])
        #expect(pool.takeForgotten() == [0, 2])
    }

    @Test(
        "A request that meets the end of a removed credential goes on with one that is there, beside its limit",
        arguments: modes,
        [1, 2]
    )
    func refusedWhenGone(mode: Pool.Mode, limit: Int) {
        var pool = Pool(count: 1, mode: mode)
        var request = ScriptedRequest(rules: Self.rules(mode, limit: limit))
        request.send(in: &pool)
        pool.replace(with: [nil, nil])
        request.receive(401, in: &pool)
        #expect(request.result == nil)
        request.send(in: &pool)
        #expect(request.sends == [0, 1])
        request.receive(200, in: &pool)
        #expect(request.result == .answered(200))
        #expect(pool.failures == [0, 0])
    }

    @Test("A thousand calls in flight when one of three is replaced: the next call uses the new one, all are answered")
    func herd() {
        var pool = Pool(count: 3, mode: .roundRobin)
        var requests = Array(repeating: ScriptedRequest(rules: Self.rules(.roundRobin, limit: 1)), count: 1_000)
        for index in requests.indices { requests[index].send(in: &pool) }
        pool.replace(with: [0, nil, 2])
        // It was the turn of the removed one.
        #expect(pool.next()?.credential == 2)
        for index in requests.indices { requests[index].receive(200, in: &pool) }
        #expect(requests.allSatisfy { $0.result == .answered(200) })
        #expect(pool.inFlight == [0, 0, 1])
        #expect(pool.takeForgotten() == [1])
        #expect((0..<6).compactMap { _ in pool.next()?.credential } == [0, 3, 2, 0, 3, 2])
    }

    @Test("The mode changes with the list, and without it, and nothing is lost by that")
    func mode() throws {
        var pool = Pool(count: 2, mode: .roundRobin)
        _ = pool.fail(try pool.taken(), at: .zero)
        pool.replace(with: [0, 1], mode: .onFirstFailed)
        #expect(pool.mode == .onFirstFailed)
        #expect(pool.failures == [1, 0])
        #expect(pool.fail(try pool.taken(), at: .zero)?.letters == "AB")
        pool.replace(with: [1, 0], mode: .roundRobin)
        #expect(pool.mode == .roundRobin)
        #expect(pool.failures == [0, 2])
    }

    @Test("A refusal under the list before does not move the credential that took the place of the current one")
    func staleRefusal() throws {
        var pool = Pool(count: 3, mode: .onFirstFailed)
        let leases = [try pool.taken(), try pool.taken(from: 1)]
        pool.replace(with: [1, 2])
        #expect(pool.current == 1)
        #expect(pool.fail(leases[1], at: .zero) == nil)
        #expect(pool.fail(leases[0], at: .zero) == nil)
        #expect(pool.current == 1)
        #expect(pool.failures == [1, 0])
    }

    @Test("What goes by what was refused last goes behind it, and past what is gone with the current one")
    func after() {
        for (start, expected) in [(0, 1), (1, 2), (2, 0)] as [(CredentialID, CredentialID)] {
            var pool = Pool(count: 3, mode: .roundRobin)
            var attempts = CredentialAttempts(.after(start), rules: Self.rules(.roundRobin))
            #expect(attempts.begin(in: &pool) == expected)
        }
        var pool = Pool(count: 3, mode: .roundRobin)
        _ = pool.next()
        pool.replace(with: [0, 2])
        var attempts = CredentialAttempts(.after(1), rules: Self.rules(.roundRobin))
        #expect(attempts.begin(in: &pool) == pool.current)
        #expect(pool.current == 2)
    }
}
