// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire

extension SnapshotBuilder {
    /// Where a gateway listens of which nobody says it: never where others can reach it.
    private static let standardAddress = ListenAddress(host: "127.0.0.1", port: 9090)

    /// The gateway of a file without `mcpProxy`.
    mutating func standardListener(statusTokens: [Secret], in root: Node) -> ListenerConfiguration {
        let address = self.gateway.address ?? Self.standardAddress
        return ListenerConfiguration(
            baseOrigin: self.origin(of: address, in: root),
            basePath: "",
            address: address,
            name: "mcp-proxy",
            version: self.gateway.version,
            advertisedTransport: .streamableHTTP,
            statusTokens: statusTokens
        )
    }

    /// How clients reach an address; where it is that of every interface, this machine's name is as good a guess as any.
    private mutating func origin(of address: ListenAddress, in root: Node) -> WebOrigin {
        let isEveryInterface = address.host.map { ["0.0.0.0", "::"].contains($0) } ?? true
        let host = isEveryInterface ? self.gateway.hostName ?? "localhost" : address.host ?? "localhost"
        let origin = WebOrigin(
            scheme: .http,
            host: host.lowercased(),
            isIPv6Literal: host.contains(":"),
            port: address.port
        )
        if isEveryInterface {
            self.findings.add(
                .baseURLGuessed,
                at: root,
                "clients are told to come to \(ConfigurationSummary.escaped(origin.description)), which may not be how they"
                    + " reach this machine; write it as mcpProxy.baseURL"
            )
        }
        return origin
    }

    /// A file without `mcpProxy` is one of servers, and has some.
    mutating func reportNoServers(of place: Node, in root: Node) {
        self.findings.add(
            .missingKey,
            path: root.path.appending(key: "mcpServers"),
            position: place.position,
            "there is no server and no mcpProxy, so there is nothing to serve; accepted is"
                + #" {"mcpServers": {"NAME": {"command": "PROGRAM"}}}, or a url in place of the command"#
        )
    }
}
