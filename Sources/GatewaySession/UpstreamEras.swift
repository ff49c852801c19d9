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

    /// Whether it speaks the stateless era, and was not asked yet whether it speaks the handshake as well.
    package var isHandshakeOpen: Bool { self.stateless == true && self.handshake == nil }
    /// Whether it speaks the handshake, and its answer to the question about the stateless era was none.
    package var isStatelessOpen: Bool { self.handshake == true && self.stateless == nil }

    /// Learns from the answer to `server/discover`.
    ///
    /// 401, 403, 429, 5xx and silence say nothing of an era (protocol C17).
    package mutating func heard(toDiscover answer: EraProbe.Answer) {
        switch answer {
        case .discovered(let versions), .unsupportedVersion(let versions):
            // Dates compare as text; a list of handshake versions alone is a server between the eras.
            self.statelessVersions = versions.filter { $0 >= EraProbe.firstStatelessVersion }
            self.stateless = !self.statelessVersions.isEmpty
        case .statelessError:
            self.statelessVersions = [EraProbe.firstStatelessVersion]
            self.stateless = true
        case .initialized, .other, .endpoint:
            self.stateless = false
        case .refused, .busy, .silence, .unreachable:
            break
        }
    }

    /// Learns from the answer to `initialize` of a server that speaks the stateless era, or of any that accepts it.
    package mutating func heard(toInitialize answer: EraProbe.Answer) {
        switch answer {
        case .initialized(let version, let hasSession):
            self.handshake = true
            self.issuesSessions = hasSession
            if let version { self.handshakeVersions = [version] }
        case .discovered, .unsupportedVersion, .statelessError, .other, .endpoint:
            self.handshake = false
        case .refused, .busy, .silence, .unreachable:
            break
        }
    }
}
