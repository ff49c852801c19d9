// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayTransport
import GatewayWire
import Logging

@testable import GatewayRuntime

extension Upstream {
    /// A unit that nothing is ever sent to, for what only has to know one.
    static func untouched(
        on loop: LoopResources,
        buffers: BufferLedger,
        _ configuration: UpstreamConfiguration = Upstream.untouchedConfiguration()
    ) throws -> Upstream {
        var gates = OutboundProxyGates()
        return try UpstreamKinds.makeUpstream(
            configuration,
            in: UpstreamSurroundings(
                listener: ListenerConfiguration(
                    baseOrigin: WebOrigin(scheme: .http, host: "gateway.example", isIPv6Literal: false, port: 80),
                    basePath: "",
                    address: ListenAddress(host: nil, port: 0),
                    name: "test",
                    version: "1"
                ),
                loops: [loop],
                stdio: StdioAccess(environment: [:], guardian: nil),
                connector: TCPConnector(),
                buffers: buffers,
                metrics: MetricsRegistry(),
                redactor: CurrentRedactor(),
                logger: Logger(label: "test")
            ),
            gates: &gates
        )
    }

    static func untouchedConfiguration(timeout: Duration = .seconds(60)) -> UpstreamConfiguration {
        let child = StdioUpstreamConfiguration(
            command: "true",
            arguments: [],
            environment: [],
            workingDirectory: nil,
            inherited: .allowList
        )
        return UpstreamConfiguration(
            name: "untouched",
            route: "untouched",
            transport: .stdio(child),
            timeout: timeout
        )
    }
}
