// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayObservability
package import GatewayWire

/// What became of a caller's message: the `outcome` label (contract §5).
package enum CallOutcome: String, CaseIterable, Sendable {
    /// The upstream's answer was passed on, whatever it says.
    case ok
    /// The upstream's answer was an HTTP error with a JSON-RPC answer in it.
    case upstreamError = "upstream_error"
    case clientGone = "client_gone"
    case slowReader = "slow_reader"
    case sessionLost = "session_lost"
    /// The gateway refused the message by a rule of its own: era, tool filter.
    case refused
    case unreachable
    case outboundProxy = "outbound_proxy"
    case upstreamTimeout = "upstream_timeout"
    case upstreamClosed = "upstream_closed"
    case upstreamProtocol = "upstream_protocol"
    case upstreamStatus = "upstream_status"
    case credentialsExhausted = "credentials_exhausted"
    case credentialRejected = "credential_rejected"
    case rateLimited = "rate_limited"
    case overloaded
    case childExited = "child_exited"

    init(_ reason: GatewayError.Reason) {
        // Every reason is an outcome of the same name; a test holds the two lists together.
        self = CallOutcome(rawValue: reason.rawValue) ?? .refused
    }
}

/// The position of a case in `allCases`, for enums with text as raw value.
private func positions<Label: CaseIterable & Hashable>(of: Label.Type) -> [Label: Int] {
    Dictionary(uniqueKeysWithValues: zip(Label.allCases, 0...))
}

extension CallOutcome: MetricLabel {
    private static let positions = GatewayRuntime.positions(of: CallOutcome.self)
    package var metricIndex: Int { Self.positions[self] ?? 0 }
    package var metricLabel: String { self.rawValue }
}

extension MCPMethod: MetricLabel {
    private static let positions = GatewayRuntime.positions(of: MCPMethod.self)
    package var metricIndex: Int { Self.positions[self] ?? 0 }
    package var metricLabel: String { self.label }
}

extension GatewayError.Reason: MetricLabel {
    private static let positions = GatewayRuntime.positions(of: GatewayError.Reason.self)
    package var metricIndex: Int { Self.positions[self] ?? 0 }
    package var metricLabel: String { self.rawValue }
}

extension OutboundProxyError.Code: MetricLabel {
    private static let positions = GatewayRuntime.positions(of: OutboundProxyError.Code.self)
    package var metricIndex: Int { Self.positions[self] ?? 0 }
    package var metricLabel: String { self.rawValue }
}

/// Why the listener refused a request before it belonged to an upstream.
package enum RejectionReason: String, CaseIterable, Sendable, MetricLabel {
    case framing
    case headSize = "head_size"
    case targetSize = "target_size"
    case bodySize = "body_size"
    case slow
    case host
    case origin
    case route
    case method
    case token
    case contentType = "content_type"
    case accept
    case message
    case session
    case sessions
    case connections
    case inFlight = "in_flight"
    case draining
    case expectation
    case version
    case notImplemented = "not_implemented"
    case statusAccess = "status_access"
    /// A client looks for OAuth, which there is none of here.
    case oauth

    /// The reason for which a head was refused.
    package init(_ error: HTTP1Error) {
        self =
            switch error.status {
            case 414: .targetSize
            case 417: .expectation
            case 431: .headSize
            case 501: .notImplemented
            case 505: .version
            default: .framing
            }
    }

    private static let positions = GatewayRuntime.positions(of: RejectionReason.self)
    package var metricIndex: Int { Self.positions[self] ?? 0 }
    package var metricLabel: String { self.rawValue }
}

/// The handles of one upstream's metrics.
package struct UpstreamMetrics: Sendable {
    let requests: CounterGrid<MCPMethod, CallOutcome>
    let duration: Histogram
    let failures: CounterFamily<GatewayError.Reason>
    let sessions: Gauge
    let streams: Gauge
    let childRestarts: Counter
    /// Connections of this unit alone; the registry of endpoints shows those of all units of a server together.
    let openConnections = Gauge()
    let idleConnections = Gauge()

    init(_ registry: MetricsRegistry, server: String) {
        self.requests = registry.counters(.requests, [server], by: MCPMethod.self, and: CallOutcome.self)
        self.duration = registry.histogram(.requestDuration, [server])
        self.failures = registry.counters(.upstreamFailures, [server], by: GatewayError.Reason.self)
        self.sessions = registry.gauge(.sessions, [server])
        self.streams = registry.gauge(.streams, [server])
        self.childRestarts = registry.counter(.childRestarts, [server])
    }
}
