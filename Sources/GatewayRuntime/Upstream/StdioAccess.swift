// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayStdio

/// What every child needs of us: our environment, and the guard that ends it if we cannot.
package struct StdioAccess: Sendable {
    let environment: [String: String]
    let guardian: ProcessGuard?

    package init(environment: [String: String], guardian: ProcessGuard?) {
        self.environment = environment
        self.guardian = guardian
    }
}
