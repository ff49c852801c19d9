// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import Testing

@Suite("Attempts of one request") struct CredentialAttemptsTests {
    typealias Rules = CredentialAttempts.Rules

    /// One request of a vector.
    struct Request {
        /// What the upstream answers to each slot.
        var answers: [ScriptedAnswer]
        /// The slots that the upstream sees.
        var sends: String
        var result: ScriptedRequest.Result
        var choice: CredentialAttempts.Choice

        init(
            _ answers: [ScriptedAnswer],
            _ sends: String,
            _ result: ScriptedRequest.Result,
            _ choice: CredentialAttempts.Choice = .turn
        ) {
            self.answers = answers
            self.sends = sends
            self.result = result
            self.choice = choice
        }
    }

    /// A vector of credentials §4.2 to §4.5: requests one after the other, and what is known afterwards.
    struct Vector: CustomTestStringConvertible {
        var id: String
        var mode: CredentialPool.Mode
        var maxRetries: Int?
        var retryOn: Set<Int> = [401, 403]
        var requests: [Request]
        var failures: [Int]
        /// The slot that the next message without a turn of its own uses.
        var current: Int
        var testDescription: String { self.id }

        var pool: CredentialPool { CredentialPool(count: self.failures.count, mode: self.mode) }

        /// The attempt limit is that of credentials §2.1.
        var rules: Rules {
            let count = self.failures.count
            let limit: Int
            switch self.mode {
            case .static: limit = 1
            case .roundRobin: limit = min(self.maxRetries ?? 1, count)
            case .onFirstFailed: limit = min(self.maxRetries ?? count, count)
            }
            return Rules(mode: self.mode, attemptLimit: limit, retryOn: self.retryOn)
        }
    }

    static func repeated(_ count: Int, _ request: Request) -> [Request] { Array(repeating: request, count: count) }

    // MARK: Round-robin

    static let accepted: [ScriptedAnswer] = [200, 200, 200]

    static let roundRobin: [Vector] = [
        Vector(
            id: "R01",
            mode: .roundRobin,
            requests: [
                Request(accepted, "A", .answered(200)), Request(accepted, "B", .answered(200)),
                Request(accepted, "C", .answered(200)), Request(accepted, "A", .answered(200)),
                Request(accepted, "B", .answered(200)), Request(accepted, "C", .answered(200)),
            ],
            failures: [0, 0, 0],
            current: 0
        ),
        Vector(
            id: "R02",
            mode: .roundRobin,
            requests: [Request([401, 200], "A", .rejected(401)), Request([401, 200], "B", .answered(200))],
            failures: [1, 0],
            current: 0
        ),
        Vector(
            id: "R02 with 403",
            mode: .roundRobin,
            requests: [Request([403, 200], "A", .rejected(403)), Request([403, 200], "B", .answered(200))],
            failures: [1, 0],
            current: 0
        ),
        Vector(
            id: "R03",
            mode: .roundRobin,
            requests: [
                Request([401, 200], "A", .rejected(401)), Request([401, 200], "B", .answered(200)),
                Request([200, 200], "A", .answered(200)),
            ],
            failures: [0, 0],
            current: 1
        ),
        Vector(
            id: "R08",
            mode: .roundRobin,
            maxRetries: 2,
            requests: [Request([401, 200, 200], "AB", .answered(200)), Request(accepted, "C", .answered(200))],
            failures: [1, 0, 0],
            current: 0
        ),
        Vector(
            id: "R08, both refused",
            mode: .roundRobin,
            maxRetries: 2,
            requests: [Request([401, 403, 200], "AB", .exhausted([401, 403]))],
            failures: [1, 1, 0],
            current: 2
        ),
        Vector(
            id: "R08 with maxRetries 1, which is one attempt as without",
            mode: .roundRobin,
            maxRetries: 1,
            requests: [Request([401, 200], "A", .rejected(401))],
            failures: [1, 0],
            current: 1
        ),
        Vector(
            id: "R09",
            mode: .roundRobin,
            maxRetries: 3,
            requests: [Request([403, 403, 403], "ABC", .exhausted([403, 403, 403]))],
            failures: [1, 1, 1],
            current: 0
        ),
        Vector(
            id: "K10 in round-robin: no more attempts than slots",
            mode: .roundRobin,
            maxRetries: 9,
            requests: [Request([401, 401], "AB", .exhausted([401, 401]))],
            failures: [1, 1],
            current: 0
        ),
        Vector(
            id: "R10",
            mode: .roundRobin,
            requests: [Request([.lost, 200], "A", .lost), Request([.lost, 200], "B", .answered(200))],
            failures: [0, 0],
            current: 0
        ),
    ]

    /// R04: for each outcome that says nothing about the credential.
    static let roundRobinNeutral: [Vector] = [ScriptedAnswer.status(429), 500, 503, 407, 404, 302, .lost]
        .map { answer in
            let result: ScriptedRequest.Result =
                if case .status(let status) = answer { .answered(status) } else { .lost }
            return Vector(
                id: "R04 \(answer)",
                mode: .roundRobin,
                maxRetries: 2,
                requests: [Request([answer, 200], "A", result), Request([answer, 200], "B", .answered(200))],
                failures: [0, 0],
                current: 0
            )
        }

    // MARK: On-first-failed

    static let onFirstFailed: [Vector] = [
        Vector(
            id: "F01",
            mode: .onFirstFailed,
            requests: repeated(5, Request(accepted, "A", .answered(200))),
            failures: [0, 0, 0],
            current: 0
        ),
        Vector(
            id: "F02",
            mode: .onFirstFailed,
            requests: [Request([401, 200], "AB", .answered(200))],
            failures: [1, 0],
            current: 1
        ),
        Vector(
            id: "F03, F20",
            mode: .onFirstFailed,
            requests: [Request([401, 200], "AB", .answered(200)), Request([401, 200], "B", .answered(200))],
            failures: [1, 0],
            current: 1
        ),
        Vector(
            id: "F04",
            mode: .onFirstFailed,
            requests: [Request([403, 200], "AB", .answered(200))],
            failures: [1, 0],
            current: 1
        ),
        Vector(
            id: "F05",
            mode: .onFirstFailed,
            requests: [Request([401, 403, 401], "ABC", .exhausted([401, 403, 401]))],
            failures: [1, 1, 1],
            current: 0
        ),
        Vector(
            id: "F06",
            mode: .onFirstFailed,
            requests: [
                Request([401, 403, 401], "ABC", .exhausted([401, 403, 401])), Request(accepted, "A", .answered(200)),
            ],
            failures: [0, 1, 1],
            current: 0
        ),
        Vector(
            id: "F07",
            mode: .onFirstFailed,
            maxRetries: 2,
            requests: [
                Request([401, 401, 200], "AB", .exhausted([401, 401])),
                Request([401, 401, 200], "C", .answered(200)),
            ],
            failures: [1, 1, 0],
            current: 2
        ),
        Vector(
            id: "F08",
            mode: .onFirstFailed,
            maxRetries: 1,
            requests: [Request([401, 200], "A", .exhausted([401]))],
            failures: [1, 0],
            current: 1
        ),
        Vector(
            id: "F09, S15",
            mode: .onFirstFailed,
            requests: [Request([401, 500, 200], "AB", .answered(500))],
            failures: [1, 0, 0],
            current: 1
        ),
        Vector(
            id: "F10, F15",
            mode: .onFirstFailed,
            requests: [Request([401, .lost, 200], "AB", .lost)],
            failures: [1, 0, 0],
            current: 1
        ),
        Vector(
            id: "F16",
            mode: .onFirstFailed,
            requests: [Request([401, 401, 200], "ABC", .answered(200))],
            failures: [1, 1, 0],
            current: 2
        ),
        Vector(
            id: "F17",
            mode: .static,
            requests: [Request([401], "A", .rejected(401))],
            failures: [1],
            current: 0
        ),
        Vector(
            id: "F17, accepted again",
            mode: .static,
            requests: [
                Request([401], "A", .rejected(401)), Request([403], "A", .rejected(403)),
                Request([200], "A", .answered(200)),
            ],
            failures: [0],
            current: 0
        ),
        Vector(
            id: "F21: only the stream's credential can be asked, and its refusal moves the pool",
            mode: .onFirstFailed,
            requests: [
                Request([401, 200], "A", .rejected(401), .pinned(0)), Request([401, 200], "B", .answered(200)),
            ],
            failures: [1, 0],
            current: 1
        ),
        Vector(
            id: "F22",
            mode: .onFirstFailed,
            maxRetries: 1,
            requests: [
                Request([200, 401], "B", .exhausted([401]), .session(1)),
                Request([200, 200], "B", .answered(200), .session(1)),
            ],
            failures: [0, 0],
            current: 0
        ),
        Vector(
            id: "F27: 403 is not listed",
            mode: .onFirstFailed,
            retryOn: [401],
            requests: [Request([403, 200], "A", .rejected(403))],
            failures: [0, 0],
            current: 0
        ),
        Vector(
            id: "F27: 401 is listed",
            mode: .onFirstFailed,
            retryOn: [401],
            requests: [Request([401, 200], "AB", .answered(200))],
            failures: [1, 0],
            current: 1
        ),
        Vector(
            id: "F27: the second is not listed",
            mode: .onFirstFailed,
            retryOn: [401],
            requests: [Request([401, 403, 200], "AB", .rejected(403))],
            failures: [1, 0, 0],
            current: 1
        ),
        Vector(
            id: "F27 with [403]",
            mode: .onFirstFailed,
            retryOn: [403],
            requests: [Request([401, 200], "A", .rejected(401)), Request([403, 200], "AB", .answered(200))],
            failures: [1, 0],
            current: 1
        ),
        Vector(
            id: "F27 with none",
            mode: .onFirstFailed,
            retryOn: [],
            requests: [Request([401, 200], "A", .rejected(401)), Request([403, 200], "A", .rejected(403))],
            failures: [0, 0],
            current: 0
        ),
    ]

    /// F11, F12, F19, F22, F23: what says nothing about the credential, or that it is good, moves nothing.
    static let onFirstFailedNeutral: [Vector] = [
        ScriptedAnswer.status(429), 407, 302, 404, 400, 500, 503, 200, 202, 299, .lost,
    ]
    .map { answer in
        let result: ScriptedRequest.Result = if case .status(let status) = answer { .answered(status) } else { .lost }
        return Vector(
            id: "F11, F12, F19, F22, F23 \(answer)",
            mode: .onFirstFailed,
            requests: repeated(2, Request([answer, 200], "A", result)),
            failures: [0, 0],
            current: 0
        )
    }

    // MARK: Sessions and pins

    static let sessions: [Vector] = [
        Vector(
            id: "S01, S05: once its slot is refused a session goes on with those after it",
            mode: .onFirstFailed,
            requests: [Request([401, 401, 200], "ABC", .answered(200), .session(0))],
            failures: [1, 1, 0],
            current: 2
        ),
        Vector(
            id: "S04",
            mode: .onFirstFailed,
            requests: [
                Request([401, 200, 200], "AB", .answered(200), .session(0)),
                Request([401, 401, 200], "BC", .answered(200), .session(1)),
            ],
            failures: [1, 1, 0],
            current: 2
        ),
        Vector(
            id: "S04, a session that comes late takes the slot that the pool found, not the next of the list",
            mode: .onFirstFailed,
            requests: [
                Request([401, 401, 200, 200], "ABC", .answered(200)),
                Request([401, 401, 200, 200], "AC", .answered(200), .session(0)),
            ],
            failures: [2, 1, 0, 0],
            current: 2
        ),
        Vector(
            id: "S08",
            mode: .roundRobin,
            requests: [
                Request([200, 200], "A", .answered(200)), Request([200, 200], "B", .answered(200)),
                Request([200, 200], "A", .answered(200)), Request([200, 200], "B", .answered(200)),
            ],
            failures: [0, 0],
            current: 0
        ),
        Vector(
            id: "S09: a pin does not wait for its turn, nor does it use one",
            mode: .roundRobin,
            requests: [
                Request([200, 200], "A", .answered(200)), Request([200, 200], "A", .answered(200), .pinned(0)),
                Request([200, 200], "B", .answered(200)),
            ],
            failures: [0, 0],
            current: 0
        ),
        Vector(
            id: "S10",
            mode: .roundRobin,
            maxRetries: 2,
            requests: [
                Request([200, 200], "A", .answered(200)), Request([401, 200], "A", .rejected(401), .pinned(0)),
            ],
            failures: [1, 0],
            current: 1
        ),
        Vector(
            id: "S10 in on-first-failed",
            mode: .onFirstFailed,
            requests: [Request([200, 403], "B", .rejected(403), .pinned(1))],
            failures: [0, 1],
            current: 0
        ),
        Vector(
            id: "S11",
            mode: .roundRobin,
            requests: [Request([200, 200], "A", .answered(200), .home)]
                + repeated(4, Request([200, 200], "A", .answered(200), .session(0))),
            failures: [0, 0],
            current: 0
        ),
        Vector(
            id: "S11 in on-first-failed: a slot away from the cursor is not left as long as it is accepted",
            mode: .onFirstFailed,
            requests: repeated(4, Request([200, 200], "B", .answered(200), .session(1))),
            failures: [0, 0],
            current: 0
        ),
        Vector(
            id: "S11 with three attempts: round the ring from the session's slot, and no turn is used",
            mode: .roundRobin,
            maxRetries: 3,
            requests: [Request([200, 401, 401], "BCA", .answered(200), .session(1))],
            failures: [0, 1, 1],
            current: 0
        ),
        Vector(
            id: "S13",
            mode: .roundRobin,
            requests: [
                Request([200, 200], "A", .answered(200), .home), Request([202, 200], "A", .answered(202), .idle),
                Request([200, 200], "A", .answered(200), .session(0)),
                Request([200, 200], "A", .answered(200)), Request([200, 200], "B", .answered(200)),
                Request([200, 200], "A", .answered(200)), Request([200, 200], "B", .answered(200)),
            ],
            failures: [0, 0],
            current: 0
        ),
        Vector(
            id: "a refused home is found again among the others",
            mode: .roundRobin,
            maxRetries: 2,
            requests: [
                Request([401, 200, 200], "AB", .answered(200), .home), Request(accepted, "C", .answered(200), .home),
                Request(accepted, "A", .answered(200)),
            ],
            failures: [0, 0, 0],
            current: 1
        ),
        Vector(
            id: "what has no session and no turn uses the current slot, and may move it by being refused",
            mode: .onFirstFailed,
            requests: [
                Request([401, 200], "AB", .answered(200), .idle), Request([401, 202], "B", .answered(202), .idle),
            ],
            failures: [1, 0],
            current: 1
        ),
    ]

    @Test(
        "Requests are sent with the slots of the vector and end as it says",
        arguments: roundRobin + roundRobinNeutral + onFirstFailed + onFirstFailedNeutral + sessions
    )
    func vector(_ vector: Vector) {
        var pool = vector.pool
        for (index, expected) in vector.requests.enumerated() {
            var request = ScriptedRequest(expected.choice, rules: vector.rules)
            request.run(in: &pool, answers: expected.answers)
            #expect(ScriptedRequest.letters(request.sends) == expected.sends, "request \(index)")
            #expect(request.result == expected.result, "request \(index)")
        }
        #expect(pool.failures == vector.failures)
        #expect(pool.currentPosition == vector.current)
        #expect(pool.inFlight.allSatisfy { $0 == 0 })
    }

    // MARK: Leases

    static let both = Rules(mode: .onFirstFailed, attemptLimit: 2, retryOn: [401, 403])

    @Test("F18: only the first outcome of an attempt counts", arguments: [200, 401, 500])
    func secondOutcome(first: Int) {
        var pool = CredentialPool(count: 3, mode: .onFirstFailed)
        var request = ScriptedRequest(rules: Self.both)
        request.send(in: &pool)
        request.receive(.status(first), in: &pool)
        let after = PoolObservation(pool)
        #expect(pool.generation == (first == 401 ? 1 : 0))
        #expect(pool.failures == [first == 401 ? 1 : 0, 0, 0])
        let statuses = request.attempts.statuses
        for answer in [ScriptedAnswer.status(401), 200, 500, .lost] { request.receive(answer, in: &pool) }
        #expect(PoolObservation(pool) == after)
        #expect(request.attempts.statuses == statuses)
    }

    @Test("Before the first attempt there is nothing to report")
    func nothingBegun() {
        var pool = CredentialPool(count: 2, mode: .onFirstFailed)
        let before = PoolObservation(pool)
        var attempts = CredentialAttempts(.turn, rules: Self.both)
        #expect(attempts.credential == nil)
        #expect(attempts.refused(with: 401, at: .zero, in: &pool) == nil)
        attempts.succeeded(at: .zero, in: &pool)
        attempts.release(in: &pool)
        #expect(PoolObservation(pool) == before)
    }

    @Test("An attempt that is begun anew gives back the slot of the one before")
    func begunAnew() {
        var pool = CredentialPool(count: 2, mode: .onFirstFailed)
        var attempts = CredentialAttempts(.turn, rules: Self.both)
        #expect(attempts.begin(in: &pool) == 0)
        #expect(attempts.begin(in: &pool) == 0)
        #expect(pool.inFlight == [1, 0])
        #expect(attempts.credential == 0)
        attempts.release(in: &pool)
        #expect(pool.inFlight == [0, 0])
        #expect(attempts.credential == nil)
    }

    @Test("S07: a refusal that another request met is an attempt of this one too, and is counted once")
    func countedOnce() throws {
        var pool = CredentialPool(count: 2, mode: .onFirstFailed)
        var one = CredentialAttempts(.turn, rules: Self.both)
        var other = CredentialAttempts(.turn, rules: Self.both)
        #expect(one.begin(in: &pool) == 0)
        #expect(other.begin(in: &pool) == 0)
        let refusal = try #require(one.refused(with: 401, at: .zero, in: &pool))
        #expect(refusal.move?.letters == "AB")
        let echo = try #require(other.refused(with: 401, isCounted: false, at: .zero, in: &pool))
        #expect(echo.verdict == .again)
        #expect(echo.move == nil)
        #expect(other.statuses == [401])
        #expect(pool.failures == [1, 0])
        #expect(pool.inFlight == [0, 0])
        #expect(other.begin(in: &pool) == 1)
        #expect(other.refused(with: 403, isCounted: false, at: .zero, in: &pool)?.verdict == .exhausted)
        #expect(other.statuses == [401, 403])
    }

    @Test("F02: the refusal that moved the pool says between which slots")
    func movesAreTold() {
        var pool = CredentialPool(count: 3, mode: .onFirstFailed)
        var request = ScriptedRequest(rules: Rules(mode: .onFirstFailed, attemptLimit: 3, retryOn: [401, 403]))
        request.run(in: &pool, answers: [401, 403, 200])
        #expect(request.moves == ["AB", "BC"])
    }

    @Test("A refusal is noted at its time, and a success at its own")
    func times() {
        var pool = CredentialPool(count: 2, mode: .onFirstFailed)
        var request = ScriptedRequest(rules: Self.both)
        request.send(in: &pool)
        request.receive(401, at: .seconds(1), in: &pool)
        request.send(in: &pool)
        request.receive(200, at: .seconds(2), in: &pool)
        #expect(pool.slots.map(\.lastFailure) == [.seconds(1), nil])
        #expect(pool.slots.map(\.lastSuccess) == [nil, .seconds(2)])
    }
}
