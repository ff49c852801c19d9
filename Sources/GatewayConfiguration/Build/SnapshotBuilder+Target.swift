// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire

extension SnapshotBuilder {
    /// How a server is reached: its own `proxy` or the inherited one, as a whole.
    mutating func proxy(of draft: ServerDraft, url: HTTPURL, at node: Node) -> OutboundProxyConfiguration {
        let reading = draft.settings.proxy
        if let reading {
            switch reading.configuration {
            case .explicit: self.refuseIfNotBuilt(.outboundProxies, at: reading.node, isStarted: draft.isStarted)
            case .environment where reading.asksForEnvironment:
                self.refuseIfNotBuilt(
                    .outboundProxies,
                    at: reading.node["useEnv"] ?? reading.node,
                    isStarted: draft.isStarted
                )
                return .environment
            case .environment, .direct: break
            }
        }
        let configuration = reading?.configuration ?? .environment
        if case .environment = configuration, draft.isStarted, self.notBuiltYet.contains(.outboundProxies),
            let variable = EnvironmentProxy.variable(for: url.origin, environment: self.environment)
        {
            self.findings.add(
                .environmentProxyIgnored,
                at: node,
                "the environment variable \(variable) names a proxy for this server, which is not used:"
                    + " outbound proxies are not built yet, so the connection is direct;"
                    + " set options.proxy to false to say that this is meant"
            )
        }
        return configuration
    }

    /// What may surprise about where credentials go.
    mutating func warnAboutTarget(_ upstream: HTTPUpstreamConfiguration, at node: Node, isStarted: Bool) {
        let origin = upstream.url.origin
        if Self.isLinkLocal(origin) {
            self.findings.add(
                .metadataAddress,
                at: node,
                "this is a link-local address, where clouds serve credentials of the machine"
            )
        }
        let hasToken =
            upstream.credentials != nil || upstream.headers.contains { $0.name.lowercased() == "authorization" }
        guard isStarted, hasToken, origin.scheme == .http, !origin.isLoopback else { return }
        self.findings.add(
            .clearTextCredentials,
            at: node,
            "the url is http, so the token is sent in clear text to another machine"
        )
        if case .explicit(let proxy) = upstream.proxy,
            !HostPort(host: proxy.host, port: nil, isIPv6Literal: proxy.isIPv6Literal).isLoopbackName
        {
            self.findings.add(.proxySeesToken, at: node, "the token is visible to the outbound proxy")
        }
    }

    /// 169.254.0.0/16, fe80::/10 and the IPv6 address of a well-known metadata service (faults.md S9.2).
    private static func isLinkLocal(_ origin: WebOrigin) -> Bool {
        if origin.isIPv6Literal {
            return ["fe8", "fe9", "fea", "feb"].contains { origin.host.hasPrefix($0) } || origin.host == "fd00:ec2::254"
                || origin.host.hasPrefix("::ffff:169.254.")
        }
        let parts = origin.host.split(separator: ".").map { UInt8($0) }
        return parts.count == 4 && !parts.contains(nil) && parts[0] == 169 && parts[1] == 254
    }
}
