// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewayTestRandom

/// Requests in random order, changes of the list among them if it is to have any, and a small model of what the pool must
/// make of them.
struct Schedule {
    private struct Flight {
        let credential: CredentialID
        let generation: UInt64
        /// Whether the pool chose the slot, so that a success may make it the current one.
        let isChosen: Bool
    }

    var random: SplitMix
    var pool: CredentialPool
    /// Slots that are always refused while the others are always accepted; until it is set, anything is answered.
    var dead: Set<CredentialID> = [] { didSet { self.isSettled = true } }
    private(set) var requests: [ScriptedRequest] = []
    /// Promises that were not kept.
    private(set) var violations: Set<String> = []
    private(set) var moves = 0
    /// Changes of the list that are still to come.
    private var replacements = 0
    /// The list, and how each request is to end that met a refusal of a credential that was no longer in it.
    private var list: [CredentialID]
    private var gone: [Int: Int] = [:]
    private var forgotten: Set<CredentialID> = []
    private let rules: CredentialAttempts.Rules
    private let retryOn: Set<Int>
    private var isSettled = false
    private var unopened = 0
    private var underWay: [Int] = []
    private var flights: [Int: Flight] = [:]
    private var failures: [CredentialID: Int] = [:]
    private var inFlight: [CredentialID: Int] = [:]
    private var matching = 0
    private var cursor: CredentialID
    private var generation: UInt64 = 0
    private var cursors: [UInt64: CredentialID] = [:]

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
        self.list = self.pool.slots.map(\.id)
        self.cursor = self.list[0]
        self.random = random
    }

    static func answer(using random: inout SplitMix) -> ScriptedAnswer {
        [200, 202, 401, 401, 403, 403, 429, 500, .lost][random.below(9)]
    }

    mutating func check(_ condition: Bool, _ promise: StaticString) {
        if !condition { self.violations.insert("\(promise)") }
    }

    var isOver: Bool { self.unopened == 0 && self.underWay.isEmpty }

    mutating func open(requests count: Int, replacements: Int = 0) {
        self.unopened = count
        self.replacements = replacements
    }

    mutating func run(requests count: Int, replacements: Int = 0) {
        self.open(requests: count, replacements: replacements)
        while !self.isOver { self.step() }
        self.check(self.pool.inFlight.allSatisfy { $0 == 0 }, "P9: all attempts under way are none at the end")
        self.check(self.pool.departing.isEmpty, "P9: nothing is known of a removed credential at the end")
    }

    /// One event: a new request, a request that is sent, or an answer.
    mutating func step() {
        guard !self.isOver else { return }
        if self.replacements > 0, self.random.below(6) == 0 {
            self.replacements -= 1
            self.replace()
            return self.checkPool()
        }
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
        self.checkEnd(of: self.requests[index], afterGone: self.gone[index] ?? 0)
    }

    /// Some of the credentials stay, in any order, and new ones come.
    private mutating func replace() {
        let kept = self.list.shuffled(using: &self.random).prefix(self.random.below(self.list.count + 1))
        let new = max(1 - kept.count, self.random.below(3))
        let origins = (kept.map(Optional.some) + Array(repeating: nil, count: new)).shuffled(using: &self.random)
        let before = self.list
        let states = self.pool.slots
        self.list = self.pool.replace(with: origins)
        self.check(self.list == self.pool.slots.map(\.id), "the list is the one that was given")
        for (origin, id) in zip(origins, self.list) {
            if let origin { self.check(origin == id, "who stays keeps its identity") }
            if origin == nil { self.check(!before.contains(id) && self.failures[id] == nil, "none comes back") }
        }
        self.check(
            states.filter { self.list.contains($0.id) }
                .allSatisfy { old in
                    self.pool.slots.contains {
                        $0.id == old.id && $0.rejections == old.rejections && $0.failures == old.failures
                    }
                },
            "who stays keeps what is known of it"
        )
        for id in before where !self.list.contains(id) && self.inFlight[id] ?? 0 == 0 { self.forgotten.insert(id) }
        guard let place = before.firstIndex(of: self.cursor) else { return }
        let behind = before[place...] + before[..<place]
        let next = behind.first { self.list.contains($0) } ?? self.list[0]
        if next != self.cursor { self.go(to: next) }
    }

    private mutating func choice() -> CredentialAttempts.Choice {
        // What is bound to a slot cannot be had from others, so that somebody fails.
        guard !self.isSettled else { return self.random.below(4) == 0 ? .home : .turn }
        // One that is gone, if any is.
        let known = self.list + self.inFlight.keys.filter { !self.list.contains($0) }.prefix(1)
        let id = known[self.random.below(known.count)]
        return [.turn, .turn, .turn, .home, .idle, .session(id), .after(id), .pinned(id)][self.random.below(8)]
    }

    private mutating func send(_ index: Int) {
        let attempts = self.requests[index].attempts
        let isRetry = !self.requests[index].sends.isEmpty
        let tried = self.requests[index].sends
        self.requests[index].send(in: &self.pool)
        guard let credential = self.requests[index].attempts.credential else {
            // Only what is bound to a credential that is gone finds none, and what tried all that are left.
            if case .pinned(let id) = attempts.choice, !self.list.contains(id) { return }
            self.check(self.list.allSatisfy { tried.contains($0) }, "an attempt that was granted has a slot")
            return
        }
        self.check(self.list.contains(credential), "no attempt begins with a credential that was removed")
        if case .pinned(let id) = attempts.choice { self.check(id == credential, "nobody stands in for another") }
        let isChosen =
            switch attempts.choice {
            case .turn, .home, .after: true
            case .session(let id): isRetry || !self.list.contains(id)
            case .pinned, .idle: false
            }
        self.inFlight[credential, default: 0] += 1
        self.flights[index] = Flight(credential: credential, generation: self.generation, isChosen: isChosen)
    }

    private mutating func answer(_ index: Int) {
        guard let flight = self.flights.removeValue(forKey: index) else { return }
        let credential = flight.credential
        let position = self.list.firstIndex(of: credential)
        self.inFlight[credential, default: 0] -= 1
        if position == nil, self.inFlight[credential] == 0 { self.forgotten.insert(credential) }
        let answer: ScriptedAnswer =
            if !self.isSettled {
                Self.answer(using: &self.random)
            } else if !self.dead.contains(credential) {
                200
            } else {
                self.random.below(2) == 0 ? 401 : 403
            }
        let before = self.requests[index].moves.count
        self.requests[index].receive(answer, in: &self.pool)
        let isMoved = self.requests[index].moves.count > before
        let isMatching = flight.generation == self.generation && self.pool.mode == .onFirstFailed
        guard let position else {
            self.check(!isMoved, "what becomes of a removed credential moves nothing")
            if case .status(let status) = answer, self.retryOn.contains(status) { self.gone[index, default: 0] += 1 }
            return
        }
        switch answer {
        case .status(let status) where self.retryOn.contains(status):
            self.failures[credential, default: 0] += 1
            let moves = isMatching && credential == self.cursor
            self.check(moves == isMoved, "P4: a refusal moves if nobody did since, and only then")
            if moves {
                self.matching += 1
                self.go(to: self.list[(position + 1) % self.list.count])
            }
            if isMoved { self.moves += 1 }
        case .status(200..<300):
            self.failures[credential] = 0
            if isMatching, flight.isChosen, credential != self.cursor { self.go(to: credential) }
            self.check(!isMoved, "P5: a success is no move away from a slot")
        default:
            self.check(!isMoved, "P5: nothing but a refusal is a move")
        }
    }

    private mutating func go(to credential: CredentialID) {
        self.cursor = credential
        self.generation += 1
    }

    private mutating func checkPool() {
        let told = Set(self.pool.takeForgotten())
        self.check(told == self.forgotten, "P9: a removed credential is forgotten with its last attempt, and told once")
        self.forgotten = []
        let pool = self.pool
        let current = pool.slots[pool.cursor].id
        self.check(current == self.cursor, "P5: the cursor goes where refusals, promotions and removals put it")
        self.check(pool.generation == self.generation, "P6: the generation counts the moves")
        let cursor = self.cursors[pool.generation]
        self.check(cursor == nil || cursor == current, "P6: a generation has one cursor")
        self.cursors[pool.generation] = current
        self.check(self.moves <= self.matching, "P4: there are no more moves than refusals that match")
        for slot in pool.slots {
            self.check(slot.failures == self.failures[slot.id] ?? 0, "P8: failures are those since the last success")
        }
        for slot in pool.slots + pool.departing {
            let isUnderWay = slot.inFlight == self.inFlight[slot.id] ?? 0
            self.check(isUnderWay, "P9: attempts under way are those without an outcome")
        }
    }

    private mutating func checkEnd(of request: ScriptedRequest, afterGone gone: Int) {
        let statuses = request.attempts.statuses
        self.check(Set(request.sends).count == request.sends.count, "P1: a request sends each slot once")
        let limit = self.rules.attemptLimit + gone
        self.check(request.sends.count <= limit, "P1: a request has no more attempts than its limit")
        self.check(statuses.allSatisfy { self.retryOn.contains($0) }, "P3: statuses are those that count")
        switch request.result {
        case .exhausted(let listed):
            self.check(listed == statuses && listed.count == request.sends.count, "P2: all attempts are listed")
            self.check(listed.count == limit, "P2: exhausted means all attempts were refused")
        case .rejected(let status):
            let isListed = self.retryOn.contains(status)
            self.check(
                statuses.count == request.sends.count - (isListed ? 0 : 1),
                "P2: the last attempt is listed if it counts"
            )
        case .answered, .lost:
            self.check(statuses.count == request.sends.count - 1, "P2: all attempts but the last are listed")
        case .stranded: break
        case nil: self.check(false, "a request ends")
        }
    }
}
