// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

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
    package let bufferedBytes: Gauge
    package let logger: Logger
    package let startedAt: NIODeadline
    let rejections: CounterFamily<RejectionReason>
    private let loops: [GatewayLoop]
    private let supervisors: [UpstreamSupervisor]
    private let inFlight = Atomic<Int>(0)
    private let streams = Atomic<Int>(0)
    private let draining = Atomic<Bool>(false)
    private let throttle = Mutex(LogThrottle<String>())
    private let accessLog: AccessLog
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
        metrics: MetricsRegistry,
        log: LogOutput
    ) throws {
        let logger = log.makeLogger()
        self.accessLog = AccessLog(log)
        self.listener = snapshot.listener
        self.loops = loops
        self.metrics = metrics
        self.logger = logger
        self.startedAt = .now()
        self.sessions = CallerSessions(limits: snapshot.listener.limits)
        self.bufferedBytes = metrics.gauge(.bufferedBytes)
        self.rejections = metrics.counters(.inboundRejected, by: RejectionReason.self)
        var upstreams: [Upstream] = []
        for configuration in snapshot.upstreams where !configuration.isDisabled {
            guard case .http(let http) = configuration.transport else { continue }
            upstreams.append(
                try Upstream(
                    index: upstreams.count,
                    configuration: configuration,
                    http: http,
                    listener: snapshot.listener,
                    metrics: UpstreamMetrics(metrics, server: configuration.name)
                )
            )
        }
        self.upstreams = upstreams
        let identity = EraProbeDriver.Identity(name: snapshot.listener.name, version: snapshot.listener.version)
        self.supervisors = upstreams.map { upstream in
            UpstreamSupervisor(
                upstream,
                on: loops[upstream.index % loops.count],
                identity: identity,
                timeout: snapshot.listener.limits.connectTimeout,
                logger: logger
            )
        }
        for loop in loops {
            loop.eventLoop.execute { [upstreams = self.upstreams] in loop.setUp(upstreams: upstreams) }
        }
    }

    // MARK: Life

    /// Probes every upstream, and goes on doing so until the task is cancelled.
    ///
    /// `concluded` hears the first verdict on each.
    package func run(concluded: @escaping @Sendable (Upstream, EraProbe.Verdict) -> Void) async {
        await withDiscardingTaskGroup { group in
            for supervisor in self.supervisors {
                group.addTask {
                    await supervisor.run { verdict in concluded(supervisor.upstream, verdict) }
                }
            }
            group.addTask { await self.expireSessions() }
            group.addTask { await self.payRetryBudgets() }
        }
    }

    private func payRetryBudgets() async {
        while !Task.isCancelled {
            // Cancelled or not, the loop condition decides.
            try? await Task.sleep(for: .seconds(1))
            for upstream in self.upstreams { upstream.payRetryBudget() }
        }
    }

    private func expireSessions() async {
        let interval = min(max(self.limits.sessionIdle / 4, .milliseconds(250)), .seconds(15))
        while !Task.isCancelled {
            // Cancelled or not, the loop condition decides.
            try? await Task.sleep(for: interval)
            for session in self.sessions.expire() {
                let loop = self.loops[session.principal.upstream % self.loops.count]
                loop.eventLoop.execute { self.end(session, on: loop) }
            }
        }
    }

    /// From now on nothing new is taken; what runs may finish.
    package func beginDraining() {
        self.draining.store(true, ordering: .relaxed)
    }

    /// Ends every session upstream as well, within `limit`, and closes all connections.
    package func close(within limit: Duration) async {
        let sessions = self.sessions.removeAll()
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                await withDiscardingTaskGroup { ends in
                    for session in sessions.prefix(Self.closeLimit) {
                        let loop = self.loops[session.principal.upstream % self.loops.count]
                        ends.addTask { await self.endUpstream(session, on: loop, timeout: TimeAmount(limit)) }
                    }
                }
            }
            // Cancelled when the sessions are ended first.
            group.addTask { try? await Task.sleep(for: limit) }
            await group.next()
            group.cancelAll()
        }
        for loop in self.loops { loop.eventLoop.execute { loop.closePools() } }
    }

    /// Sessions that are ended one by one at the end; more than these are left to the upstreams' own limits.
    private static let closeLimit = 1_000

    private func endUpstream(_ session: CallerSession, on loop: GatewayLoop, timeout: TimeAmount) async {
        await withCheckedContinuation { continuation in
            loop.eventLoop.execute {
                self.endUpstream(session, on: loop, timeout: timeout) { continuation.resume() }
            }
        }
    }

    // MARK: Sessions

    /// Ends a caller's session, here and upstream.
    func end(_ session: CallerSession, on loop: GatewayLoop) {
        if self.sessions.remove(session) {}
        self.endUpstream(session, on: loop, timeout: .seconds(10)) {}
    }

    private func endUpstream(
        _ session: CallerSession,
        on loop: GatewayLoop,
        timeout: TimeAmount,
        _ completion: @escaping () -> Void
    ) {
        let upstream = self.upstreams[session.principal.upstream]
        guard let id = session.close() else { return completion() }
        upstream.metrics.sessions.subtract(1)
        let version = session.revision.map { "MCP-Protocol-Version: \($0.rawValue)\r\n" } ?? ""
        let forwarded = String(decoding: session.principal.forwarded, as: UTF8.self)
        UpstreamCall.send(
            upstream,
            method: .delete,
            on: loop,
            session: id,
            fields: forwarded + version,
            timeout: timeout
        ) { result in
            if case .success(let answer) = result, answer.status < 300 || [404, 405].contains(answer.status) {
                return completion()
            }
            self.logger.debug("upstream session not ended", metadata: ["upstream": "\(upstream.name)"])
            completion()
        }
    }

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
                case .unusable, .unreachable: .notUsable(.unreachable)
                }
            let hasAnswered = verdict != .none && verdict != .unreachable
            return Readiness.Upstream(name: upstream.name, state: state, hasGivenVerdict: hasAnswered)
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

    func takeStream() -> Bool {
        if self.streams.add(1, ordering: .relaxed).newValue <= self.limits.streams { return true }
        self.streams.subtract(1, ordering: .relaxed)
        return false
    }

    func streamEnded() { self.streams.subtract(1, ordering: .relaxed) }

    func supervisor(of upstream: Upstream) -> UpstreamSupervisor { self.supervisors[upstream.index] }

    // MARK: Records

    /// Counts a request that the gateway refused before it belonged to an upstream.
    package func count(rejected reason: RejectionReason) { self.rejections.increment(reason) }

    func finished(_ exchange: Exchange, outcome: CallOutcome) {
        if exchange.message.isListening { self.streamEnded() } else { self.inFlight.subtract(1, ordering: .relaxed) }
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
                attempts: exchange.attempts
            )
        )
    }

    /// Counts and logs an error that the gateway answers; the log is thinned out per upstream and reason.
    func report(_ error: GatewayError, upstream: Upstream, method: MCPMethod) {
        upstream.metrics.failures.increment(error.reason)
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
