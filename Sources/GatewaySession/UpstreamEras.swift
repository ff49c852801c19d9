// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayWire

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

    /// What a caller is told that it can ask for in place of a version of `refused`, newest first; never empty.
    ///
    /// `refused` is nil if no era as a whole is refused. Of the handshake all revisions are named, whether or not one was
    /// negotiated yet: `initialize` settles on one that both speak. A caller of the stateless era looks for them here to
    /// learn that it may initialize, and gives up if there is nothing (contract U9).
    package func versions(insteadOf refused: CallerEra?) -> [String] {
        var versions: [String] = []
        if refused != .stateless, self.stateless != false || refused == .handshake {
            versions += self.statelessVersions.isEmpty ? Self.names { $0.isStateless } : self.statelessVersions
        }
        if refused != .handshake, self.handshake != false || refused == .stateless {
            let known = Self.names { !$0.isStateless }
            versions += self.handshakeVersions.filter { !known.contains($0) } + known
        }
        return versions.isEmpty ? Self.names { _ in true } : versions
    }

    private static func names(_ isMeant: (ProtocolRevision) -> Bool) -> [String] {
        ProtocolRevision.allCases.reversed().filter(isMeant).map(\.rawValue)
    }

    /// Whether a request of the stateless era is answered by us because the upstream is known not to speak it.
    package var refusesStateless: Bool { self.stateless == false && self.handshake == true }
    /// Whether an `initialize` is answered by us for the same reason.
    package var refusesHandshake: Bool { self.handshake == false && self.stateless == true }
}
