// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import CGatewayProcess
package import GatewayModel
package import GatewayObservability
package import GatewayPolicy
package import GatewaySession
package import GatewayTransport
import GatewayWire
package import Logging
package import NIOCore
import Synchronization

/// The runtime of one configuration: its upstreams, sessions and limits, and the way of a message through them.
package final class Gateway: Sendable {
    /// What all its calls and streams share.
    let calls: Calls
    private let loops: [LoopResources]
    /// What callers can address, and who works for it.
    package let registry: EndpointRegistry

    package var sessions: SessionRegistry { self.calls.sessions }
    package var metrics: MetricsRegistry { self.calls.metrics }
    /// Where everybody counts what is held for callers, upstreams and children.
    package var buffers: BufferLedger { self.calls.buffers }
    package var logger: Logger { self.calls.logger }
    package var startedAt: NIODeadline { self.calls.startedAt }
    var capacity: Capacity { self.calls.capacity }

    /// What callers can address now.
    package var endpoints: Endpoints { self.registry.endpoints }
    /// The same on an event loop, which costs no lock there; nil before it has a table.
    package func endpoints(on loop: LoopResources) -> Endpoints? { self.registry.tables[loop] }
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
        connector: any Connector = TCPConnector(),
        metrics: MetricsRegistry,
        log: LogOutput
    ) throws {
        self.calls = Calls(snapshot.listener.limits, metrics: metrics, log: log, makeLeg: UpstreamKinds.leg)
        self.loops = loops
        let surroundings = UpstreamSurroundings(
            listener: snapshot.listener,
            loops: loops,
            stdio: stdio,
            connector: connector,
            buffers: self.calls.buffers,
            metrics: metrics,
            redactor: log.redactor,
            logger: self.calls.logger
        )
        self.registry = try EndpointRegistry(snapshot, in: surroundings, self.calls)
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

    package var uptime: Duration { self.calls.uptime }

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
}

extension Gateway {
    /// A request was refused before it belonged to an upstream.
    ///
    /// `detail` is a constant text of ours, `upstream` the one that it was for, nil where it was for none.
    package func refused(
        _ reason: RejectionReason,
        status: Int,
        _ detail: String,
        at upstream: Upstream?,
        from peer: SocketAddress?
    ) {
        self.calls.refused(reason, status: status, detail, at: upstream, from: peer)
    }
}
