// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Why an outbound proxy gave no way to the upstream (credentials §3.5).
///
/// Nothing of the request to the upstream was sent, and it says nothing about the upstream or its credentials.
package struct OutboundProxyError: Error, Hashable, Sendable {
    /// How far it got: `data.stage` (contract §4).
    package enum Stage: String, CaseIterable, Sendable {
        case resolve
        case connect
        case tls
        case auth
        case tunnel
        case `protocol`
    }

    /// What happened: `data.proxyError`.
    package enum Code: String, CaseIterable, Sendable {
        case resolve = "proxy.resolve"
        case connectRefused = "proxy.connect.refused"
        /// No way to the upstream within the connect timeout, wherever the time went.
        case connectTimeout = "proxy.connect.timeout"
        case connectUnreachable = "proxy.connect.unreachable"
        case tls = "proxy.tls"
        /// It wants a user, and none is configured.
        case authRequired = "proxy.auth.required"
        case authRejected = "proxy.auth.rejected"
        /// It wants a way of logging in that we do not have.
        case authUnsupported = "proxy.auth.unsupported"
        case tunnelDenied = "proxy.tunnel.denied"
        case tunnelUpstreamUnreachable = "proxy.tunnel.upstreamUnreachable"
        case socksGeneral = "proxy.socks.general"
        case socksCommand = "proxy.socks.command"
        case socksAddressType = "proxy.socks.addressType"
        case socksUnassigned = "proxy.socks.unassigned"
        /// It did not speak as a proxy of its kind does.
        case `protocol` = "proxy.protocol"

        /// The stage to which the code belongs where nothing else is said.
        package var stage: Stage {
            switch self {
            case .resolve: .resolve
            case .connectRefused, .connectTimeout, .connectUnreachable: .connect
            case .tls: .tls
            case .authRequired, .authRejected, .authUnsupported: .auth
            case .tunnelDenied, .tunnelUpstreamUnreachable, .socksGeneral, .socksCommand, .socksAddressType,
                .socksUnassigned:
                .tunnel
            case .protocol: .protocol
            }
        }

        /// Whether the same may work a moment later.
        package var isRetryable: Bool {
            switch self {
            case .resolve, .connectRefused, .connectTimeout, .connectUnreachable, .tunnelUpstreamUnreachable,
                .socksGeneral:
                true
            case .tls, .authRequired, .authRejected, .authUnsupported, .tunnelDenied, .socksCommand,
                .socksAddressType, .socksUnassigned, .protocol:
                false
            }
        }
    }

    package let code: Code
    package let stage: Stage
    /// What it did, as the rest of a sentence that begins with its name: ours, with numbers and names of schemes, never
    /// with bytes of a peer.
    package let event: String
    /// The HTTP status of its answer, where there was one.
    package var status: Int?
    /// When it may be asked again, by what it said or by the rule of ``OutboundProxyAdmission``; whole seconds.
    package var retryAfterSeconds: Int?
    /// Whether the answer says by a field of its own that it is the proxy's, as all of its refusals then do.
    package var isMarked = false

    package init(
        _ code: Code,
        _ event: String,
        stage: Stage? = nil,
        status: Int? = nil,
        retryAfterSeconds: Int? = nil
    ) {
        self.code = code
        self.stage = stage ?? code.stage
        self.event = event
        self.status = status
        self.retryAfterSeconds = retryAfterSeconds
    }

    /// Whether the request goes through the proxy once more by itself; when the time for a connection is spent it is not
    /// (faults F2, F62).
    package var isSentAgain: Bool {
        self.code.isRetryable && self.code != .connectTimeout && self.retryAfterSeconds ?? 0 <= 2
    }

    /// It closed the connection where it should have answered.
    ///
    /// Without a byte it never began to speak, so the tunnel is what failed (contract §4).
    package static func closed(hasSpoken: Bool) -> OutboundProxyError {
        hasSpoken
            ? OutboundProxyError(.protocol, "closed the connection in the middle of its answer")
            : OutboundProxyError(.protocol, "closed the connection without an answer", stage: .tunnel)
    }

    /// It asked for a login, or refused ours: `asked` says with what.
    static func login(
        _ asked: String,
        challenges: AuthChallenges,
        hasCredentials: Bool,
        status: Int
    ) -> OutboundProxyError {
        if !challenges.isEmpty, !challenges.schemes.contains(.basic) {
            let offers = challenges.schemes.map(\.rawValue).joined(separator: ", ")
            return OutboundProxyError(
                .authUnsupported,
                "asked for authentication (\(asked), offers: \(offers)); only Basic is supported",
                status: status
            )
        }
        return hasCredentials
            ? OutboundProxyError(.authRejected, "rejected the configured user (\(asked))", status: status)
            : OutboundProxyError(
                .authRequired,
                "asked for authentication (\(asked)), and no user is configured",
                status: status
            )
    }
}
