// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
import GatewayWire

extension ListenAddress {
    /// Reads `:9090`, `host:port` or `[::1]:9090`; a port is required, 0 lets the system choose.
    package init?(text: String) {
        if text.hasPrefix(":") {
            // A host that is only there so that the port is read by the same rules.
            guard let port = HostPort("any\(text)")?.port else { return nil }
            self.init(host: nil, port: port)
        } else {
            guard let hostPort = HostPort(text), let port = hostPort.port else { return nil }
            self.init(host: hostPort.host, port: port)
        }
    }

    /// Whether only this machine can connect.
    var isLoopback: Bool {
        guard let host = self.host else { return false }
        return HostPort(host: host, port: nil, isIPv6Literal: host.contains(":")).isLoopbackName
    }
}
