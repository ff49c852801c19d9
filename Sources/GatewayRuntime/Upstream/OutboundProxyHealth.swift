// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
import GatewayObservability
import GatewayTransport
package import GatewayWire
import Logging
import NIOCore
import Synchronization

/// What is known of the outbound proxy of one upstream, told apart from what is known of the upstream: counts, log,
/// status (credentials §3.5).
package final class OutboundProxyHealth: Sendable {
    private struct State {
        var failure: TransportError?
        var failures = 0
        var throttle = LogThrottle<OutboundProxyError.Code>()
    }

    package let proxy: OutboundProxy
    let upstream: String
    private let logger: Logger
    private let counters: CounterFamily<OutboundProxyError.Code>
    private let state = Mutex(State())
    private let origin = NIODeadline.now()

    init(_ proxy: OutboundProxy, upstream: String, metrics: MetricsRegistry, logger: Logger) {
        self.proxy = proxy
        self.upstream = upstream
        self.logger = logger
        self.counters = metrics.counters(.outboundProxyFailures, [upstream], by: OutboundProxyError.Code.self)
    }

    /// What the proxy did last, if that was a failure.
    var lastFailure: TransportError? { self.state.withLock { $0.failure } }

    /// The same for people, with the number of failures since the start.
    package var report: (lastError: OutboundProxyError.Code?, failures: Int) {
        self.state.withLock { ($0.failure?.outboundProxy?.code, $0.failures) }
    }

    /// Hears how an attempt to get through the proxy ended; nil: it got through.
    func observe(_ failure: TransportError?) {
        guard let failure, let error = failure.outboundProxy else {
            return self.state.withLock { $0.failure = nil }
        }
        self.counters.increment(error.code)
        let now = Duration(NIODeadline.now() - self.origin)
        let decision = self.state.withLock { state in
            state.failure = failure
            state.failures += 1
            return state.throttle.decide(error.code, now: now)
        }
        guard case .log(let suppressed) = decision else { return }
        var metadata: Logger.Metadata = [
            "upstream": "\(self.upstream)", "proxy": "\(self.proxy)", "error": "\(error.code.rawValue)",
            "stage": "\(error.stage.rawValue)", "detail": "\(failure.message)",
        ]
        if let status = error.status { metadata["status"] = "\(status)" }
        if suppressed > 0 { metadata["suppressed"] = "\(suppressed)" }
        self.logger.warning("outbound proxy failed", metadata: metadata)
    }
}
