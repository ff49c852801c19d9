// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// `initialize` of callers: whose session they get upstream, and what they are answered.
extension Gateway {
    /// `initialize` of a caller: its session begins, upstream as the configuration says whose it is.
    ///
    /// `isAsked`: whether the upstream was asked for it whether it speaks the handshake era.
    func initialize(
        _ call: Call,
        _ responder: any DownstreamResponder,
        isAsked: Bool = false
    ) -> (any DownstreamExchange)? {
        let upstream = call.upstream
        let eras = upstream.eras
        if eras.isHandshakeOpen, !isAsked {
            return self.calls.deferred(call, responder, asking: .handshake) { self.initialize($0, $1, isAsked: true) }
        }
        if eras.refusesHandshake { return self.calls.refuseEra(call, responder) }
        guard let entrance = upstream.entrance else {
            return self.calls.deferred(call, responder) { self.initialize($0, $1) }
        }
        return entrance.initialize(call, self.calls, responder)
    }
}
