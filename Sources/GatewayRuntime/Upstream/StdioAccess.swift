// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
package import GatewayStdio
package import NIOCore

/// What every child needs of us: our environment, and the guard that ends it if we cannot.
package struct StdioAccess: Sendable {
    /// Makes a child on an event loop for a delegate.
    package typealias MakeChild =
        @Sendable (
            StdioUpstreamConfiguration, any EventLoop, any StdioChildDelegate
        ) -> any LineChild

    let environment: [String: String]
    let guardian: ProcessGuard?
    /// What makes a child in place of a process; nil: a child is a process.
    let makeChild: MakeChild?

    package init(environment: [String: String], guardian: ProcessGuard?, makeChild: MakeChild? = nil) {
        self.environment = environment
        self.guardian = guardian
        self.makeChild = makeChild
    }
}
