// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayTransport
import GatewayWire
import Logging
import NIOCore
import Synchronization

/// What is counted and logged of calls.
extension Calls {
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
