// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire

/// A proxy through which connections to upstreams leave: where it is, how it is spoken to, and as whom.
package struct OutboundProxy: Hashable, Sendable {
    /// What the proxy speaks.
    package enum Kind: String, CaseIterable, Sendable {
        /// HTTP over TCP (RFC 9110 §9.3.6).
        case http
        /// HTTP over TLS.
        case https
        /// SOCKS 5 (RFC 1928); names of upstreams are looked up here.
        case socks5
        /// SOCKS 5; the proxy looks names up.
        case socks5h

        /// Whether this is one of the two forms of SOCKS 5.
        package var isSOCKS: Bool { self == .socks5 || self == .socks5h }

        /// The port where none is written.
        package var defaultPort: Int {
            switch self {
            case .http: 80
            case .https: 443
            case .socks5, .socks5h: 1080
            }
        }
    }

    /// When an http:// upstream is tunnelled through an HTTP proxy (contract §2).
    package enum Tunnel: String, Sendable {
        case auto
        case always
        case never
    }

    package var kind: Kind
    /// In lower case; an IPv6 literal without brackets.
    package var host: String
    package var isIPv6Literal: Bool
    /// 1...65535.
    package var port: Int
    package var username: Secret?
    package var password: Secret?
    package var tunnel: Tunnel
    /// How an https proxy is verified and who we say we are; nothing of the upstream's.
    package var tls: TLSClientConfiguration
    /// Where it is set, as an operator knows it: `mcpServers.github.options.proxy`, `HTTPS_PROXY`.
    package var setting: String

    package init(
        kind: Kind,
        host: String,
        isIPv6Literal: Bool = false,
        port: Int,
        username: Secret? = nil,
        password: Secret? = nil,
        tunnel: Tunnel = .auto,
        tls: TLSClientConfiguration = TLSClientConfiguration(),
        setting: String
    ) {
        self.kind = kind
        self.host = host
        self.isIPv6Literal = isIPv6Literal
        self.port = port
        self.username = username
        self.password = password
        self.tunnel = tunnel
        self.tls = tls
        self.setting = setting
    }
}

extension OutboundProxy: CustomStringConvertible, CustomDebugStringConvertible {
    /// The URL without user and password: `http://•••@proxy.corp:3128` (credentials §3.5).
    package var description: String {
        let authority = HostPort(host: self.host, port: self.port, isIPv6Literal: self.isIPv6Literal).authority
        return "\(self.kind.rawValue)://\(self.username == nil ? "" : "\(Secret.mask)@")\(authority)"
    }

    package var debugDescription: String { self.description }
}

extension OutboundProxy {
    /// The value of `Proxy-Authorization` (RFC 7617 §2); nil without a user.
    package var authorization: Secret? {
        guard let username else { return nil }
        let login = "\(username.reveal()):\(self.password?.reveal() ?? "")"
        return Secret("Basic \(Base64.encode(Array(login.utf8)))")
    }
}

/// `options.proxy`: how the upstream is reached through somebody else (credentials §3.1).
package enum OutboundProxyConfiguration: Sendable {
    /// Nothing configured, or `useEnv`: the environment decides.
    case environment
    /// `false`, or `useEnv: false` without a url.
    case direct
    /// A proxy that the configuration names, but not for these targets.
    case explicit(OutboundProxy, Exemptions)

    /// The targets that are reached without the proxy that the configuration names.
    package struct Exemptions: Hashable, Sendable {
        /// `noProxy`, entry by entry.
        package var entries: [String]
        /// `useEnv: true` beside a url: the environment's NO_PROXY applies too.
        package var includesEnvironment: Bool

        package init(entries: [String] = [], includesEnvironment: Bool = false) {
            self.entries = entries
            self.includesEnvironment = includesEnvironment
        }
    }
}
