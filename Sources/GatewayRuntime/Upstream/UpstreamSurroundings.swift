// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayTransport
import Logging

/// What every upstream unit of a process stands in.
struct UpstreamSurroundings: Sendable {
    /// As whom the gateway speaks, and its limits.
    var listener: ListenerConfiguration
    let loops: [LoopResources]
    let stdio: StdioAccess
    /// Opens the connections to upstreams and outbound proxies.
    let connector: any Connector
    /// Where everybody counts what is held for peers.
    let buffers: BufferLedger
    let metrics: MetricsRegistry
    /// Masks whatever is a secret in what the process logs.
    let redactor: CurrentRedactor
    let logger: Logger
}
