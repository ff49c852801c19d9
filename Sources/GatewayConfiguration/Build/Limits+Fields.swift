// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel

/// Which field of the model each key of `mcpProxy.limits` fills; `connectionsPerAddress` stands alone, as it can be off.
extension Limits {
    static var sizeFields: [(String, WritableKeyPath<Limits, Int>)] {
        [
            ("headBytes", \.headBytes), ("targetBytes", \.targetBytes), ("bodyBytes", \.bodyBytes),
            ("responseBufferBytes", \.responseBufferBytes), ("bufferedBytes", \.bufferedBytes),
            ("eventBytes", \.eventBytes), ("lineBytes", \.lineBytes),
            ("bodyRate", \.bodyRate),
        ]
    }

    static var countFields: [(String, WritableKeyPath<Limits, Int>)] {
        [
            ("headFields", \.headFields), ("jsonDepth", \.jsonDepth),
            ("requestsPerConnection", \.requestsPerConnection), ("connections", \.connections),
            ("inFlight", \.inFlight), ("inFlightPerUpstream", \.inFlightPerUpstream),
            ("queuePerUpstream", \.queuePerUpstream), ("streams", \.streams), ("sessions", \.sessions),
            ("sessionsPerToken", \.sessionsPerToken), ("childrenPerServer", \.childrenPerServer),
            ("batchElements", \.batchElements),
        ]
    }

    static var durationFields: [(String, WritableKeyPath<Limits, Duration>)] {
        [
            ("headTimeout", \.headTimeout), ("bodyTimeout", \.bodyTimeout), ("idleTimeout", \.idleTimeout),
            ("queueWait", \.queueWait), ("sessionIdle", \.sessionIdle), ("connectTimeout", \.connectTimeout),
            ("slowReader", \.slowReader),
        ]
    }
}
