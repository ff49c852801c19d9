// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewayStdio
import Logging
import NIOCore

/// What every link of one upstream goes by.
struct LinkSettings {
    let upstream: Upstream
    let identity: GatewayIdentity
    let limits: Limits
    let logger: Logger

    /// Whether the upstream is a child process.
    var isProcess: Bool { if case .stdio = self.upstream.transport { true } else { false } }

    /// How long a server may take to answer `initialize`: package runners download before they run.
    var openingTimeout: TimeAmount { self.isProcess ? .seconds(60) : TimeAmount(self.limits.connectTimeout) }

    func makeChannel(_ delegate: UpstreamLink, owner: LinkOwner?) -> any LinkChannel {
        switch self.upstream.transport {
        case .stdio(let configuration, let access):
            StdioChannel(
                configuration,
                name: self.upstream.name,
                access: access,
                lineLimit: self.limits.lineBytes,
                on: delegate.loop,
                logger: self.logger,
                delegate: delegate
            )
        case .http(let http):
            SSEChannel(
                self.upstream,
                http,
                fields: owner?.fields ?? "",
                limits: self.limits,
                on: delegate.loop,
                delegate: delegate
            )
        }
    }

    /// What calls are told that meet no session.
    var gone: GatewayError {
        GatewayError(
            self.isProcess ? .childExited : .upstreamClosed,
            executed: .no,
            "the server is not running; see its log",
            cause: "not_running"
        )
    }
}
