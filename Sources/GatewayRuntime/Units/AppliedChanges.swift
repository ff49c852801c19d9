// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What the gateway did when another configuration was applied: names of servers, in the order of the configuration.
package struct AppliedChanges: Hashable, Sendable {
    package var added: [String] = []
    package var removed: [String] = []
    package var replaced: [String] = []
    package var tuned: [String] = []
    package var same: [String] = []

    package init() {}
}
