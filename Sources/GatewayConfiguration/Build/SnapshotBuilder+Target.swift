// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire

extension SnapshotBuilder {
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
        guard isStarted, upstream.sendsToken, origin.scheme == .http, !origin.isLoopback else { return }
        self.findings.add(
            .clearTextCredentials,
            at: node,
            "the url is http, so the token is sent in clear text to another machine"
        )
    }

    /// What there is to say about the proxy that a started server takes, or cannot take.
    ///
    /// `node` is the server's url.
    mutating func report(
        _ selection: OutboundProxySelection,
        of upstream: HTTPUpstreamConfiguration,
        draft: ServerDraft,
        at node: Node
    ) {
        let reading = draft.settings.proxy
        for notice in selection.notices {
            if case .unusableEntry(.option, _, _) = notice {
                self.addOnce(notice.code, at: reading?.node["noProxy"] ?? node, "\(notice)")
            } else {
                self.addOnce(notice.code, at: node, about: .root, "\(notice)")
            }
        }
        if case .unusable(let variable) = selection.outcome {
            self.findings.add(.environmentProxyInvalid, at: node, variable.message(forServer: draft.name))
        }
        guard case .proxy(let proxy, let rule) = selection.outcome else { return }
        let place = rule == .proxyURL ? reading?.urlNode ?? node : node
        if rule == .proxyURL, reading?.usesDefaultPort == true {
            self.addOnce(.proxyDefaultPort, at: place, "no port is given, so it is 80 (curl would take 1080)")
        }
        if proxy.kind == .socks5 {
            self.addOnce(
                .proxyLocalDNS,
                at: place,
                "names of upstreams are looked up by this machine; with socks5h the proxy looks them up"
            )
        }
        if upstream.sendsToken, upstream.url.origin.scheme == .http, !proxy.isOnThisMachine {
            self.findings.add(
                .proxySeesToken,
                at: node,
                "the url is http, so the bearer token is visible to the outbound proxy \(proxy)"
            )
        }
    }

    /// 169.254.0.0/16, fe80::/10 and the IPv6 address of a well-known metadata service (faults S9.2).
    private static func isLinkLocal(_ origin: WebOrigin) -> Bool {
        if origin.isIPv6Literal {
            return ["fe8", "fe9", "fea", "feb"].contains { origin.host.hasPrefix($0) } || origin.host == "fd00:ec2::254"
                || origin.host.hasPrefix("::ffff:169.254.")
        }
        let parts = origin.host.split(separator: ".").map { UInt8($0) }
        return parts.count == 4 && !parts.contains(nil) && parts[0] == 169 && parts[1] == 254
    }
}

extension HTTPUpstreamConfiguration {
    /// Whether a token of ours goes to the upstream.
    fileprivate var sendsToken: Bool {
        self.credentials != nil || self.headers.contains { $0.name.lowercased() == "authorization" }
    }
}
