// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What is known about the ways an upstream speaks (protocol §4).
///
/// Pure.
package struct UpstreamEras: Hashable, Sendable {
    /// Whether the handshake era is spoken; nil: not known.
    package var handshake: Bool?
    /// Whether the stateless era is spoken; nil: not known.
    package var stateless: Bool?
    /// The newest handshake version that it negotiated, and the stateless versions that it listed.
    package var handshakeVersions: [String] = []
    package var statelessVersions: [String] = []
    /// Whether its `initialize` issued a session id; nil: not known.
    package var issuesSessions: Bool?

    package init() {}

    /// Every version it is known to serve.
    package var supportedVersions: [String] { self.statelessVersions + self.handshakeVersions }

    /// Whether a request of the stateless era is answered by us because the upstream is known not to speak it.
    package var refusesStateless: Bool { self.stateless == false && self.handshake == true }
    /// Whether an `initialize` is answered by us for the same reason.
    package var refusesHandshake: Bool { self.handshake == false && self.stateless == true }
}
