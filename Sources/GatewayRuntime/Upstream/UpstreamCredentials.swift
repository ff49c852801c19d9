// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
package import GatewayPolicy
import GatewayWire
import Logging
import NIOCore
import Synchronization

/// The credentials of one upstream: the pool that all event loops share, behind one short lock, and what is told of it.
///
/// Slots only: the tokens themselves stand in request heads and nowhere else.
package final class UpstreamCredentials: Sendable {
    /// What a request is told that was refused.
    struct Refusal {
        let verdict: CredentialAttempts.Verdict
        /// With what, attempt by attempt.
        let statuses: [Int]
    }

    /// The state of one slot, for people.
    package struct SlotReport: Sendable {
        package let slot: CredentialPool.Slot
        /// Eight hexadecimal digits that name the token in this process, and tell nothing of it.
        package let fingerprint: String
        /// What its last refusal seemed to be about; nil before the first.
        package let lastRefusal: RefusalKind?
        /// What became of it when the gateway itself last used it; nil: never.
        package let probe: CredentialPool.Probe?
    }

    /// What a slot met last that was no success.
    private struct LastRefusal {
        let status: Int
        let kind: RefusalKind
    }

    /// The state of the pool, for people.
    package struct Report: Sendable {
        package let mode: CredentialPool.Mode
        package let current: Int
        /// Times that the pool went to another credential.
        package let rotations: UInt64
        package let slots: [SlotReport]
    }

    /// Lines that say the same: a move is told also when the slot was refused to somebody else a moment ago.
    private struct LogKey: Hashable {
        let slot: Int
        let status: Int
        let isMove: Bool
    }

    let rules: CredentialAttempts.Rules
    let affinity: CredentialPoolConfiguration.Affinity
    let count: Int
    private let upstream: String
    private let logger: Logger
    private let fingerprints: [String]
    private let pool: Mutex<CredentialPool>
    private let pins = Mutex(CredentialPins())
    private let lastRefusals: Mutex<[LastRefusal?]>
    private let probes: Mutex<[CredentialPool.Probe?]>
    private let throttle = Mutex(LogThrottle<LogKey>())
    private let requests: [CounterFamily<CredentialOutcome>]
    private let rotations: CounterFamily<RefusalStatus>
    private let exhausted: Counter
    private let origin = NIODeadline.now()

    init(_ configuration: CredentialPoolConfiguration, upstream: String, metrics: MetricsRegistry, logger: Logger) {
        let pool = CredentialPool(count: configuration.tokens.count, mode: configuration.mode)
        self.rules = configuration.rules
        self.affinity = configuration.affinity
        self.count = pool.slots.count
        self.upstream = upstream
        self.logger = logger
        self.fingerprints = configuration.tokens.map { Fingerprint.text(of: $0) }
        self.pool = Mutex(pool)
        self.lastRefusals = Mutex(Array(repeating: nil, count: pool.slots.count))
        self.probes = Mutex(Array(repeating: nil, count: pool.slots.count))
        let slots = pool.slots.indices
        self.requests = slots.map {
            metrics.counters(.credentialRequests, [upstream, "\($0)"], by: CredentialOutcome.self)
        }
        self.rotations = metrics.counters(.credentialRotations, [upstream], by: RefusalStatus.self)
        self.exhausted = metrics.counter(.credentialsExhausted, [upstream])
    }

    /// Has the failures of each slot read from this pool at each scrape, whichever they were read from before.
    func show(in metrics: MetricsRegistry) {
        for slot in 0..<self.count {
            metrics.callback(.credentialFailures, [self.upstream, "\(slot)"]) {
                self.pool.withLock { Double($0.slots[slot].failures) }
            }
        }
    }

    private var now: Duration { Duration(NIODeadline.now() - self.origin) }

    /// The slot of messages that move nothing: the gateway's own.
    var current: Int { self.pool.withLock { $0.current } }

    /// Whether every credential was refused when it was last used, by a call or by the gateway itself.
    var areAllRefused: Bool {
        let probes = self.probes.withLock { $0 }
        return self.pool.withLock { $0.areAllRefused(probed: probes) }
    }

    // MARK: Attempts

    /// A request that has tried nothing yet.
    func attempts(_ choice: CredentialAttempts.Choice) -> CredentialAttempts {
        CredentialAttempts(choice, rules: self.rules)
    }

    /// Takes the slot of the next attempt; nil if the request tried all that it may.
    func begin(_ attempts: inout CredentialAttempts?) -> Int? {
        self.pool.withLock { attempts?.begin(in: &$0) }
    }

    /// The upstream accepted the credential.
    func succeeded(_ attempts: inout CredentialAttempts?) {
        guard let slot = attempts?.slot else { return }
        let now = self.now
        self.pool.withLock { attempts?.succeeded(at: now, in: &$0) }
        self.requests[slot].increment(.accepted)
    }

    /// The attempt ended without a verdict on its credential; `outcome` is nil if nothing was sent.
    func release(_ attempts: inout CredentialAttempts?, as outcome: CredentialOutcome? = .neutral) {
        guard let slot = attempts?.slot else { return }
        self.pool.withLock { attempts?.release(in: &$0) }
        if let outcome { self.requests[slot].increment(outcome) }
    }

    /// The upstream answered 401 or 403.
    ///
    /// `isCounted` is false if that was the answer to another's message.
    func refused(
        _ attempts: inout CredentialAttempts?,
        with status: Int,
        as kind: RefusalKind = .rejected,
        isCounted: Bool = true
    ) -> Refusal {
        let now = self.now
        guard let slot = attempts?.slot,
            let refusal = self.pool.withLock({
                attempts?.refused(with: status, isCounted: isCounted, at: now, in: &$0)
            })
        else { return Refusal(verdict: .rejected, statuses: attempts?.statuses ?? []) }
        if isCounted {
            self.requests[slot].increment(.rejected)
            self.lastRefusals.withLock { $0[slot] = LastRefusal(status: status, kind: kind) }
            self.record(status, kind, of: slot, refusal.move, now: now)
        }
        if case .exhausted = refusal.verdict { self.exhausted.increment() }
        return Refusal(verdict: refusal.verdict, statuses: attempts?.statuses ?? [])
    }

    /// With what each credential was last refused, those that were.
    var refusedStatuses: [Int] { self.lastRefusals.withLock { $0.compactMap { $0?.status } } }

    /// A message of the gateway itself met this with the credential of a slot: people are told of it, and the pool is not
    /// (credentials §2.3).
    ///
    /// `status` is 401 or 403; nil: the credential was accepted.
    func probed(_ slot: Int, refusedWith status: Int?, as kind: RefusalKind = .rejected) {
        guard (0..<self.count).contains(slot) else { return }
        let probe = CredentialPool.Probe(isAccepted: status == nil, at: self.now)
        self.probes.withLock { $0[slot] = probe }
        guard let status else { return }
        self.lastRefusals.withLock { $0[slot] = LastRefusal(status: status, kind: kind) }
    }

    /// One line for each credential that is refused, and one for each move, but not one for each of a thousand calls.
    private func record(
        _ status: Int,
        _ kind: RefusalKind,
        of slot: Int,
        _ move: CredentialPool.Move?,
        now: Duration
    ) {
        if move != nil { self.rotations.increment(RefusalStatus(status)) }
        let key = LogKey(slot: slot, status: status, isMove: move != nil)
        guard case .log(let suppressed) = self.throttle.withLock({ $0.decide(key, now: now) }) else { return }
        var metadata: Logger.Metadata = [
            "upstream": "\(self.upstream)", "status": "\(status)", "kind": "\(kind.rawValue)",
        ]
        if suppressed > 0 { metadata["suppressed"] = "\(suppressed)" }
        if let move {
            metadata["from"] = "\(move.from)"
            metadata["to"] = "\(move.to)"
            self.logger.warning("credential rotated", metadata: metadata)
        } else {
            metadata["slot"] = "\(slot)"
            self.logger.warning("credential rejected", metadata: metadata)
        }
    }

    // MARK: Pins

    /// The slot that made what a message names, if it names anything of the kind and that is still known.
    func pinnedSlot(of message: CallerMessage) -> Int? {
        guard self.count > 1, let key = message.pinKey else { return nil }
        let now = self.now
        return self.pins.withLock { $0.slot(of: key, at: now) }
    }

    /// Remembers who made what an answer holds.
    func pin(_ keys: [Int], to slot: Int) {
        guard !keys.isEmpty else { return }
        let now = self.now
        self.pins.withLock { pins in
            for key in keys { pins.pin(key, to: slot, at: now) }
        }
    }

    // MARK: Status

    /// Times are of this object's clock: `age` makes them what people read.
    package var report: Report {
        let refusals = self.lastRefusals.withLock { $0 }
        let probes = self.probes.withLock { $0 }
        return self.pool.withLock { pool in
            Report(
                mode: pool.mode,
                current: pool.current,
                rotations: pool.generation,
                slots: pool.slots.indices.map { index in
                    SlotReport(
                        slot: pool.slots[index],
                        fingerprint: self.fingerprints[index],
                        lastRefusal: refusals[index]?.kind,
                        probe: probes[index]
                    )
                }
            )
        }
    }

    /// Nanoseconds since 1970 of a time in a report.
    package func wallClock(_ time: Duration) -> Int64 {
        let age = self.now - time
        let (seconds, attoseconds) = age.components
        return Platform.wallClock() - seconds * 1_000_000_000 - attoseconds / 1_000_000_000
    }
}

/// What an attempt said of its credential: the `outcome` label.
enum CredentialOutcome: String, CaseIterable, Sendable, MetricLabel {
    case accepted
    case rejected
    /// Anything else, which says nothing of the credential.
    case neutral

    var metricIndex: Int {
        switch self {
        case .accepted: 0
        case .rejected: 1
        case .neutral: 2
        }
    }
    var metricLabel: String { self.rawValue }
}

/// With what a credential was refused: the `status` label.
enum RefusalStatus: String, CaseIterable, Sendable, MetricLabel {
    case unauthorized = "401"
    case forbidden = "403"

    init(_ status: Int) {
        self = status == 401 ? .unauthorized : .forbidden
    }

    var metricIndex: Int { self == .unauthorized ? 0 : 1 }
    var metricLabel: String { self.rawValue }
}

/// A name for a token that is the same throughout this process and means nothing outside (credentials §2.12).
private enum Fingerprint {
    /// Drawn once: whoever has a candidate for the token, but not this, cannot confirm it.
    private static let key: [UInt64] = {
        var generator = SystemRandomNumberGenerator()
        return (0..<4).map { _ in generator.next() }
    }()

    static func text(of token: Secret) -> String {
        var hasher = Hasher()
        hasher.combine(Self.key)
        hasher.combine(token)
        hasher.combine(Self.key)
        let digits = String(UInt32(truncatingIfNeeded: hasher.finalize()), radix: 16)
        return String(repeating: "0", count: 8 - digits.count) + digits
    }
}
