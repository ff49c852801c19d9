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
struct LinkSettings {
    let upstream: Upstream
    let identity: GatewayIdentity
    let logger: Logger

    /// Whether the upstream is a child process.
    var isProcess: Bool { if case .stdio = self.upstream.transport { true } else { false } }

    /// How long a server may take to answer `initialize`: package runners download before they run.
    var openingTimeout: TimeAmount {
        self.isProcess ? .seconds(60) : TimeAmount(self.upstream.settings.limits.connectTimeout)
    }

    /// `last` is the channel before it, if there was one.
    func makeChannel(_ delegate: UpstreamLink, owner: LinkOwner?, after last: LinkCredential?) -> any LinkChannel {
        switch self.upstream.transport {
        case .stdio(let configuration, let access):
            StdioChannel(
                configuration,
                name: self.upstream.name,
                access: access,
                lineLimit: delegate.loop.limits.lineBytes,
                on: delegate.loop,
                logger: self.logger,
                buffers: self.upstream.buffers,
                delegate: delegate
            )
        case .http(let http):
            SSEChannel(
                self.upstream,
                http,
                fields: owner?.fields ?? "",
                limits: delegate.loop.limits,
                buffers: self.upstream.buffers,
                credentials: self.credentials(http, isCallers: owner != nil, after: last),
                isShared: owner == nil,
                on: delegate.loop,
                delegate: delegate
            )
        }
    }

    /// With which credential a stream is opened: for callers as their pool says; to find out whether the server is there,
    /// with the first that is accepted (credentials §2.3, §2.9).
    ///
    /// In turns nobody else moves on from what was refused here.
    private func credentials(_ http: HTTPAccess, isCallers: Bool, after last: LinkCredential?) -> CredentialFailover {
        guard let pool = http.credentials else { return CredentialFailover(nil, choosing: .home) }
        if let last, isCallers || last.wasOpen {
            guard pool.mode == .roundRobin else { return CredentialFailover(pool, choosing: .idle) }
            return CredentialFailover(pool, choosing: last.isRefused ? .after(last.slot) : .session(last.slot))
        }
        guard !isCallers else { return CredentialFailover(pool, choosing: .home) }
        var slots = pool.ids
        // Round the ring, from the last one or the one behind it on.
        if let last, let index = slots.firstIndex(of: last.slot) {
            let start = (index + (last.isRefused ? 1 : 0)) % slots.count
            slots = Array(slots[start...] + slots[..<start])
        }
        return CredentialFailover(looking: pool, at: slots)
    }

    /// What is said of a line, or an event, in a message about something for which it may be the reason.
    func text(of fault: MessageFault) -> String {
        self.isProcess
            ? "; it wrote to standard output what is no MCP message, see the log: \(fault.advice)"
            : "; its stream has an event that is no MCP message, see the log"
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

    /// What calls are told whose session ends before they are answered.
    ///
    /// A program still gets a line that waits for it to read, so that no call is known not to run (decision 0015).
    var ended: GatewayError {
        GatewayError(
            self.isProcess ? .childExited : .upstreamClosed,
            executed: .unknown,
            "the session ended before the server answered",
            cause: "session_ended"
        )
    }
}
