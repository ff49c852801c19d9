// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire

/// What an `options.proxy` says, and where it says it.
struct OutboundProxyReading {
    var node: Node
    var configuration: OutboundProxyConfiguration
    /// Whether `useEnv` is written and true.
    var asksForEnvironment = false
}

extension SnapshotBuilder {
    typealias ExplicitProxy = OutboundProxyConfiguration.ExplicitProxy

    /// `options.proxy` (credentials.md §3.1, S1 to S6).
    ///
    /// Whatever is wrong with it, it never becomes less than what was asked for: that is an error, not a direct
    /// connection.
    mutating func outboundProxy(_ node: Node) -> OutboundProxyReading {
        if node.boolean == false { return OutboundProxyReading(node: node, configuration: .direct) }
        if node.string != nil {
            let proxy = self.explicitProxy(url: node, object: nil)
            return OutboundProxyReading(node: node, configuration: proxy.map { .explicit($0) } ?? .direct)
        }
        if let url = node["url"] {
            let proxy = self.explicitProxy(url: url, object: node)
            return OutboundProxyReading(node: node, configuration: proxy.map { .explicit($0) } ?? .direct)
        }
        for key in ["type", "auth", "noProxy", "tunnel", "tls"] {
            guard let node = node[key] else { continue }
            self.findings.add(.noEffect, at: node, "this has no effect without a url")
        }
        let usesEnvironment = node["useEnv"]?.boolean
        return OutboundProxyReading(
            node: node,
            configuration: usesEnvironment == false ? .direct : .environment,
            asksForEnvironment: usesEnvironment == true
        )
    }

    private mutating func explicitProxy(url node: Node, object: Node?) -> ExplicitProxy? {
        let text = TokenText.trimmed((node.string ?? "")[...])
        guard !text.isEmpty else {
            self.findings.add(
                .emptySecuritySetting,
                at: node,
                "the proxy is empty; accepted is a URL, or false for a direct connection"
            )
            return nil
        }
        let url: OutboundProxyURL
        do {
            url = try OutboundProxyURL(text)
        } catch {
            self.findings.add(.invalidProxy, at: node, error.reason)
            return nil
        }
        if url.hasPath { self.findings.add(.proxyPathIgnored, at: node, "path and query of a proxy mean nothing") }
        let kind = self.kind(of: url, type: object?["type"])
        let login = self.login(of: url, at: node, object: object?["auth"])
        let isUsable = self.check(login, for: kind)
        if url.hostPort.port == nil, kind == .http {
            self.findings.add(.proxyDefaultPort, at: node, "no port is given, so it is 80 (curl would take 1080)")
        }
        if kind == .socks5 {
            self.findings.add(
                .proxyLocalDNS,
                at: node,
                "names of upstreams are looked up by this machine; with socks5h the proxy looks them up"
            )
        }
        let tls = self.tls(
            object?["tls"],
            isUsed: kind == .https,
            otherwise: "only an https:// proxy is spoken to in TLS"
        )
        let tunnel = object?["tunnel"]
        if let tunnel, kind == .socks5 || kind == .socks5h {
            self.findings.add(.noEffect, at: tunnel, "this has no effect for a SOCKS proxy, which always tunnels")
        }
        guard isUsable else { return nil }
        return ExplicitProxy(
            kind: kind,
            host: url.hostPort.host,
            isIPv6Literal: url.hostPort.isIPv6Literal,
            port: url.hostPort.port ?? Self.defaultPort(of: kind),
            username: login?.username.map { Secret($0) },
            password: login?.password.map { Secret($0) },
            usesEnvironmentNoProxy: object?["useEnv"]?.boolean == true,
            noProxy: Self.noProxy(object?["noProxy"]),
            tunnel: tunnel?.string.flatMap { ExplicitProxy.Tunnel(rawValue: $0) } ?? .auto,
            tls: tls
        )
    }

    /// The table "type and scheme" of credentials.md §3.1.
    private mutating func kind(of url: OutboundProxyURL, type node: Node?) -> ExplicitProxy.Kind {
        guard let node, let type = node.string.flatMap({ ExplicitProxy.Kind(rawValue: $0) }) else {
            return url.kind ?? .http
        }
        guard let scheme = url.kind, scheme != type else { return type }
        if [scheme, type].allSatisfy({ $0 == .socks5 || $0 == .socks5h }) { return .socks5h }
        self.findings.add(
            .proxyTypeOverrides,
            at: node,
            scheme == .https
                ? "TLS to the proxy is disabled by type: the url says https, this says \(type.rawValue)"
                : "the url says \(scheme.rawValue), this says \(type.rawValue); the type decides"
        )
        return type
    }

    private static func defaultPort(of kind: ExplicitProxy.Kind) -> Int {
        switch kind {
        case .http: 80
        case .https: 443
        case .socks5, .socks5h: 1080
        }
    }

    private static func noProxy(_ node: Node?) -> [String] {
        let texts = node?.elements?.compactMap(\.string) ?? node?.string.map { [$0] } ?? []
        return texts.flatMap { text in
            text.split { $0 == "," || $0.isWhitespace }.map(String.init)
        }
    }

    // MARK: Login

    private struct Login {
        var username: String?
        var password: String?
        /// Where a finding about it points.
        var node: Node
        var passwordNode: Node?
    }

    private mutating func login(of url: OutboundProxyURL, at node: Node, object: Node?) -> Login? {
        guard let object else {
            guard let username = url.username else { return nil }
            return Login(username: username, password: url.password, node: node)
        }
        if url.username != nil {
            self.findings.add(
                .proxyCredentialsTwice,
                at: object,
                "user and password stand here and in the url; these here are used"
            )
        }
        // Without a user name the object did not fit its table, which is an error already.
        guard let username = object["username"] else { return nil }
        return Login(
            username: username.string,
            password: object["password"]?.string,
            node: username,
            passwordNode: object["password"]
        )
    }

    /// Whether user and password can be sent to a proxy of this kind (RFC 7617 §2, RFC 1929 §2).
    private mutating func check(_ login: Login?, for kind: ExplicitProxy.Kind) -> Bool {
        guard let login, let username = login.username else { return true }
        let password = login.password ?? ""
        let isSOCKS = kind == .socks5 || kind == .socks5h
        guard !username.isEmpty else {
            self.findings.add(.emptySecuritySetting, at: login.node, "the user name for the proxy is empty")
            return false
        }
        guard HeaderName.isValidValue(username), HeaderName.isValidValue(password) else {
            self.findings.add(.invalidProxy, at: login.node, "user name or password has control characters")
            return false
        }
        if !isSOCKS, username.contains(":") {
            self.findings.add(
                .invalidProxy,
                at: login.node,
                "the user name has a colon, which Basic authentication cannot carry"
            )
            return false
        }
        if isSOCKS, username.utf8.count > 255 || password.utf8.count > 255 {
            self.findings.add(
                .invalidProxy,
                at: login.node,
                "user name and password for SOCKS5 are 255 bytes each at most"
            )
            return false
        }
        if password.isEmpty, login.passwordNode != nil || isSOCKS {
            self.findings.add(
                .proxyEmptyPassword,
                at: login.passwordNode ?? login.node,
                "the password for the proxy is empty"
            )
        }
        return true
    }
}
