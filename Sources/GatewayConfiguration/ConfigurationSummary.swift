// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel

/// What was understood of a configuration, as text for `check`: no secret, no argument, no query.
package struct ConfigurationSummary: Sendable {
    package let snapshot: GatewaySnapshot

    package init(_ snapshot: GatewaySnapshot) {
        self.snapshot = snapshot
    }

    /// Lines of text with a newline at the end.
    package var text: String { "" }
}
