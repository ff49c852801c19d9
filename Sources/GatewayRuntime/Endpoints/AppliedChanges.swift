// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What another configuration means for a server that is in both.
package enum ServerChange: Sendable {
    /// Nothing changed that means anything.
    case same
    /// What is read for each request changed: sessions, streams, children and connections stay.
    case tuned
    /// How it is reached changed: another unit takes what begins from now on.
    case replaced
}

/// What the gateway did when another configuration was applied: names of servers, in the order of the configuration.
package struct AppliedChanges: Hashable, Sendable {
    package internal(set) var added: [String] = []
    package internal(set) var removed: [String] = []
    package internal(set) var replaced: [String] = []
    package internal(set) var tuned: [String] = []
    package internal(set) var same: [String] = []

    package init() {}
}
