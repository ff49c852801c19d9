// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

/// Reads a document.
func load(
    _ text: String,
    environment: [String: String] = [:],
    expandsEnvironment: Bool = true
) -> LoadResult {
    ConfigurationLoader.load(
        bytes: Array(text.utf8),
        sourceName: "config.json",
        environment: environment,
        options: LoadOptions(expandsEnvironment: expandsEnvironment)
    )
}

/// A document with one server, named `one`, whose members are given as JSON; the gateway listens on loopback.
func document(server: String, gateway: String = "") -> String {
    """
    {
    "mcpProxy": {"baseURL": "http://localhost:9090", "addr": "127.0.0.1:9090", "name": "n", "version": "1"\(gateway)},
    "mcpServers": {"one": {
    \(server)
    }}
    }
    """
}

/// A document whose one server is reached by an https url and has these options.
func document(options: String, gatewayOptions: String = "") -> String {
    document(
        server: #""url": "https://up.example.com/mcp", "options": {\#(options)}"#,
        gateway: gatewayOptions.isEmpty ? "" : #", "options": {\#(gatewayOptions)}"#
    )
}

extension LoadResult {
    /// The codes of all findings, in order.
    var codes: [String] { self.findings.map(\.code.rawValue) }

    /// The server named `one`, as far as it was understood.
    var one: UpstreamConfiguration? { self.understood?.upstreams.first { $0.name == "one" } }

    /// That server's HTTP part.
    var http: HTTPUpstreamConfiguration? {
        guard case .http(let http) = self.one?.transport else { return nil }
        return http
    }

    /// That server's pool.
    var pool: CredentialPoolConfiguration? { self.http?.credentials }
}
