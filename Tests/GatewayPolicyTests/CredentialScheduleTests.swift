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

    @Test("P4: with one good credential nobody fails, and each dead one is left at most once", arguments: 0..<20)
    func deadCredentials(seed: UInt64) {
        var random = SplitMix(seed: seed)
        for number in 0..<Self.schedules {
            let count = 2 + random.below(6)
            let dead = 1 + random.below(count - 1)
            let order = (0..<count).shuffled(using: &random)
            var schedule = Schedule(random: random, mode: .onFirstFailed, count: count, limit: count)
            schedule.dead = Set(order.prefix(dead))
            schedule.run(requests: 1 + random.below(8))
            random = schedule.random
            let pool = schedule.pool
            schedule.check(schedule.moves <= dead, "P4: each dead credential is left at most once")
            schedule.check(
                schedule.requests.allSatisfy { $0.result == .answered(200) && $0.sends.count <= dead + 1 },
                "P4: nobody fails, and each dead credential costs one attempt at most"
            )
            schedule.check(!schedule.dead.contains(pool.cursor), "P4: the last cursor is good")
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
                    default: random.below(2) == 0 ? .idle : .session(slot: random.below(count))
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
                    if let lease = pool.next(excluding: [pool.cursor]) { held.append(lease) }
                case 80..<100:
                    if let lease = pool.nextHome() { held.append(lease) }
                case 100..<110:
                    if let lease = pool.lease(from: random.below(12)) { held.append(lease) }
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
                    && pool.slots.indices.contains(pool.current)
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

/// Requests in random order, and a small model of what the pool must make of them.
struct Schedule {
    private struct Flight {
        let slot: Int
        let generation: UInt64
        /// Whether the pool chose the slot, so that a success may make it the current one.
        let isChosen: Bool
    }

    var random: SplitMix
    var pool: CredentialPool
    /// Slots that are always refused while the others are always accepted; until it is set, anything is answered.
    var dead: Set<Int> = [] { didSet { self.isSettled = true } }
    private(set) var requests: [ScriptedRequest] = []
    /// Promises that were not kept.
    private(set) var violations: Set<String> = []
    private(set) var moves = 0
    private let rules: CredentialAttempts.Rules
    private let retryOn: Set<Int>
    private var isSettled = false
    private var unopened = 0
    private var underWay: [Int] = []
    private var flights: [Int: Flight] = [:]
    private var failures: [Int]
    private var inFlight: [Int]
    private var matching = 0
    private var cursor = 0
    private var generation: UInt64 = 0
    private var cursors: [UInt64: Int] = [0: 0]

    init(
        random: SplitMix,
        mode: CredentialPool.Mode? = nil,
        count: Int? = nil,
        limit: Int? = nil
    ) {
        var random = random
        let count = count ?? 1 + random.below(5)
        let mode = mode ?? (random.below(2) == 0 ? .roundRobin : .onFirstFailed)
        self.pool = CredentialPool(count: count, mode: mode)
        let listed: [Set<Int>] = [[401, 403], [401, 403], [401], [403], []]
        self.retryOn = limit == nil ? listed[random.below(5)] : [401, 403]
        self.rules = CredentialAttempts.Rules(
            mode: self.pool.mode,
            attemptLimit: limit ?? 1 + random.below(count),
            retryOn: self.retryOn
        )
        self.failures = Array(repeating: 0, count: count)
        self.inFlight = self.failures
        self.random = random
    }

    static func answer(using random: inout SplitMix) -> ScriptedAnswer {
        [200, 202, 401, 401, 403, 403, 429, 500, .lost][random.below(9)]
    }

    mutating func check(_ condition: Bool, _ promise: StaticString) {
        if !condition { self.violations.insert("\(promise)") }
    }

    var isOver: Bool { self.unopened == 0 && self.underWay.isEmpty }

    mutating func open(requests count: Int) { self.unopened = count }

    mutating func run(requests count: Int) {
        self.open(requests: count)
        while !self.isOver { self.step() }
        self.check(self.pool.inFlight.allSatisfy { $0 == 0 }, "P9: all attempts under way are none at the end")
    }

    /// One event: a new request, a request that is sent, or an answer.
    mutating func step() {
        guard !self.isOver else { return }
        let event = self.random.below(self.underWay.count + min(self.unopened, 2))
        guard event < self.underWay.count else {
            self.unopened -= 1
            self.underWay.append(self.requests.count)
            self.requests.append(ScriptedRequest(self.choice(), rules: self.rules))
            return
        }
        let index = self.underWay[event]
        if self.flights[index] != nil { self.answer(index) } else { self.send(index) }
        self.checkPool()
        guard self.requests[index].result != nil else { return }
        self.underWay.remove(at: event)
        self.checkEnd(of: self.requests[index])
    }

    private mutating func choice() -> CredentialAttempts.Choice {
        // What is bound to a slot cannot be had from others, so that somebody fails.
        guard !self.isSettled else { return self.random.below(4) == 0 ? .home : .turn }
        let slot = self.random.below(self.pool.slots.count)
        return [.turn, .turn, .turn, .home, .idle, .session(slot: slot), .pinned(slot: slot)][self.random.below(7)]
    }

    private mutating func send(_ index: Int) {
        let attempts = self.requests[index].attempts
        let isRetry = !self.requests[index].sends.isEmpty
        guard let slot = self.requests[index].send(in: &self.pool) else {
            self.check(false, "an attempt that was granted has a slot")
            return
        }
        let isChosen =
            switch attempts.choice {
            case .turn, .home: true
            case .session: isRetry
            case .pinned, .idle: false
            }
        self.inFlight[slot] += 1
        self.flights[index] = Flight(slot: slot, generation: self.generation, isChosen: isChosen)
    }

    private mutating func answer(_ index: Int) {
        guard let flight = self.flights.removeValue(forKey: index) else { return }
        self.inFlight[flight.slot] -= 1
        let answer: ScriptedAnswer =
            if !self.isSettled {
                Self.answer(using: &self.random)
            } else if !self.dead.contains(flight.slot) {
                200
            } else {
                self.random.below(2) == 0 ? 401 : 403
            }
        let before = self.requests[index].moves.count
        self.requests[index].receive(answer, in: &self.pool)
        let isMoved = self.requests[index].moves.count > before
        let isMatching = flight.generation == self.generation && self.pool.mode == .onFirstFailed
        switch answer {
        case .status(let status) where self.retryOn.contains(status):
            self.failures[flight.slot] += 1
            let moves = isMatching && flight.slot == self.cursor
            self.check(moves == isMoved, "P4: a refusal moves if nobody did since, and only then")
            if moves {
                self.matching += 1
                self.go(to: (flight.slot + 1) % self.failures.count)
            }
            if isMoved { self.moves += 1 }
        case .status(200..<300):
            self.failures[flight.slot] = 0
            if isMatching, flight.isChosen, flight.slot != self.cursor { self.go(to: flight.slot) }
            self.check(!isMoved, "P5: a success is no move away from a slot")
        default:
            self.check(!isMoved, "P5: nothing but a refusal is a move")
        }
    }

    private mutating func go(to slot: Int) {
        self.cursor = slot
        self.generation += 1
    }

    private mutating func checkPool() {
        let pool = self.pool
        self.check(pool.cursor == self.cursor, "P5: the cursor goes where refusals and promotions put it")
        self.check(pool.generation == self.generation, "P6: the generation counts the moves")
        let cursor = self.cursors[pool.generation]
        self.check(cursor == nil || cursor == pool.cursor, "P6: a generation has one cursor")
        self.cursors[pool.generation] = pool.cursor
        self.check(self.moves <= self.matching, "P4: there are no more moves than refusals that match")
        for slot in pool.slots.indices {
            let isCounted = pool.slots[slot].failures == self.failures[slot]
            self.check(isCounted, "P8: failures are those since the last success")
            let isUnderWay = pool.slots[slot].inFlight == self.inFlight[slot]
            self.check(isUnderWay, "P9: attempts under way are those without an outcome")
        }
    }

    private mutating func checkEnd(of request: ScriptedRequest) {
        let statuses = request.attempts.statuses
        self.check(Set(request.sends).count == request.sends.count, "P1: a request sends each slot once")
        self.check(request.sends.count <= self.rules.attemptLimit, "P1: a request has no more attempts than its limit")
        self.check(statuses.allSatisfy { self.retryOn.contains($0) }, "P3: statuses are those that count")
        switch request.result {
        case .exhausted(let listed):
            self.check(listed == statuses && listed.count == request.sends.count, "P2: all attempts are listed")
            self.check(listed.count == self.rules.attemptLimit, "P2: exhausted means all attempts were refused")
        case .rejected(let status):
            let isListed = self.retryOn.contains(status)
            self.check(
                statuses.count == request.sends.count - (isListed ? 0 : 1),
                "P2: the last attempt is listed if it counts"
            )
        case .answered, .lost:
            self.check(statuses.count == request.sends.count - 1, "P2: all attempts but the last are listed")
        case .stranded, nil:
            self.check(false, "an attempt that was granted has a slot")
        }
    }
}
