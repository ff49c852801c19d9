// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewayWire

extension SnapshotBuilder {
    /// A server with a `url`; nil if the URL is unusable.
    mutating func httpUpstream(_ draft: ServerDraft) -> HTTPUpstreamConfiguration? {
        let node = draft.node
        self.warnAboutMisplaced(
            draft.misplaced(["args", "env", "envFile", "cwd", "inheritEnv"], inOptions: []),
            "a server that is reached by url"
        )
        let url = node["url"].flatMap { self.webURL($0) }
        var headers = self.headers(node["headers"])
        let authorization = headers.firstIndex { $0.name.lowercased() == "authorization" }
        let tls = self.tls(
            node["tls"],
            isUsed: url?.origin.scheme != .http,
            otherwise: "the url is http, so there is no TLS"
        )
        let pool: CredentialPoolConfiguration?
        if let auth = draft.options?["auth"] {
            pool = self.credentialPool(auth)
        } else {
            pool = url.flatMap { self.mappedPool(draft, url: $0, hasAuthorization: authorization != nil) }
        }
        guard let url, let urlNode = node["url"] else { return nil }
        if pool != nil, let authorization {
            headers.remove(at: authorization)
            if let member = node["headers"]?.members?.first(where: { $0.key.lowercased() == "authorization" }) {
                self.findings.add(.authorizationOverridden, at: member, "auth.tokens is used instead of this header")
            }
        }
        let proxy = draft.settings.proxy?.configuration ?? .environment
        let selection = OutboundProxySelection(proxy, to: url.origin, environment: self.environment)
        let upstream = HTTPUpstreamConfiguration(
            kind: node["transportType"]?.string.flatMap { HTTPUpstreamConfiguration.Kind(rawValue: $0) } ?? .detect,
            url: url,
            headers: headers,
            tls: tls,
            credentials: pool,
            proxy: proxy,
            outboundProxy: selection.proxy
        )
        self.warnAboutTarget(upstream, at: urlNode, isStarted: draft.isStarted)
        if draft.isStarted {
            self.report(selection, of: upstream, draft: draft, at: urlNode)
            if url.origin.scheme == .https { self.mentions.add(tls, at: node["tls"]) }
            if let proxy = selection.proxy, proxy.kind == .https, case .proxy(_, .proxyURL) = selection.outcome {
                self.mentions.add(proxy.tls, at: draft.settings.proxy?.node["tls"])
            }
        }
        return upstream
    }

    // MARK: Parts

    /// Headers that go to the upstream; names that mean something on the connection are refused.
    private mutating func headers(_ node: Node?) -> [HTTPUpstreamConfiguration.Header] {
        var headers: [HTTPUpstreamConfiguration.Header] = []
        var seen: Set<String> = []
        for member in node?.members ?? [] {
            let name = member.key.lowercased()
            guard let text = member.value.string else { continue }
            guard HeaderName.isValid(member.key) else {
                self.findings.add(
                    .invalidHeader,
                    at: member,
                    "this is no name of a header; accepted are letters, digits and !#$%&'*+-.^_`|~"
                )
                continue
            }
            guard seen.insert(name).inserted else {
                self.findings.add(
                    .duplicateKey,
                    at: member,
                    "this header is given twice; the case of letters does not matter"
                )
                continue
            }
            guard !HeaderName.isConnectionField(name) else {
                self.findings.add(
                    .forbiddenHeader,
                    at: member,
                    "this header belongs to the connection or to the framing of a message; the gateway sets it itself"
                )
                continue
            }
            guard !HeaderName.isSetByGateway(name) else {
                self.findings.add(.headerIgnored, at: member, "the gateway sets this header itself; it is left out")
                continue
            }
            let value = TokenText.trimmed(text[...])
            guard HeaderName.isValidValue(value) else {
                self.findings.add(.invalidHeader, at: member.value, "this value has control characters")
                continue
            }
            headers.append(HTTPUpstreamConfiguration.Header(name: member.key, value: Secret(value)))
        }
        return headers
    }

    /// `tls`, of an upstream or of an outbound proxy.
    mutating func tls(_ node: Node?, isUsed: Bool, otherwise reason: String) -> TLSClientConfiguration {
        var tls = TLSClientConfiguration()
        guard let node else { return tls }
        if !isUsed { self.findings.add(.noEffect, at: node, "this has no effect: \(reason)") }
        tls.caFile = node["caFile"].flatMap { self.file($0) }
        tls.certFile = node["certFile"].flatMap { self.file($0) }
        tls.keyFile = node["keyFile"].flatMap { self.file($0) }
        if (node["certFile"] == nil) != (node["keyFile"] == nil) {
            self.findings.add(
                .conflictingKeys,
                at: node,
                "certFile and keyFile go together; accepted are both or none"
            )
        }
        if let insecure = node["insecure"], insecure.boolean == true {
            tls.isInsecure = true
            self.findings.add(
                .tlsNotVerified,
                at: insecure,
                "certificates are not verified, so anybody on the way can read and change everything; use caFile instead"
            )
        }
        return tls
    }

    private mutating func file(_ node: Node) -> String? {
        guard let text = node.string else { return nil }
        guard !text.isEmpty else {
            self.findings.add(.emptySecuritySetting, at: node, "this path is empty; accepted is the path of a PEM file")
            return nil
        }
        return self.path(node)
    }

    /// A server's own `authTokens` as its pool, where the rules of `authTokens` say so (contract §2).
    private mutating func mappedPool(
        _ draft: ServerDraft,
        url: HTTPURL,
        hasAuthorization: Bool
    ) -> CredentialPoolConfiguration? {
        guard !draft.isV1, !hasAuthorization, draft.isStarted, let node = draft.options?["authTokens"],
            let tokens = draft.settings.inboundTokens, !tokens.isEmpty,
            url.origin.scheme == .https || url.origin.isLoopback
        else { return nil }
        self.findings.add(
            .authTokensSentUpstream,
            at: node,
            "callers' tokens are also sent to this upstream; set options.auth to its own tokens, or to {} to send none"
        )
        return Self.pool(tokens, mode: .roundRobin, maxRetries: nil, retryOn: [401, 403], affinity: .request)
    }

    /// `options.forwardHeaders`: lower-case names that are passed on.
    mutating func forwardHeaders(
        _ draft: ServerDraft,
        http: HTTPUpstreamConfiguration,
        isolation: UpstreamConfiguration.Isolation
    ) -> [String] {
        guard let list = draft.options?["forwardHeaders"], let elements = list.elements, !elements.isEmpty else {
            return []
        }
        guard isolation == .session else {
            self.findings.add(
                .conflictingKeys,
                at: list,
                "headers of one caller cannot be passed on in a session that all callers share; remove isolation: shared"
            )
            return []
        }
        let configured = Set((draft.node["headers"]?.members ?? []).map { $0.key.lowercased() })
        let isGuarded = http.credentials != nil || draft.settings.inboundTokens?.isEmpty == false
        var names: [String] = []
        for element in elements {
            guard let name = element.string?.lowercased(), !names.contains(name) else { continue }
            if !HeaderName.isValid(name) {
                self.findings.add(.invalidHeader, at: element, "this is no name of a header")
            } else if let reason = HeaderName.reasonNotToForward(name) {
                self.findings.add(.forbiddenHeader, at: element, "this header is never passed on: \(reason)")
            } else if name == "authorization", isGuarded {
                self.findings.add(
                    .forbiddenHeader,
                    at: element,
                    "Authorization is passed on only by a server that has neither authTokens nor auth.tokens"
                )
            } else if configured.contains(name) {
                self.findings.add(
                    .headerNotForwarded,
                    at: element,
                    "headers has this one, so the caller's is not passed on"
                )
            } else {
                if name == "authorization" {
                    self.findings.add(
                        .authorizationForwarded,
                        at: element,
                        "callers' credentials are passed on to this upstream"
                    )
                }
                names.append(name)
            }
        }
        return names
    }
}
