// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy

/// What the upstream makes of one attempt.
enum ScriptedAnswer: Hashable, ExpressibleByIntegerLiteral {
    case status(Int)
    /// A timeout, a reset or the caller's cancellation: there is no status.
    case lost

    init(integerLiteral status: Int) { self = .status(status) }
}

/// One request, as a driver of the machines would run it (credentials §2.4), with answers from a script.
///
/// `send` and `receive` are apart, so that a test decides what happens between a request and its answer.
struct ScriptedRequest {
    enum Result: Hashable {
        /// What the upstream answered went to the caller.
        case answered(Int)
        case lost
        case rejected(Int)
        case exhausted([Int])
        /// It was to be sent again and there was no slot.
        case stranded
    }

    private(set) var attempts: CredentialAttempts
    /// The credentials that the upstream saw, in order.
    private(set) var sends: [CredentialID] = []
    /// Where the pool went because of it.
    private(set) var moves: [String] = []
    private(set) var result: Result?

    init(_ choice: CredentialAttempts.Choice = .turn, rules: CredentialAttempts.Rules) {
        self.attempts = CredentialAttempts(choice, rules: rules)
    }

    /// Sends it with the credential that it is given; returns where that is in the list.
    @discardableResult
    mutating func send(in pool: inout CredentialPool) -> Int? {
        guard let credential = self.attempts.begin(in: &pool) else {
            self.result = .stranded
            return nil
        }
        self.sends.append(credential)
        return pool.position(of: credential)
    }

    /// Its answer arrives; it is to be sent again as long as there is no result.
    mutating func receive(_ answer: ScriptedAnswer, at now: Duration = .zero, in pool: inout CredentialPool) {
        switch answer {
        case .status(let status) where status / 100 == 2:
            self.attempts.succeeded(at: now, in: &pool)
            self.result = .answered(status)
        case .status(let status) where status == 401 || status == 403:
            guard let refusal = self.attempts.refused(with: status, at: now, in: &pool) else { return }
            if let move = refusal.move { self.moves.append(move.letters) }
            switch refusal.verdict {
            case .again: break
            case .rejected: self.result = .rejected(status)
            case .exhausted: self.result = .exhausted(self.attempts.statuses)
            }
        case .status(let status):
            self.attempts.release(in: &pool)
            self.result = .answered(status)
        case .lost:
            self.attempts.release(in: &pool)
            self.result = .lost
        }
    }

    /// Runs it to its end while nothing else happens; `answers` are those to each slot.
    mutating func run(in pool: inout CredentialPool, answers: [ScriptedAnswer]) {
        while self.result == nil, let slot = self.send(in: &pool) {
            self.receive(answers[slot], in: &pool)
        }
    }

    /// The letters of credentials as the vectors write them: A is the first that the pool minted.
    static func letters(_ credentials: [CredentialID]) -> String {
        Self.letters(credentials.map { credential in (0..<26).first { .minted($0) == credential } ?? 25 })
    }

    /// The letters of positions.
    static func letters(_ slots: [Int]) -> String {
        String(String.UnicodeScalarView(slots.map { Unicode.Scalar(UInt8(ascii: "A") + UInt8($0)) }))
    }
}

extension CredentialPool {
    struct NoSlot: Error {}

    /// The lease of the pool's choice, or of a credential, which there must be.
    mutating func taken(from credential: CredentialID? = nil) throws -> Lease {
        guard let lease = if let credential { self.lease(from: credential) } else { self.next() } else {
            throw NoSlot()
        }
        return lease
    }

    var failures: [Int] { self.slots.map(\.failures) }
    var rejections: [Int] { self.slots.map(\.rejections) }
    var inFlight: [Int] { self.slots.map(\.inFlight) }
}

extension CredentialPool.Move {
    var letters: String { ScriptedRequest.letters([self.from, self.to]) }
}

/// All that can be seen of a pool.
struct PoolObservation: Hashable {
    struct Slot: Hashable {
        private let id: CredentialID
        private let failures: Int
        private let rejections: Int
        private let inFlight: Int
        private let lastSuccess: Duration?
        private let lastFailure: Duration?

        init(_ slot: CredentialPool.Slot) {
            self.id = slot.id
            self.failures = slot.failures
            self.rejections = slot.rejections
            self.inFlight = slot.inFlight
            self.lastSuccess = slot.lastSuccess
            self.lastFailure = slot.lastFailure
        }
    }

    private let mode: CredentialPool.Mode
    private let cursor: Int
    private let current: CredentialID
    private let generation: UInt64
    private let slots: [Slot]

    init(_ pool: CredentialPool) {
        self.mode = pool.mode
        self.cursor = pool.cursor
        self.current = pool.current
        self.generation = pool.generation
        self.slots = pool.slots.map(Slot.init)
    }
}
