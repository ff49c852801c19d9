// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewayTestRandom
import Synchronization
import Testing

/// The properties of credentials §4.6 in random orders of events; every seed makes 500 schedules, and each test has
/// 20 seeds.
@Suite("Credentials in random schedules") struct CredentialScheduleTests {
    static let schedules = 500

    @Test("P1 to P6, P8, P9: whatever is answered in whatever order, the promises of a pool hold", arguments: 0..<20)
    func promises(seed: UInt64) {
        var random = SplitMix(seed: seed)
        for number in 0..<Self.schedules {
            var schedule = Schedule(random: random)
            schedule.run(requests: 1 + random.below(8))
            random = schedule.random
            guard schedule.violations.isEmpty else {
                Issue.record("schedule \(number), not kept: \(schedule.violations.sorted()), \(schedule.requests)")
                return
            }
        }
    }

    @Test(
        "A list that changes at any time takes nothing from who stays, and nothing begins with who is gone",
        arguments: 0..<20
    )
    func replacements(seed: UInt64) {
        var random = SplitMix(seed: seed)
        for number in 0..<Self.schedules {
            var schedule = Schedule(random: random)
            schedule.run(requests: 1 + random.below(12), replacements: 1 + random.below(5))
            random = schedule.random
            guard schedule.violations.isEmpty else {
                Issue.record("schedule \(number), not kept: \(schedule.violations.sorted()), \(schedule.requests)")
                return
            }
        }
    }

    @Test("P4: with one good credential nobody fails, and each dead one is left at most once", arguments: 0..<20)
    func deadCredentials(seed: UInt64) {
        var random = SplitMix(seed: seed)
        for number in 0..<Self.schedules {
            let count = 2 + random.below(6)
            let dead = 1 + random.below(count - 1)
            let order = (0..<count).shuffled(using: &random)
            var schedule = Schedule(random: random, mode: .onFirstFailed, count: count, limit: count)
            schedule.dead = Set(order.prefix(dead).map { .minted($0) })
            schedule.run(requests: 1 + random.below(8))
            random = schedule.random
            let pool = schedule.pool
            schedule.check(schedule.moves <= dead, "P4: each dead credential is left at most once")
            schedule.check(
                schedule.requests.allSatisfy { $0.result == .answered(200) && $0.sends.count <= dead + 1 },
                "P4: nobody fails, and each dead credential costs one attempt at most"
            )
            schedule.check(!schedule.dead.contains(pool.slots[pool.cursor].id), "P4: the last cursor is good")
            guard schedule.violations.isEmpty else {
                Issue.record("schedule \(number), not kept: \(schedule.violations.sorted()), \(schedule.requests)")
                return
            }
        }
    }

    @Test("P7: first attempts and homes are spread evenly at every time, whatever becomes of them", arguments: 0..<20)
    func fairness(seed: UInt64) {
        var random = SplitMix(seed: seed)
        for _ in 0..<Self.schedules {
            let count = 1 + random.below(7)
            var pool = CredentialPool(count: count, mode: .roundRobin)
            let rules = CredentialAttempts.Rules(mode: .roundRobin, attemptLimit: 1, retryOn: [401, 403])
            var shares = [[Int]](repeating: Array(repeating: 0, count: count), count: 2)
            var waiting: [ScriptedRequest] = []
            for _ in 0..<30 {
                if !waiting.isEmpty, random.below(2) == 0 {
                    var request = waiting.remove(at: random.below(waiting.count))
                    request.receive(Schedule.answer(using: &random), in: &pool)
                    continue
                }
                let kind = random.below(3)
                let choice: CredentialAttempts.Choice =
                    switch kind {
                    case 0: .turn
                    case 1: .home
                    default: random.below(2) == 0 ? .idle : .session(.minted(random.below(count)))
                    }
                var request = ScriptedRequest(choice, rules: rules)
                guard let slot = request.send(in: &pool) else { continue }
                waiting.append(request)
                guard kind < 2 else { continue }
                shares[kind][slot] += 1
                guard (shares[kind].max() ?? 0) - (shares[kind].min() ?? 0) <= 1 else {
                    Issue.record("shares \(shares[kind])")
                    return
                }
            }
        }
    }

    @Test("P10: two pools that are used by turns behave as each would alone", arguments: 0..<20)
    func independence(seed: UInt64) {
        var random = SplitMix(seed: seed)
        for number in 0..<Self.schedules {
            let seeds = [random.next(), random.next()]
            var alone = seeds.map { Schedule(random: SplitMix(seed: $0)) }
            var together = alone
            for index in alone.indices { alone[index].run(requests: 3) }
            for index in together.indices { together[index].open(requests: 3) }
            while !together.allSatisfy(\.isOver) { together[random.below(2)].step() }
            guard together.map({ PoolObservation($0.pool) }) == alone.map({ PoolObservation($0.pool) }),
                together.map({ $0.requests.map(\.sends) }) == alone.map({ $0.requests.map(\.sends) })
            else {
                Issue.record("schedule \(number), seeds \(seeds)")
                return
            }
        }
    }

    @Test("P14: a reload with an equal list changes nothing that can be seen, then or later", arguments: 0..<20)
    func equalReload(seed: UInt64) {
        var random = SplitMix(seed: seed)
        for number in 0..<Self.schedules {
            let own = random.next()
            var plain = Schedule(random: SplitMix(seed: own))
            var reloaded = plain
            plain.open(requests: 3)
            reloaded.open(requests: 3)
            while !plain.isOver {
                plain.step()
                reloaded.step()
                if random.below(3) == 0 { reloaded.pool.reload(origins: Array(reloaded.pool.slots.indices)) }
                guard PoolObservation(plain.pool) == PoolObservation(reloaded.pool) else {
                    Issue.record("schedule \(number), seed \(own)")
                    return
                }
            }
            #expect(plain.requests.map(\.sends) == reloaded.requests.map(\.sends))
        }
    }

    // MARK: Threads

    /// What one task of C12 met.
    struct Report: Hashable {
        var isOrdered = true
        var isInRange = true
        var leases = 0
    }

    /// Random operations on a pool that others use too; gives back every lease that it took.
    @concurrent
    static func use(_ shared: SharedPool, operations: Int, seed: UInt64) async -> Report {
        var random = SplitMix(seed: seed)
        var held: [CredentialPool.Lease] = []
        var report = Report()
        var seen: UInt64 = 0
        for _ in 0..<operations {
            let choice = random.below(200)
            let now = Duration.nanoseconds(Int64(choice))
            shared.withLock { pool in
                switch choice {
                case 0: pool.reload(origins: Self.origins(for: pool.slots.count, using: &random))
                case 1..<60:
                    if let lease = pool.next() { held.append(lease) }
                case 60..<80:
                    if let lease = pool.next(excluding: [pool.slots[pool.cursor].id]) { held.append(lease) }
                case 80..<100:
                    if let lease = pool.nextHome() { held.append(lease) }
                case 100..<110:
                    if let lease = pool.lease(from: .minted(random.below(12))) { held.append(lease) }
                default:
                    guard let lease = held.popLast() else { return }
                    switch choice % 3 {
                    case 0: pool.succeed(lease, at: now)
                    case 1: _ = pool.fail(lease, at: now)
                    default: pool.release(lease)
                    }
                }
                report.isOrdered = report.isOrdered && pool.generation >= seen
                seen = pool.generation
                report.isInRange =
                    report.isInRange && pool.slots.indices.contains(pool.cursor)
                    && pool.slots.indices.contains(pool.currentPosition)
            }
            report.leases = max(report.leases, held.count)
        }
        for lease in held { shared.withLock { $0.release(lease) } }
        return report
    }

    /// A list of one to ten credentials: some of those that there are, in any order, new ones, and perhaps one twice.
    private static func origins(for count: Int, using random: inout SplitMix) -> [Int?] {
        let kept = (0..<count).shuffled(using: &random).prefix(random.below(count + 1)).map { Int?.some($0) }
        var new = [Int?](repeating: nil, count: max(1 - kept.count, random.below(11 - kept.count)))
        if let twice = kept.first, !new.isEmpty { new[0] = twice }
        return (kept + new).shuffled(using: &random)
    }

    @Test(
        "C12: tasks that use one pool at the same time, and reload it, leave it whole",
        arguments: [CredentialPool.Mode.roundRobin, .onFirstFailed]
    )
    func threads(mode: CredentialPool.Mode) async {
        let shared = SharedPool(CredentialPool(count: 10, mode: mode))
        let reports = await withTaskGroup(of: Report.self, returning: [Report].self) { group in
            for seed in 0..<8 {
                group.addTask { await Self.use(shared, operations: 10_000, seed: UInt64(seed)) }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(reports.count == 8)
        #expect(reports.allSatisfy { $0.isOrdered && $0.isInRange })
        #expect(reports.contains { $0.leases > 10 })
        shared.withLock { pool in
            #expect(pool.slots.allSatisfy { $0.inFlight == 0 })
            #expect(pool.slots.indices.contains(pool.cursor))
        }
    }
}

/// A pool for many threads.
final class SharedPool: Sendable {
    private let pool: Mutex<CredentialPool>
    private let order = Atomic(0)

    init(_ pool: CredentialPool) { self.pool = Mutex(pool) }

    func withLock(_ body: (inout CredentialPool) -> Void) {
        // On Linux a thread that waits for a `Mutex` is given it by the kernel, which the thread sanitizer does not see:
        // it reports a race between any two that held it one after the other. The atomic tells it that order.
        self.pool.withLock { pool in
            _ = self.order.load(ordering: .acquiring)
            body(&pool)
            self.order.store(0, ordering: .releasing)
        }
    }
}
