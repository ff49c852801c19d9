// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewayStdio
import GatewayWire
import Logging
import NIOCore

/// The credential that a channel used, and whether it was refused.
struct LinkCredential {
    let slot: CredentialID
    /// Its number for people.
    let position: Int?
    let isRefused: Bool
    /// Whether callers ever used the link.
    var wasOpen = false
}

/// What every link of one upstream goes by.
final class LinkSettings: Sendable {
    let upstream: Upstream
    let identity: GatewayIdentity
    let kind: any LinkKind
    let logger: Logger

    init(_ upstream: Upstream, _ kind: any LinkKind) {
        self.upstream = upstream
        self.identity = upstream.identity
        self.kind = kind
        self.logger = upstream.surroundings.logger
    }

    /// How long a server may take to answer `initialize`.
    var openingTimeout: TimeAmount { self.kind.openingTimeout(self.upstream.settings.limits) }

    /// What calls are told that meet no session.
    var gone: GatewayError {
        GatewayError(
            self.kind.reasonOfEnd,
            executed: .no,
            "the server is not running; see its log",
            cause: "not_running"
        )
    }

    /// What calls are told whose session ends before they are answered.
    ///
    /// A program still gets a line that waits for it to read, so that no call is known not to run (decision 0015).
    var ended: GatewayError {
        GatewayError(
            self.kind.reasonOfEnd,
            executed: .unknown,
            "the session ended before the server answered",
            cause: "session_ended"
        )
    }
}
