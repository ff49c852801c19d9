// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire

/// What an `options.proxy` says, and where it says it.
struct OutboundProxyReading {
    var node: Node
    var configuration: OutboundProxyConfiguration
    /// The text of the proxy.
    var urlNode: Node?
    /// Whether it is an HTTP proxy without a port.
    var usesDefaultPort = false
}

extension SnapshotBuilder {
    /// `options.proxy` (credentials §3.1, S1 to S6).
    ///
    /// Whatever is wrong with it, it never becomes less than what was asked for: that is an error, not a direct
    /// connection.
    mutating func outboundProxy(_ node: Node) -> OutboundProxyReading {
        if node.boolean == false { return OutboundProxyReading(node: node, configuration: .direct) }
        if let url = node.string != nil ? node : node["url"] { return self.explicitProxy(url: url, of: node) }
        if self.asksForNamelessProxy(node) { return OutboundProxyReading(node: node, configuration: .direct) }
        for key in ["type", "auth", "noProxy", "tunnel", "tls"] {
            guard let node = node[key] else { continue }
            self.findings.add(.noEffect, at: node, "this has no effect without a url")
        }
        let usesEnvironment = node["useEnv"]?.boolean
        return OutboundProxyReading(node: node, configuration: usesEnvironment == false ? .direct : .environment)
    }

    /// Whether an object says how to speak to a proxy and not to which one, nor that the environment decides: without it the
    /// connection would be a direct one (contract U21).
    private mutating func asksForNamelessProxy(_ node: Node) -> Bool {
        guard node["useEnv"] == nil else { return false }
        let known = ["auth", "type", "tunnel", "tls"].filter { node[$0] != nil }
        let asking = known.isEmpty ? node.unknownKeys : known
        guard let key = asking.first else { return false }
        self.findings.add(
            .missingKey,
            path: node.path.appending(key: "url"),
            position: node.position,
            "\(known.isEmpty ? "there is a key" : key) but no url, so the connection would go past the proxy; write the url (an object"
                + " inherits nothing), or \"useEnv\": true for the proxy of the environment, or false for none"
        )
        return true
    }

    /// A proxy that the configuration names, as text or as an object (`whole`).
    private mutating func explicitProxy(url node: Node, of whole: Node) -> OutboundProxyReading {
        // After a mistake nobody runs with it.
        var reading = OutboundProxyReading(node: whole, configuration: .direct, urlNode: node)
        let text = TokenText.trimmed((node.string ?? "")[...])
        guard !text.isEmpty else {
            self.findings.add(
                .emptySecuritySetting,
                at: node,
                "the proxy is empty; accepted is a URL, or false for a direct connection"
            )
            return reading
        }
        let url: OutboundProxyURL
        do {
            url = try OutboundProxyURL(text)
        } catch {
            self.findings.add(.invalidProxy, at: node, "\(OutboundProxyURL.redacted(text)): \(error.reason)")
            return reading
        }
        if url.hasPath { self.findings.add(.proxyPathIgnored, at: node, "path and query of a proxy mean nothing") }
        let kind = self.kind(of: url, type: whole["type"])
        let login = self.login(of: url, at: node, object: whole["auth"])
        let isUsable = self.check(login, for: kind)
        reading.usesDefaultPort = url.hostPort.port == nil && kind == .http
        let tls = self.tls(
            whole["tls"],
            isUsed: kind == .https,
            otherwise: "only an https:// proxy is spoken to in TLS"
        )
        let tunnel = whole["tunnel"]
        if let tunnel, kind.isSOCKS {
            self.findings.add(.noEffect, at: tunnel, "this has no effect for a SOCKS proxy, which always tunnels")
        }
        guard isUsable else { return reading }
        let proxy = OutboundProxy(
            kind: kind,
            host: url.hostPort.host,
            isIPv6Literal: url.hostPort.isIPv6Literal,
            port: url.hostPort.port ?? kind.defaultPort,
            username: login?.username.map { Secret($0) },
            password: login?.password.map { Secret($0) },
            tunnel: tunnel?.string.flatMap { OutboundProxy.Tunnel(rawValue: $0) } ?? .auto,
            tls: tls,
            setting: whole.path.description
        )
        let exemptions = OutboundProxyConfiguration.Exemptions(
            entries: Self.noProxy(whole["noProxy"]),
            includesEnvironment: whole["useEnv"]?.boolean == true
        )
        reading.configuration = .explicit(proxy, exemptions)
        return reading
    }

    /// The table "type and scheme" of credentials §3.1.
    private mutating func kind(of url: OutboundProxyURL, type node: Node?) -> OutboundProxy.Kind {
        guard let node, let type = node.string.flatMap({ OutboundProxy.Kind(rawValue: $0) }) else {
            return url.kind ?? .http
        }
        guard let scheme = url.kind, scheme != type else { return type }
        if scheme.isSOCKS, type.isSOCKS { return .socks5h }
        self.findings.add(
            .proxyTypeOverrides,
            at: node,
            scheme == .https
                ? "TLS to the proxy is disabled by type: the url says https, this says \(type.rawValue)"
                : "the url says \(scheme.rawValue), this says \(type.rawValue); the type decides"
        )
        return type
    }

    private static func noProxy(_ node: Node?) -> [String] {
        let texts = node?.elements?.compactMap(\.string) ?? node?.string.map { [$0] } ?? []
        return texts.flatMap(NoProxyList.split)
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
    private mutating func check(_ login: Login?, for kind: OutboundProxy.Kind) -> Bool {
        guard let login, let username = login.username else { return true }
        let password = login.password ?? ""
        guard !username.isEmpty else {
            self.findings.add(.emptySecuritySetting, at: login.node, "the user name for the proxy is empty")
            return false
        }
        if let reason = kind.refusal(ofUsername: username, password: password) {
            self.findings.add(.invalidProxy, at: login.node, reason)
            return false
        }
        if password.isEmpty, login.passwordNode != nil || kind.isSOCKS {
            self.findings.add(
                .proxyEmptyPassword,
                at: login.passwordNode ?? login.node,
                "the password for the proxy is empty"
            )
        }
        return true
    }
}
