// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy

extension Exchange: UpstreamUse {
    var isStream: Bool { self.message.isListening }
}

extension DeferredExchange: UpstreamUse {
    var isStream: Bool { false }

    func upstreamIsOver() { self.fail(.upstreamIsGone(executed: .no)) }
}

extension StreamConnection: UpstreamUse {
    var isStream: Bool { true }

    /// Its session ends, and it with that.
    func upstreamIsOver() {}
}
