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
/// What it gives out names a credential by its identity; the tokens themselves stand in ``RequestCredential``.
package final class UpstreamCredentials: Sendable {
    /// How many there were so far: a session that comes to another upstream must not find its old credentials there.
    private static let pools = Atomic<UInt32>(0)

    /// What a request is told that was refused.
    struct Refusal {
        let verdict: CredentialAttempts.Verdict
        /// With what, attempt by attempt.
        let statuses: [Int]
    }

    /// The state of one slot, for people.
    package struct SlotReport: Sendable {
        package let slot: CredentialPool.Slot
        /// What people call it; nil: nothing.
        package let name: String?
        /// Eight hexadecimal digits that name the token in this process, and tell nothing of it.
        package let fingerprint: String
        /// What its last refusal seemed to be about; nil before the first.
        package let lastRefusal: RefusalKind?
        /// What became of it when the gateway itself last used it; nil: never.
        package let probe: CredentialPool.Probe?
    }

    /// What a credential met last that was no success.
    private struct LastRefusal {
        let status: Int
        let kind: RefusalKind
    }

    /// The state of the pool, for people.
    package struct Report: Sendable {
        package let mode: CredentialPool.Mode
        /// The slot of messages that move nothing.
        package let current: Int
        /// Times that the pool went to another credential because of an answer.
        package let rotations: UInt64
        package let slots: [SlotReport]
    }

    /// Lines that say the same: a move is told also when the slot was refused to somebody else a moment ago.
    private struct LogKey: Hashable {
        let credential: CredentialID
        let status: Int
        let isMove: Bool
    }

    /// All that a reload replaces, and the pool, behind one lock, so that they never disagree.
    struct State {
        var pool: CredentialPool
        /// In the order of the pool's slots.
        var members: [CredentialMember]
        var names: [String?]
        var rules: CredentialAttempts.Rules
        /// The labels of removed credentials with which attempts are under way.
        var departing: [CredentialID: String] = [:]

        func member(_ id: CredentialID) -> CredentialMember? { self.members.first { $0.id == id } }
    }

    let upstream: String
    let template: RequestHeads.Template
    let metrics: MetricsRegistry
    let redactor: CurrentRedactor
    let state: Mutex<State>
    private let logger: Logger
    private let slotCount: Atomic<Int>
    private let list = Atomic<UInt64>(0)
    private let isAffine: Atomic<Bool>
    private let pins = Mutex(CredentialPins())
    private let lastRefusals = Mutex<[CredentialID: LastRefusal]>([:])
    private let probes = Mutex<[CredentialID: CredentialPool.Probe]>([:])
    private let throttle = Mutex(LogThrottle<LogKey>())
    private let rotations: CounterFamily<RefusalStatus>
    private let exhausted: Counter
    private let origin = NIODeadline.now()

    init(
        _ configuration: CredentialPoolConfiguration,
        upstream: String,
        template: RequestHeads.Template,
        metrics: MetricsRegistry,
        redactor: CurrentRedactor,
        logger: Logger
    ) {
        let pool = CredentialPool(
            count: configuration.tokens.count,
            mode: configuration.mode,
            number: Self.pools.add(1, ordering: .relaxed).oldValue
        )
        let members = zip(pool.slots, configuration.tokens).enumerated()
            .map { position, entry in
                let label = configuration.label(of: position)
                return CredentialMember(
                    id: entry.0.id,
                    credential: RequestCredential(token: entry.1, template, redactor: redactor),
                    label: label,
                    requests: metrics.counters(.credentialRequests, [upstream, label], by: CredentialOutcome.self)
                )
            }
        self.upstream = upstream
        self.template = template
        self.metrics = metrics
        self.redactor = redactor
        self.logger = logger
        self.slotCount = Atomic(members.count)
        self.isAffine = Atomic(configuration.affinity == .session)
        self.state = Mutex(
            State(pool: pool, members: members, names: configuration.names, rules: configuration.rules)
        )
        self.rotations = metrics.counters(.credentialRotations, [upstream], by: RefusalStatus.self)
        self.exhausted = metrics.counter(.credentialsExhausted, [upstream])
    }

    /// Has the failures of each credential read from this pool at each scrape, whichever they were read from before.
    func show() { self.watchFailures(of: self.state.withLock { $0.members }) }

    private var now: Duration { Duration(NIODeadline.now() - self.origin) }

    // MARK: The list

    /// How many credentials there are.
    var count: Int { self.slotCount.load(ordering: .relaxed) }

    /// The number of the list: another one after each change of it.
    var revision: UInt64 { self.list.load(ordering: .acquiring) }

    /// Whether all requests of a caller's session use one credential while that is accepted.
    var affinity: CredentialPoolConfiguration.Affinity {
        self.isAffine.load(ordering: .relaxed) ? .session : .request
    }

    /// The credentials round the ring, from the current one on.
    var ids: [CredentialID] {
        self.state.withLock { state in
            let ids = state.pool.slots.map(\.id)
            return Array(ids[state.pool.currentPosition...] + ids[..<state.pool.currentPosition])
        }
    }

    /// The credential of messages that move nothing: the gateway's own.
    var current: CredentialID { self.state.withLock { $0.pool.current } }

    var mode: CredentialPool.Mode { self.state.withLock { $0.pool.mode } }

    /// Where a credential is in the list: for people; nil if it is not in it, or no longer.
    func position(of id: CredentialID) -> Int? { self.state.withLock { $0.pool.position(of: id) } }

    func contains(_ id: CredentialID) -> Bool { self.position(of: id) != nil }

    /// What messages of the gateway itself are sent with; nil if the credential is not in the list, or no longer: nothing
    /// new begins with what was removed.
    func credential(_ id: CredentialID) -> RequestCredential? { self.state.withLock { $0.member(id)?.credential } }

    /// Whether a refusal with this status counts, and moves on.
    func retries(on status: Int) -> Bool { self.state.withLock { $0.rules.retries(on: status) } }

    /// Whether every credential was refused when it was last used, by a call or by the gateway itself.
    var areAllRefused: Bool {
        let probes = self.probes.withLock { $0 }
        return self.state.withLock { state in
            state.pool.areAllRefused(probed: state.pool.slots.map { probes[$0.id] })
        }
    }

    /// The list is another one now; what is told of it follows.
    func listChanged(to ids: [CredentialID], affinity: CredentialPoolConfiguration.Affinity) {
        self.slotCount.store(ids.count, ordering: .relaxed)
        self.isAffine.store(affinity == .session, ordering: .relaxed)
        self.list.add(1, ordering: .releasing)
        self.lastRefusals.withLock { $0 = $0.filter { ids.contains($0.key) } }
        self.probes.withLock { $0 = $0.filter { ids.contains($0.key) } }
    }

    // MARK: Attempts

    /// A request that has tried nothing yet.
    func attempts(_ choice: CredentialAttempts.Choice) -> CredentialUse { CredentialUse(choice) }

    /// Takes the credential of the next attempt; nil if the request tried all that it may.
    func begin(_ use: inout CredentialUse?) -> CredentialID? {
        guard let choice = use?.choice else { return nil }
        let (member, forgotten) = self.state.withLock { state in
            if use?.attempts == nil { use?.attempts = CredentialAttempts(choice, rules: state.rules) }
            _ = use?.attempts?.begin(in: &state.pool)
            // Its position is of this moment, so that the member there is its own.
            return (use?.attempts?.position.map { state.members[$0] }, state.pool.takeForgotten())
        }
        self.forget(forgotten)
        guard let member else { return nil }
        // What it used before is let go here and not under the lock: with the last use the redactor forgets a secret.
        use?.member = member
        let position = use?.attempts?.position
        use?.position = position
        return member.id
    }

    /// The upstream accepted the credential.
    func succeeded(_ use: inout CredentialUse?) {
        guard let member = self.underWay(use) else { return }
        let now = self.now
        let forgotten = self.state.withLock { state in
            use?.attempts?.succeeded(at: now, in: &state.pool)
            return state.pool.takeForgotten()
        }
        member.requests.increment(.accepted)
        self.forget(forgotten)
    }

    /// The attempt ended without a verdict on its credential; `outcome` is nil if nothing was sent.
    func release(_ use: inout CredentialUse?, as outcome: CredentialOutcome? = .neutral) {
        guard let member = self.underWay(use) else { return }
        let forgotten = self.state.withLock { state in
            use?.attempts?.release(in: &state.pool)
            return state.pool.takeForgotten()
        }
        if let outcome { member.requests.increment(outcome) }
        self.forget(forgotten)
    }

    /// The upstream answered 401 or 403.
    ///
    /// `isCounted` is false if that was the answer to another's message.
    func refused(
        _ use: inout CredentialUse?,
        with status: Int,
        as kind: RefusalKind = .rejected,
        isCounted: Bool = true
    ) -> Refusal {
        let now = self.now
        guard let member = self.underWay(use), let position = use?.position else {
            return Refusal(verdict: .rejected, statuses: use?.statuses ?? [])
        }
        let (refusal, isKnown, forgotten) = self.state.withLock { state in
            let refusal = use?.attempts?.refused(with: status, isCounted: isCounted, at: now, in: &state.pool)
            return (refusal, state.pool.position(of: member.id) != nil, state.pool.takeForgotten())
        }
        self.forget(forgotten)
        guard let refusal else { return Refusal(verdict: .rejected, statuses: use?.statuses ?? []) }
        if isCounted {
            member.requests.increment(.rejected)
            // What a removed credential meets is nobody's news: its number is another's by now.
            if isKnown {
                self.lastRefusals.withLock { $0[member.id] = LastRefusal(status: status, kind: kind) }
                self.record(status, kind, of: member.id, at: position, refusal.move, now: now)
            }
        }
        if case .exhausted = refusal.verdict { self.exhausted.increment() }
        return Refusal(verdict: refusal.verdict, statuses: use?.statuses ?? [])
    }

    /// What the attempt under way uses; nil if there is none.
    private func underWay(_ use: CredentialUse?) -> CredentialMember? { use?.isUnderWay == true ? use?.member : nil }

    /// With what each credential was last refused, those that were.
    var refusedStatuses: [Int] {
        let refusals = self.lastRefusals.withLock { $0 }
        return self.state.withLock { $0.pool.slots.map(\.id) }.compactMap { refusals[$0]?.status }
    }

    /// A message of the gateway itself met this with a credential: people are told of it, and the pool is not
    /// (credentials §2.3).
    ///
    /// `status` is 401 or 403; nil: the credential was accepted.
    func probed(_ id: CredentialID, refusedWith status: Int?, as kind: RefusalKind = .rejected) {
        guard self.contains(id) else { return }
        let probe = CredentialPool.Probe(isAccepted: status == nil, at: self.now)
        self.probes.withLock { $0[id] = probe }
        guard let status else { return }
        self.lastRefusals.withLock { $0[id] = LastRefusal(status: status, kind: kind) }
    }

    /// One line for each credential that is refused, and one for each move, but not one for each of a thousand calls.
    private func record(
        _ status: Int,
        _ kind: RefusalKind,
        of id: CredentialID,
        at position: Int,
        _ move: CredentialPool.Move?,
        now: Duration
    ) {
        if move != nil { self.rotations.increment(RefusalStatus(status)) }
        let key = LogKey(credential: id, status: status, isMove: move != nil)
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
            metadata["slot"] = "\(position)"
            self.logger.warning("credential rejected", metadata: metadata)
        }
    }

    // MARK: Pins

    /// The credential that made what a message names, if it names anything of the kind and that is still known; nil as
    /// well if the credential was removed, since the upstream can say better than we what that means.
    func pinnedSlot(of message: CallerMessage) -> CredentialID? {
        guard self.count > 1, let key = message.pinKey else { return nil }
        let now = self.now
        return self.pins.withLock { $0.credential(of: key, at: now) }.flatMap { self.contains($0) ? $0 : nil }
    }

    /// Remembers who made what an answer holds.
    func pin(_ keys: [Int], to id: CredentialID) {
        guard !keys.isEmpty else { return }
        let now = self.now
        self.pins.withLock { pins in
            for key in keys { pins.pin(key, to: id, at: now) }
        }
    }

    // MARK: Status

    /// Times are of this object's clock: `age` makes them what people read.
    package var report: Report {
        let refusals = self.lastRefusals.withLock { $0 }
        let probes = self.probes.withLock { $0 }
        return self.state.withLock { state in
            Report(
                mode: state.pool.mode,
                current: state.pool.currentPosition,
                rotations: state.pool.rotations,
                slots: zip(state.pool.slots, state.members).enumerated()
                    .map { position, entry in
                        SlotReport(
                            slot: entry.0,
                            name: state.names.indices.contains(position) ? state.names[position] : nil,
                            fingerprint: entry.1.credential.fingerprint,
                            lastRefusal: refusals[entry.0.id]?.kind,
                            probe: probes[entry.0.id]
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
