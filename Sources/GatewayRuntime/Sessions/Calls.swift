// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayTransport
import Logging
import NIOCore
import Synchronization

/// What all calls and streams of a process share: sessions, places, and the books that are kept of them.
///
/// How calls begin and what is told of them is in extensions of it, beside the types that work on them.
final class Calls: Sendable {
    let sessions: SessionRegistry
    let capacity: Capacity
    let metrics: MetricsRegistry
    /// Where everybody counts what is held for callers, upstreams and children.
    let buffers: BufferLedger
    let logger: Logger
    let startedAt = NIODeadline.now()
    /// Chooses what carries the messages of a session whose `initialize` an upstream answered, which issued an id with that, or
    /// did not.
    let makeLeg: @Sendable (Upstream, HTTPAccess, HTTPUpstreamSessions?) -> any Leg
    let rejections: CounterFamily<RejectionReason>
    let throttle = Mutex(LogThrottle<String>())
    let accessLog: AccessLog
    let refusals: RefusalLog
    let requestCount = Atomic<UInt64>(0)
    /// Whether any server has its calls logged, so that what is refused before it belongs to one is.
    let isAnyLogEnabled = Atomic<Bool>(false)

    init(
        _ limits: Limits,
        metrics: MetricsRegistry,
        log: LogOutput,
        makeLeg: @escaping @Sendable (Upstream, HTTPAccess, HTTPUpstreamSessions?) -> any Leg
    ) {
        self.sessions = SessionRegistry(limits: limits)
        self.capacity = Capacity(limits)
        self.metrics = metrics
        self.buffers = BufferLedger(total: metrics.gauge(.bufferedBytes), limit: limits.bufferedBytes)
        self.logger = log.makeLogger()
        self.makeLeg = makeLeg
        self.rejections = metrics.counters(.inboundRejected, by: RejectionReason.self)
        self.accessLog = AccessLog(log)
        self.refusals = RefusalLog(log)
    }

    /// Whether nothing new is taken any more: the process is about to end.
    var isDraining: Bool { self.capacity.isDraining }

    var uptime: Duration { Duration(NIODeadline.now() - self.startedAt) }

    /// Goes by other limits from now on; nothing that is begun has to end for it.
    func tune(_ limits: Limits) {
        self.capacity.tune(limits)
        self.sessions.tune(limits)
        self.buffers.tune(limit: limits.bufferedBytes)
    }
}
