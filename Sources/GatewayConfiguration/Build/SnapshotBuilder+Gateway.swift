// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire

extension SnapshotBuilder {
    /// The gateway as `mcpProxy` says, or as it is without; nil if there is nothing to listen on.
    mutating func listener(_ node: Node?, _ inherited: ServerOptions, in root: Node) -> ListenerConfiguration? {
        let tokens = inherited.inboundTokens ?? []
        guard let node else { return self.standardListener(statusTokens: tokens, in: root) }
        guard var listener = self.listener(node, statusTokens: tokens) else { return nil }
        if let address = self.gateway.address { listener.address = address }
        return listener
    }

    /// `mcpProxy` without its options; nil if there is nothing to listen on.
    private mutating func listener(_ node: Node, statusTokens: [Secret]) -> ListenerConfiguration? {
        let base = node["baseURL"].flatMap { self.baseURL($0) }
        let address = node["addr"].flatMap { self.address($0) }
        let name = node["name"].flatMap { self.identity($0) }
        let version = node["version"].flatMap { self.identity($0) }
        let gracePeriod = self.duration(node["startupGracePeriod"], zero: .off)
        let drainTimeout = self.duration(node["drainTimeout"], zero: .off)
        let origins = (node["allowedOrigins"]?.elements ?? []).compactMap { self.origin($0) }
        let hosts = (node["allowedHosts"]?.elements ?? []).compactMap { self.allowedHost($0) }
        let limits = self.limits(node["limits"])
        guard let base, let address else { return nil }
        var listener = ListenerConfiguration(
            baseOrigin: base.origin,
            basePath: base.path,
            address: address,
            name: name ?? "",
            version: version ?? "",
            allowedOrigins: origins,
            allowedHosts: hosts,
            limits: limits,
            statusTokens: statusTokens
        )
        if let type = node["type"]?.string, let transport = ListenerConfiguration.AdvertisedTransport(rawValue: type) {
            listener.advertisedTransport = transport
        }
        if let gracePeriod { listener.startupGracePeriod = gracePeriod }
        if let drainTimeout { listener.drainTimeout = drainTimeout }
        return listener
    }

    private mutating func baseURL(_ node: Node) -> (origin: WebOrigin, path: String)? {
        guard let url = self.webURL(node), let text = node.string else { return nil }
        guard !text.contains("?"), !text.contains("#") else {
            self.findings.add(
                .invalidURL,
                at: node,
                "found a query or fragment; routes are added to the path of this URL"
            )
            return nil
        }
        let trimmed = url.target.reversed().drop { $0 == "/" }.reversed()
        let path = String(trimmed)
        let segments = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        let isClean =
            segments.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
            && !path.contains { "\\{}<>\"^|`;".contains($0) }
        guard isClean else {
            self.findings.add(
                .invalidURL,
                at: node,
                "its path has an empty segment, . or .., or a character of \\ { } < > \" ^ | ` ;"
            )
            return nil
        }
        return (url.origin, path)
    }

    private mutating func address(_ node: Node) -> ListenAddress? {
        guard let text = node.string else { return nil }
        if let address = ListenAddress(text: text) { return address }
        let isPort = !text.isEmpty && text.utf8.allSatisfy(JSONCReader.isDigit)
        let isWildcard = text.hasPrefix("*:") && ListenAddress(text: String(text.dropFirst())) != nil
        self.findings.add(
            .invalidAddress,
            at: node,
            "accepted are :9090, host:port and [::1]:9090, with a port from 0 to 65535",
            suggestion: isPort ? "\":\(text)\"" : isWildcard ? "\"\(text.dropFirst())\"" : nil
        )
        return nil
    }

    private mutating func identity(_ node: Node) -> String? {
        guard let text = node.string else { return nil }
        let isBlank = text.utf8.allSatisfy { $0 == 0x20 }
        guard !isBlank, HeaderName.isValidValue(text) else {
            self.findings.add(
                .invalidValue,
                at: node,
                "accepted is text that is not empty and has no control characters"
            )
            return nil
        }
        return text
    }

    private mutating func origin(_ node: Node) -> AllowedOrigin? {
        guard let text = node.string else { return nil }
        if let origin = AllowedOrigin(text) { return origin }
        // Usually it is a URL, of which the origin is the beginning.
        let end = text.firstRange(of: "://").flatMap { text[$0.upperBound...].firstIndex(of: "/") }
        let nearest =
            HTTPURL(text).map { $0.origin.description } ?? end.flatMap { AllowedOrigin(text[..<$0]) }?.description
        let isNull = text.lowercased() == "null"
        self.findings.add(
            .invalidValue,
            at: node,
            isNull
                ? "null cannot be allowed: a page of anybody can have this origin (sandboxed frames, files, data: URLs)"
                : "accepted is an origin as browsers send it, such as \"https://app.example.com\" or"
                    + " \"chrome-extension://ID\": no path and no *",
            suggestion: nearest.map { "\"\($0)\"" }
        )
        return nil
    }

    private mutating func allowedHost(_ node: Node) -> HostPort? {
        guard let text = node.string else { return nil }
        if let host = HostPort(text) { return host }
        self.findings.add(
            .invalidValue,
            at: node,
            "accepted is host, host:port or [::1]:port; without a port every port is admitted",
            suggestion: HTTPURL(text).map { "\"\($0.origin.authority)\"" }
        )
        return nil
    }

    /// An absolute http or https URL without user information.
    mutating func webURL(_ node: Node) -> HTTPURL? {
        guard let text = node.string else { return nil }
        guard let url = HTTPURL(written: text) else {
            self.findings.add(
                .invalidURL,
                at: node,
                text.isEmpty
                    ? "the URL is empty; accepted is an absolute http or https URL"
                    : "accepted is an absolute http or https URL without spaces and with a port from 1 to 65535; in its path,"
                        + " letters outside ASCII are percent-encoded; a host that is not understood is written in the"
                        + " xn-- form"
            )
            return nil
        }
        guard !url.hasUserInfo else {
            self.findings.add(
                .invalidURL,
                at: node,
                "found user information (user:password@); credentials stand in headers or options.auth, not in a URL"
            )
            return nil
        }
        return url
    }
}
