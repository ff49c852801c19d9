// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire
import NIOCore

/// What the machine of a connection takes from the configuration and from the clock of NIO.
extension HTTP1ServerConnection.Limits {
    init(_ limits: Limits) {
        self.init()
        self.headTimeout = limits.headTimeout
        self.bodyTimeout = limits.bodyTimeout
        self.bodyRate = limits.bodyRate
        self.bodyBytes = limits.bodyBytes
        self.idleTimeout = limits.idleTimeout
        self.slowReader = limits.slowReader
        self.requestsPerConnection = limits.requestsPerConnection
    }
}

extension Duration {
    /// The time since the machine started.
    init(since deadline: NIODeadline) {
        self = .nanoseconds(Int64(clamping: deadline.uptimeNanoseconds))
    }
}
