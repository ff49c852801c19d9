// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire
import Testing

@Suite("Descriptors") struct DescriptorBudgetTests {
    /// A configuration with so many programs, of which callers have children of their own or share them.
    static func snapshot(
        session: Int = 0,
        shared: Int = 0,
        disabled: Int = 0,
        childrenPerServer: Int = 32
    ) throws -> GatewaySnapshot {
        var limits = Limits()
        limits.childrenPerServer = childrenPerServer
        let listener = ListenerConfiguration(
            baseOrigin: WebOrigin(scheme: .http, host: "localhost", isIPv6Literal: false, port: 9090),
            basePath: "",
            address: ListenAddress(host: nil, port: 9090),
            name: "test",
            version: "1",
            limits: limits
        )
        func upstream(_ isolation: UpstreamConfiguration.Isolation, isDisabled: Bool = false) -> UpstreamConfiguration {
            var upstream = UpstreamConfiguration(
                name: "x",
                route: "x",
                transport: .stdio(
                    StdioUpstreamConfiguration(
                        command: "x",
                        arguments: [],
                        environment: [],
                        workingDirectory: nil,
                        inherited: .allowList
                    )
                ),
                isolation: isolation
            )
            upstream.isDisabled = isDisabled
            return upstream
        }
        let upstreams =
            (0..<session).map { _ in upstream(.session) } + (0..<shared).map { _ in upstream(.shared) }
            + (0..<disabled).map { _ in upstream(.session, isDisabled: true) }
        return GatewaySnapshot(listener: listener, upstreams: upstreams)
    }

    @Test("Without children all but what the process needs goes to connections, two each", arguments: [1024, 65_536])
    func plain(available: Int) throws {
        let budget = DescriptorBudget(try Self.snapshot(disabled: 3))
        #expect(budget.reserved == 128)
        #expect(budget.connections(of: available) == (available - 128) / 2)
    }

    @Test("A child takes four, and its server as many children as it may have")
    func children() throws {
        #expect(DescriptorBudget(try Self.snapshot(shared: 1)).reserved == 128 + 2 * 4 + 3)
        #expect(DescriptorBudget(try Self.snapshot(session: 1)).reserved == 128 + 34 * 4 + 3)
        #expect(DescriptorBudget(try Self.snapshot(session: 2, shared: 3)).reserved == 128 + 74 * 4 + 5 * 3)
        let budget = DescriptorBudget(try Self.snapshot(session: 1))
        #expect(budget.connections(of: 1024) == (1024 - 267) / 2)
    }

    @Test(
        "Children that may be, but seldom are, leave half of the descriptors to connections",
        arguments: [1_000, Int.max / 2, Int.max]
    )
    func manyChildren(childrenPerServer: Int) throws {
        let budget = DescriptorBudget(try Self.snapshot(session: 2, childrenPerServer: childrenPerServer))
        #expect(budget.connections(of: 1024) == (1024 - 128) / 4)
    }

    @Test("Some callers are served however few descriptors there are", arguments: [0, 64, 128, 150])
    func few(available: Int) throws {
        #expect(DescriptorBudget(try Self.snapshot(session: 1)).connections(of: available) == 16)
    }
}
