// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import CGatewayProcess
package import GatewayModel
package import GatewayObservability
package import GatewayPolicy
package import GatewaySession
import GatewayTransport
import GatewayWire
package import Logging
package import NIOCore
import Synchronization

/// The runtime of one configuration: its upstreams, sessions and limits, and the way of a message through them.
package final class Gateway: Sendable {
    package let listener: ListenerConfiguration
    package let upstreams: [Upstream]
    package let sessions: CallerSessions
    package let metrics: MetricsRegistry
    /// Where everybody counts what is held for callers, upstreams and children.
    package let buffers: BufferLedger
    package let logger: Logger
    package let startedAt: NIODeadline
    let rejections: CounterFamily<RejectionReason>
    private let loops: [GatewayLoop]
    /// nil for an upstream that is a stream of messages from the start.
    private let supervisors: [UpstreamSupervisor?]
    /// The sessions that callers share of each upstream that has such over streamable HTTP; else nil.
    private let sharedSessions: [SharedSessions?]
    /// By the index of an upstream and that of one of its inbound tokens: the number of the token's value.
    let tokenOwners: [[Int]]
    private let inFlight = Atomic<Int>(0)
    private let streams = Atomic<Int>(0)
    /// Streams that the gateway has at upstreams for callers beside the first of each.
    private let slotStreams = Atomic<Int>(0)
    private let draining = Atomic<Bool>(false)
    /// Calls whose caller takes no more, so that their upstream is not read.
    private let suspendedCalls = Atomic<Int>(0)
    private let waiters = Atomic<Int>(0)
    private let throttle = Mutex(LogThrottle<String>())
    private let accessLog: AccessLog
    let refusals: RefusalLog
    /// Whether calls of any server are logged.
    let isAnyLogEnabled: Bool
    private let requestCount = Atomic<UInt64>(0)

    package var limits: Limits { self.listener.limits }
    package var isDraining: Bool { self.draining.load(ordering: .relaxed) }
    package var inFlightCount: Int { self.inFlight.load(ordering: .relaxed) }
    package var streamCount: Int { self.streams.load(ordering: .relaxed) }

    /// Sets up everything that needs no peer.
    ///
    /// - Throws: what reading the certificates of an upstream throws.
    package init(
        _ snapshot: GatewaySnapshot,
        loops: [GatewayLoop],
        stdio: StdioAccess,
        metrics: MetricsRegistry,
        log: LogOutput
    ) throws {
        let logger = log.makeLogger()
        self.accessLog = AccessLog(log)
        self.refusals = RefusalLog(log)
        self.listener = snapshot.listener
        self.loops = loops
        self.metrics = metrics
        self.logger = logger
        self.startedAt = .now()
        self.sessions = CallerSessions(limits: snapshot.listener.limits)
        self.buffers = BufferLedger(
            total: metrics.gauge(.bufferedBytes),
            limit: snapshot.listener.limits.bufferedBytes
        )
        self.rejections = metrics.counters(.inboundRejected, by: RejectionReason.self)
        var upstreams: [Upstream] = []
        var gates = OutboundProxyGates()
        for configuration in snapshot.upstreams where !configuration.isDisabled {
            upstreams.append(
                try Upstream(
                    index: upstreams.count,
                    configuration: configuration,
                    listener: snapshot.listener,
                    stdio: stdio,
                    gates: &gates,
                    buffers: self.buffers,
                    metrics: metrics,
                    redactor: log.redactor,
                    logger: logger
                )
            )
        }
        self.upstreams = upstreams
        self.isAnyLogEnabled = upstreams.contains { $0.configuration.isLogEnabled }
        self.tokenOwners = Self.tokenOwners(of: upstreams)
        self.supervisors = upstreams.map { upstream in
            guard case .http(let http) = upstream.transport, http.configuration.kind != .sse else { return nil }
            return UpstreamSupervisor(
                upstream,
                http,
                on: loops[upstream.index % loops.count],
                limits: snapshot.listener.limits
            )
        }
        self.sharedSessions = upstreams.map { upstream in
            guard case .http(let http) = upstream.transport, upstream.isShared else { return nil }
            return SharedSessions(upstream, http, home: loops[upstream.index % loops.count])
        }
        for loop in loops {
            loop.eventLoop.execute { [upstreams = self.upstreams] in loop.setUp(upstreams: upstreams) }
        }
    }

    /// Numbers the values of inbound tokens: one that several upstreams take is one owner of sessions.
    private static func tokenOwners(of upstreams: [Upstream]) -> [[Int]] {
        var numbers: [Secret: Int] = [:]
        return upstreams.map { upstream in
            upstream.configuration.inboundTokens.map { token in
                let number = numbers[token] ?? numbers.count
                numbers[token] = number
                return number
            }
        }
    }

    // MARK: Life

    /// Probes every upstream, and goes on doing so until the task is cancelled.
    ///
    /// `concluded` hears the first verdict on each.
    package func run(concluded: @escaping @Sendable (Upstream, EraProbe.Verdict) -> Void) async {
        await withDiscardingTaskGroup { group in
            for upstream in self.upstreams {
                group.addTask {
                    if let supervisor = self.supervisors[upstream.index] {
                        await supervisor.run { verdict in concluded(upstream, verdict) }
                    } else {
                        concluded(upstream, await self.openLink(of: upstream))
                    }
                }
            }
            group.addTask { await self.expireSessions() }
            group.addTask { await self.payRetryBudgets() }
            for upstream in self.upstreams { group.addTask { await self.ageSharedSessions(of: upstream) } }
        }
    }

    /// Opens what all callers share of an upstream; from then on it looks after itself.
    private func openLink(of upstream: Upstream) async -> EraProbe.Verdict {
        await withCheckedContinuation { continuation in
            let home = self.home(of: upstream)
            home.eventLoop.execute {
                home.links(of: upstream)
                    .start { error in
                        let verdict: EraProbe.Verdict =
                            switch error?.reason {
                            case nil: .usable
                            case .credentialRejected?, .credentialsExhausted?: .rejected
                            case .unreachable?, .outboundProxy?, .upstreamClosed?, .upstreamTimeout?, .overloaded?:
                                .unreachable
                            default: .unusable
                            }
                        continuation.resume(returning: verdict)
                    }
            }
        }
    }

    /// Where what callers share of an upstream lives.
    func home(of upstream: Upstream) -> GatewayLoop { self.loops[upstream.index % self.loops.count] }

    private func payRetryBudgets() async {
        while !Task.isCancelled {
            // Cancelled or not, the loop condition decides.
            try? await Task.sleep(for: .seconds(1))
            for upstream in self.upstreams { upstream.payRetryBudget() }
        }
    }

    private func ageSharedSessions(of upstream: Upstream) async {
        guard let sessions = self.sharedSessions(of: upstream) else { return }
        while !Task.isCancelled {
            // Cancelled or not, the loop condition decides.
            try? await Task.sleep(for: upstream.configuration.timeout)
            sessions.grewOlder()
        }
    }

    private func expireSessions() async {
        let interval = min(max(self.limits.sessionIdle / 4, .milliseconds(250)), .seconds(15))
        var memory = MemoryRelease(resident: ProcessMetrics.residentBytes ?? 0)
        while !Task.isCancelled {
            // Cancelled or not, the loop condition decides.
            try? await Task.sleep(for: interval)
            let expired = self.sessions.expire()
            await self.end(expired)
            self.releaseMemory(&memory, isOver: expired.count >= Self.manySessions)
        }
    }

    private static let manySessions = 256

    /// What thousands of calls, or of sessions, needed is not kept for the next thousands.
    ///
    /// `isOver`: many sessions have just ended.
    private func releaseMemory(_ memory: inout MemoryRelease, isOver: Bool) {
        let load = {
            let underWay = self.inFlight.load(ordering: .relaxed) + self.streams.load(ordering: .relaxed)
            return self.buffers.bytes + underWay * Self.bytesOfCall
        }
        guard let resident = ProcessMetrics.residentBytes else { return }
        let isDue = memory.isDue(resident: resident, load: load())
        guard isDue || isOver else { return }
        gateway_release_free_memory()
        memory.released(resident: ProcessMetrics.residentBytes ?? resident, load: load())
    }

    /// What a call or a stream needs beside what is counted, about.
    private static let bytesOfCall = 64 * 1024
    /// Sessions that are ended upstream at a time: a crowd that leaves together must not come back as a flood.
    private static let endsAtATime = 32

    private func end(_ sessions: [CallerSession]) async {
        await withTaskGroup(of: Void.self) { group in
            for (index, session) in sessions.enumerated() {
                if index >= Self.endsAtATime { await group.next() }
                let upstream = self.upstreams[session.principal.upstream]
                group.addTask { await self.endUpstream(self.close(session), of: upstream, timeout: .seconds(10)) }
            }
        }
    }

    /// From now on nothing new is taken; what runs may finish.
    package func beginDraining() {
        self.draining.store(true, ordering: .relaxed)
    }

    /// Ends every session upstream as well, within `limit`, and closes all connections; children get the time that it
    /// takes to end those that do not listen.
    package func close(within limit: Duration) async {
        let sessions = self.sessions.removeAll()
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                await withDiscardingTaskGroup { ends in
                    for session in sessions.prefix(Self.closeLimit) {
                        let upstream = self.upstreams[session.principal.upstream]
                        ends.addTask {
                            await self.endUpstream(self.close(session), of: upstream, timeout: TimeAmount(limit))
                        }
                    }
                    for session in sessions.dropFirst(Self.closeLimit) { _ = self.close(session) }
                    for shared in self.sharedSessions.flatMap({ $0?.all ?? [] }) {
                        guard let session = shared.close() else { continue }
                        ends.addTask { await self.end(session, of: shared.upstream, timeout: TimeAmount(limit)) }
                    }
                    for loop in self.loops { ends.addTask { await Self.closeLinks(of: loop) } }
                }
            }
            // Cancelled when the sessions are ended first.
            group.addTask { try? await Task.sleep(for: max(limit, Self.childTime)) }
            await group.next()
            group.cancelAll()
        }
        for loop in self.loops { loop.eventLoop.execute { loop.closePools() } }
    }

    /// Sessions that are ended one by one at the end; more than these are left to the upstreams' own limits.
    private static let closeLimit = 1_000
    /// What it takes to end a child that ignores every request to end (faults S12.5).
    private static let childTime = Duration.milliseconds(5_800)

    private static func closeLinks(of loop: GatewayLoop) async {
        await withCheckedContinuation { continuation in
            loop.eventLoop.execute { loop.closeLinks { continuation.resume() } }
        }
    }

    private func endUpstream(_ binding: CallerSession.Binding, of upstream: Upstream, timeout: TimeAmount) async {
        await withCheckedContinuation { continuation in
            let loop = self.home(of: upstream)
            loop.eventLoop.execute {
                self.endUpstream(binding, of: upstream, on: loop, timeout: timeout) { continuation.resume() }
            }
        }
    }

    // MARK: Sessions

    /// Makes a session known; false if every place is taken by sessions in use.
    func open(_ session: CallerSession, on loop: GatewayLoop) -> Bool {
        guard self.sessions.open(session, evicted: { self.end($0, on: loop) }) else { return false }
        self.upstreams[session.principal.upstream].metrics.sessions.add(1)
        session.counted()
        return true
    }

    /// A caller that shut down its side before it was told of its session may be gone for good: unless it uses the session
    /// soon, that ends.
    func endUnlessUsed(_ session: CallerSession, on loop: GatewayLoop) {
        guard !session.isLegacy else { return }
        loop.eventLoop.scheduleTask(in: .seconds(3)) {
            if self.sessions.removeUnused(session) { self.end(session, on: loop) }
        }
    }

    /// Closes a session; returns what it used upstream.
    func close(_ session: CallerSession) -> CallerSession.Binding {
        let (binding, wasCounted) = session.close()
        if wasCounted { self.upstreams[session.principal.upstream].metrics.sessions.subtract(1) }
        return binding
    }

    /// Ends a caller's session, here and upstream.
    func end(_ session: CallerSession, on loop: GatewayLoop) {
        // It may have been taken out before.
        _ = self.sessions.remove(session)
        self.endUpstream(self.close(session), of: self.upstreams[session.principal.upstream], on: loop)
    }

    /// Ends what a session used upstream.
    func endUpstream(
        _ binding: CallerSession.Binding,
        of upstream: Upstream,
        on loop: GatewayLoop,
        timeout: TimeAmount = .seconds(10),
        _ completion: @escaping @Sendable () -> Void = {}
    ) {
        switch binding {
        case .none, .http(nil):
            completion()
        case .http(let sessions?):
            self.end(sessions.slots, of: upstream, on: loop, timeout: timeout, completion)
        case .shared(let caller):
            caller.leave()
            completion()
        case .link(let link, let caller):
            link.execute { link in
                guard link.sharing == .exclusive else {
                    link.leave(caller)
                    return completion()
                }
                link.close { completion() }
            }
        }
    }

    /// Ends sessions at a streamable-HTTP upstream, those that are open; `completion` hears when it has heard of all.
    private func end(
        _ sessions: [HTTPUpstreamSession],
        of upstream: Upstream,
        on loop: GatewayLoop,
        timeout: TimeAmount,
        _ completion: @escaping @Sendable () -> Void
    ) {
        let open = sessions.compactMap { session in session.close().map { (session, $0) } }
        guard !open.isEmpty, case .http(let http) = upstream.transport else { return completion() }
        var left = open.count
        for (session, id) in open {
            SessionOpening.close(id, session, http, of: upstream, on: loop, timeout: timeout) { isGone in
                if !isGone {
                    self.logger.debug("upstream session not ended", metadata: ["upstream": "\(upstream.name)"])
                }
                left -= 1
                if left == 0 { completion() }
            }
        }
    }

    private func end(_ session: HTTPUpstreamSession, of upstream: Upstream, timeout: TimeAmount) async {
        await withCheckedContinuation { continuation in
            let loop = self.home(of: upstream)
            loop.eventLoop.execute {
                self.end([session], of: upstream, on: loop, timeout: timeout) { continuation.resume() }
            }
        }
    }

    /// The sessions that callers share at a streamable-HTTP upstream, by slot; empty if each has its own.
    func sharedSessions(of upstream: Upstream) -> SharedSessions? { self.sharedSessions[upstream.index] }

    // MARK: Places

    /// Whether the gateway should be given traffic (contract §3).
    package var readiness: Readiness {
        let upstreams = self.upstreams.map { upstream in
            let verdict = upstream.currentVerdict
            let state: Readiness.UpstreamState =
                switch verdict {
                case .usable: .usable
                case .rejected: .notUsable(.rejected)
                case .none: .notUsable(.connecting)
                case .exited: .notUsable(.exited)
                case .unusable, .unreachable: .notUsable(.unreachable)
                }
            let hasAnswered = verdict != .none && verdict != .unreachable
            return Readiness.Upstream(
                name: upstream.name,
                state: state,
                hasGivenVerdict: hasAnswered,
                cause: upstream.cause?.code.rawValue
            )
        }
        return Readiness(
            of: upstreams,
            isGraceOver: self.uptime >= self.listener.startupGracePeriod,
            isDraining: self.isDraining
        )
    }

    package var uptime: Duration { Duration(NIODeadline.now() - self.startedAt) }

    func takePlace() -> Bool {
        if self.inFlight.add(1, ordering: .relaxed).newValue <= self.limits.inFlight { return true }
        self.inFlight.subtract(1, ordering: .relaxed)
        return false
    }

    /// One more waits for something to be known or open, also behind the departure of its caller; false if too many do.
    func waiterBegan() -> Bool {
        if self.waiters.add(1, ordering: .relaxed).newValue <= self.limits.inFlight { return true }
        self.waiterEnded()
        return false
    }

    func waiterEnded() { self.waiters.subtract(1, ordering: .relaxed) }

    func leavePlace() { self.inFlight.subtract(1, ordering: .relaxed) }

    func takeStream() -> Bool {
        if self.streams.add(1, ordering: .relaxed).newValue <= self.limits.streams { return true }
        self.streams.subtract(1, ordering: .relaxed)
        return false
    }

    /// One more stream at an upstream, for a slot other than its caller's home; false if there are `limits.streams` of them.
    func takeSlotStream() -> Bool {
        if self.slotStreams.add(1, ordering: .relaxed).newValue <= self.limits.streams { return true }
        self.slotStreamEnded()
        return false
    }

    func slotStreamEnded() { self.slotStreams.subtract(1, ordering: .relaxed) }

    func suspended(_ change: Int) { self.suspendedCalls.add(change, ordering: .relaxed) }

    /// What is held and under way, as `/_status` shows it.
    package var held: HeldState {
        HeldState(
            bufferedBytes: self.buffers.bytes - self.buffers.sessionBytes,
            sessionBytes: self.buffers.sessionBytes,
            exchanges: self.loops.reduce(0) { $0 + $1.exchangeCount },
            queued: self.upstreams.reduce(0) { $0 + $1.admission.waitingCount },
            suspended: self.suspendedCalls.load(ordering: .relaxed),
            upstreamConnections: self.upstreams.reduce(0) { $0 + $1.connectionsInUse },
            ownConnections: self.upstreams.reduce(0) { $0 + $1.ownConnectionCount }
        )
    }

    func streamEnded() { self.streams.subtract(1, ordering: .relaxed) }

    func supervisor(of upstream: Upstream) -> UpstreamSupervisor? { self.supervisors[upstream.index] }

    // MARK: Records

    func finished(_ exchange: CallerExchange, outcome: CallOutcome) {
        let upstream = exchange.upstream
        let elapsed = NIODeadline.now() - exchange.startedAt
        upstream.metrics.requests.increment(exchange.message.method, outcome)
        upstream.metrics.duration.observe(nanoseconds: elapsed.nanoseconds)
        guard upstream.configuration.isLogEnabled, self.accessLog.isEnabled else { return }
        self.accessLog.record(
            AccessEntry(
                server: upstream.name,
                method: exchange.message.method.label,
                outcome: outcome.rawValue,
                status: exchange.sentStatus,
                duration: Duration(elapsed),
                bytesIn: exchange.message.body.readableBytes,
                bytesOut: exchange.sentBytes,
                session: exchange.session.map { SessionDigest($0.id.text) },
                request: self.requestCount.add(1, ordering: .relaxed).newValue,
                attempts: exchange.attempts,
                slot: exchange.usedSlot
            )
        )
    }

    /// Counts and logs an error that the gateway answers; the log is thinned out per upstream and reason.
    func report(_ error: GatewayError, upstream: Upstream, method: MCPMethod) {
        upstream.metrics.failures.increment(error.reason)
        // What an outbound proxy does is logged where it happens.
        guard error.outboundProxy == nil else { return }
        let now = Duration(NIODeadline.now() - self.startedAt)
        let key = "\(upstream.name) \(error.reason.rawValue)"
        guard case .log(let suppressed) = self.throttle.withLock({ $0.decide(key, now: now) }) else { return }
        var metadata: Logger.Metadata = [
            "upstream": "\(upstream.name)",
            "reason": "\(error.reason.rawValue)",
            "cause": "\(error.cause)",
            "detail": "\(error.message)",
            "method": "\(method.label)",
            "executed": "\(error.executed.rawValue)",
            "attempts": "\(error.attempts)",
        ]
        if let status = error.status { metadata["status"] = "\(status)" }
        if suppressed > 0 { metadata["suppressed"] = "\(suppressed)" }
        self.logger.warning("upstream.fail", metadata: metadata)
    }
}
