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
    package let sessions: SessionRegistry
    let capacity: Capacity
    package let metrics: MetricsRegistry
    /// Where everybody counts what is held for callers, upstreams and children.
    package let buffers: BufferLedger
    package let logger: Logger
    package let startedAt: NIODeadline
    let rejections: CounterFamily<RejectionReason>
    private let loops: [LoopResources]
    /// What callers can address, and who works for it.
    package let registry: EndpointRegistry
    private let throttle = Mutex(LogThrottle<String>())
    private let accessLog: AccessLog
    let refusals: RefusalLog
    private let requestCount = Atomic<UInt64>(0)

    /// What callers can address now.
    package var endpoints: Endpoints { self.registry.endpoints }
    package var upstreams: [Upstream] { self.endpoints.all.map(\.upstream) }
    package var listener: ListenerConfiguration { self.endpoints.listener }
    package var isDraining: Bool { self.capacity.isDraining }
    package var inFlightCount: Int { self.capacity.inFlightCount }
    package var streamCount: Int { self.capacity.streamCount }

    /// Sets up everything that needs no peer.
    ///
    /// - Throws: what reading the certificates of an upstream throws; `RouteTable.Collision` if two servers would have the same
    ///   path.
    package init(
        _ snapshot: GatewaySnapshot,
        loops: [LoopResources],
        stdio: StdioAccess,
        metrics: MetricsRegistry,
        log: LogOutput
    ) throws {
        let logger = log.makeLogger()
        self.accessLog = AccessLog(log)
        self.refusals = RefusalLog(log)
        self.loops = loops
        self.metrics = metrics
        self.logger = logger
        self.startedAt = .now()
        self.sessions = SessionRegistry(limits: snapshot.listener.limits)
        self.capacity = Capacity(snapshot.listener.limits)
        self.buffers = BufferLedger(
            total: metrics.gauge(.bufferedBytes),
            limit: snapshot.listener.limits.bufferedBytes
        )
        self.rejections = metrics.counters(.inboundRejected, by: RejectionReason.self)
        let surroundings = UpstreamSurroundings(
            listener: snapshot.listener,
            loops: loops,
            stdio: stdio,
            buffers: self.buffers,
            metrics: metrics,
            redactor: log.redactor,
            logger: logger
        )
        self.registry = try EndpointRegistry(snapshot, in: surroundings, self.sessions, self.capacity)
    }

    // MARK: Life

    /// Probes every upstream, and goes on doing so until the task is cancelled.
    ///
    /// `concluded` hears the first verdict on each.
    package func run(concluded: @escaping @Sendable (Upstream, EraProbe.Verdict) -> Void) async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.registry.run(concluded: concluded) }
            group.addTask { await self.expireSessions() }
            group.addTask { await self.payRetryBudgets() }
        }
    }

    private func payRetryBudgets() async {
        while !Task.isCancelled {
            // Cancelled or not, the loop condition decides.
            try? await Task.sleep(for: .seconds(1))
            for upstream in self.registry.everyUpstream { upstream.payRetryBudget() }
        }
    }

    private func expireSessions() async {
        var memory = MemoryRelease(resident: ProcessMetrics.residentBytes ?? 0, now: self.uptime)
        while !Task.isCancelled {
            let interval = min(max(self.listener.limits.sessionIdle / 4, .milliseconds(250)), .seconds(15))
            // Cancelled or not, the loop condition decides.
            try? await Task.sleep(for: interval)
            let expired = self.sessions.expire()
            await self.sessions.close(expired, within: .seconds(10))
            self.releaseMemory(&memory, isOver: expired.count >= Self.manySessions)
        }
    }

    private static let manySessions = 256

    /// What thousands of calls, or of sessions, needed is not kept for the next thousands.
    ///
    /// `isOver`: many sessions have just ended.
    private func releaseMemory(_ memory: inout MemoryRelease, isOver: Bool) {
        let load = {
            let underWay = self.inFlightCount + self.streamCount
            return self.buffers.bytes + underWay * Self.bytesOfCall
        }
        guard let resident = ProcessMetrics.residentBytes else { return }
        let isDue = memory.isDue(resident: resident, load: load(), now: self.uptime)
        guard isDue || isOver else { return }
        gateway_release_free_memory()
        memory.released(resident: ProcessMetrics.residentBytes ?? resident, load: load(), now: self.uptime)
    }

    /// What a call or a stream needs beside what is counted, about.
    private static let bytesOfCall = 64 * 1024

    /// From now on nothing new is taken; what runs may finish.
    package func beginDraining() { self.capacity.beginDraining() }

    /// Ends every session upstream as well, within `limit`, and closes all connections; children get the time that it
    /// takes to end those that do not listen.
    package func close(within limit: Duration) async {
        await self.registry.stop(within: limit)
    }

    // MARK: State

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

    /// What is held and under way, as `/_status` shows it.
    package var held: HeldState {
        let upstreams = self.registry.everyUpstream
        return HeldState(
            bufferedBytes: self.buffers.bytes - self.buffers.sessionBytes,
            sessionBytes: self.buffers.sessionBytes,
            exchanges: self.loops.reduce(0) { $0 + $1.exchangeCount },
            queued: upstreams.reduce(0) { $0 + $1.admission.waitingCount },
            suspended: self.capacity.suspendedCount,
            upstreamConnections: upstreams.reduce(0) { $0 + $1.connectionsInUse },
            ownConnections: upstreams.reduce(0) { $0 + $1.ownConnectionCount }
        )
    }

    // MARK: Records

    /// Counts a call that is over, and writes its line of the access log; `slot` is that of its last attempt.
    func finished(_ exchange: Exchange, outcome: CallOutcome, slot: Int?) {
        let upstream = exchange.upstream
        let elapsed = NIODeadline.now() - exchange.startedAt
        upstream.metrics.requests.increment(exchange.message.method, outcome)
        upstream.metrics.duration.observe(nanoseconds: elapsed.nanoseconds)
        guard exchange.loop.settings(of: upstream).isLogEnabled, self.accessLog.isEnabled else { return }
        self.accessLog.record(
            AccessEntry(
                server: upstream.name,
                method: exchange.message.method.label,
                outcome: outcome.rawValue,
                status: exchange.reply.sentStatus,
                duration: Duration(elapsed),
                bytesIn: exchange.message.body.readableBytes,
                bytesOut: exchange.reply.sentBytes,
                session: exchange.session.map { SessionDigest($0.id.text) },
                request: self.requestCount.add(1, ordering: .relaxed).newValue,
                attempts: exchange.machine.attempts,
                slot: slot
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
