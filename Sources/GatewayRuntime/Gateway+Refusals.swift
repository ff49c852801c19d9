// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
package import NIOCore

/// What is counted and logged of requests that the gateway refuses by itself.
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
        self.rejections.increment(reason)
        self.logRefusal(reason.rawValue, status: status, detail, at: upstream, from: peer)
    }

    /// A message was refused by a rule of ours for its server: the log has it, and it counts as one of that server's.
    func logRefusal(
        _ reason: String,
        status: Int,
        _ detail: String,
        at upstream: Upstream?,
        from peer: SocketAddress?
    ) {
        // One that was for no server concerns whoever logs calls at all.
        self.refusals.record(
            isProminent: upstream?.settings.isLogEnabled ?? self.endpoints.isAnyLogEnabled,
            now: self.uptime,
            RefusedRequest(
                status: status,
                reason: reason,
                detail: detail,
                server: upstream?.name,
                address: peer?.plainAddress ?? "local",
                port: peer?.port
            )
        )
    }
}

extension SocketAddress {
    /// The address without its port; that of IPv4 as such, also where it was mapped into IPv6.
    fileprivate var plainAddress: String? {
        guard let address = self.ipAddress else { return nil }
        return address.hasPrefix("::ffff:") && address.contains(".") ? String(address.dropFirst(7)) : address
    }
}
