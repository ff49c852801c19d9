// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

@Suite("Callers of Secret.reveal") struct RevealCallersTests {
    /// Every file that may read the value of a secret, under `Sources`, and what for.
    ///
    /// To add one is a decision: the value must go to the party that it is for, or be compared, and nowhere else.
    static let allowed: [String: String] = [
        "GatewayModel/Secret.swift": "declares it",
        "GatewayObservability/Redaction/Redactor.swift": "looks for the values in what is printed",
        "GatewayRuntime/Upstream/RequestHeads.swift": "sends configured headers to the server that they are for",
        "GatewayModel/OutboundProxy.swift": "makes the login for the proxy that it is for",
        "GatewayTransport/OutboundProxy/ProxyHandshakeHandler.swift": "sends the login to the proxy that it is for",
        "GatewayTransport/ConfigurationFetch.swift": "sends --http-headers to the URL that they are for",
        "GatewayModel/ChildEnvironment.swift": "gives a child the variables that are configured for it",
        "GatewayConfiguration/Secrets/SecretFileMemory.swift": "gives the last value of a secret file to the next load",
        "GatewayConfiguration/Text/EnvironmentFile.swift": "gives the variables of --env-file to the load",
        "mcp-proxy/Commands/ReloadCommand.swift": "shows a token of the gateway to its own /_status",
        "GatewayObservability/Redaction/LoadedSecrets.swift": "tells secret values from plain ones",
    ]

    @Test("No file reads the value of a secret but those that are known to")
    func callers() throws {
        let sources = try #require(Repository.root) + "/Sources"
        let files = Repository.swiftFiles(under: sources)
        #expect(files.count > 10)
        let callers = files.filter { Repository.content(of: sources + "/" + $0).contains("reveal") }
        #expect(Set(callers) == Set(Self.allowed.keys))
    }
}
