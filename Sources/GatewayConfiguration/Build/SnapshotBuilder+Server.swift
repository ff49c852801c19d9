// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel

/// What of a server is known before its transport is read.
struct ServerDraft {
    /// The key in `mcpServers`.
    var name: String
    var node: Node
    var options: Node?
    var settings: ServerOptions
    /// Whether it will run: not disabled, and nothing in it is refused.
    var isStarted: Bool
    var isV1: Bool

    /// A key of the server that means something for the other kind of server only.
    struct Misplaced {
        var key: String
        var node: Node
    }

    /// The keys of these names that are given.
    func misplaced(_ keys: [String], inOptions options: [String]) -> [Misplaced] {
        keys.compactMap { key in self.node[key].map { Misplaced(key: key, node: $0) } }
            + options.compactMap { key in self.options?[key].map { Misplaced(key: key, node: $0) } }
    }
}

extension SnapshotBuilder {
    /// One entry of `mcpServers`; nil if it cannot be understood.
    mutating func upstream(
        _ member: Node.Member,
        inherited: ServerOptions,
        origin: ServerOrigin
    ) -> UpstreamConfiguration? {
        let node = member.value
        let route = self.route(member)
        if node.isUnread { return nil }
        let options = node["options"]
        let isStdio = self.isStdio(node)
        let isDisabled = self.isLeftOut(node, options: options)
        let isRefused = !isDisabled && isStdio == false && node["oauth"] != nil
        if isRefused, let oauth = node["oauth"] {
            self.findings.add(
                .oauthNotBuilt,
                at: oauth,
                "OAuth towards upstreams is not built yet; this server is not started, the others are"
            )
        }
        var draft = ServerDraft(
            name: member.key,
            node: node,
            options: options,
            settings: self.options(options, inheriting: inherited, readsProxy: isStdio == false),
            isStarted: !isDisabled && !isRefused,
            isV1: origin.isV1
        )
        if origin.isV1 { Self.mergeTokensOfV1(into: &draft, inherited: inherited, isGatewayV1: origin.isGatewayV1) }
        self.warnIfOpen(draft)
        var upstream = UpstreamConfiguration(
            name: member.key,
            route: route ?? "",
            transport: .stdio(
                StdioUpstreamConfiguration(
                    command: "",
                    arguments: [],
                    environment: [],
                    workingDirectory: nil,
                    inherited: .allowList
                )
            )
        )
        upstream.isDisabled = !draft.isStarted
        upstream.isRefused = isRefused
        upstream.panicIfInvalid = draft.settings.panicIfInvalid
        upstream.isLogEnabled = draft.settings.isLogEnabled
        upstream.inboundTokens = draft.settings.inboundTokens ?? []
        upstream.toolFilter = self.toolFilter(of: node, options: options)
        upstream.pingInterval = draft.settings.pingInterval
        upstream.autoReconnect = draft.settings.autoReconnect
        upstream.reconnectInterval = draft.settings.reconnectInterval
        if let timeout = self.timeout(node["timeout"]) { upstream.timeout = timeout }
        if let pin = node["protocol"]?.string.flatMap({ UpstreamConfiguration.ProtocolPin(rawValue: $0) }) {
            upstream.protocolPin = pin
        }
        upstream.isolation = self.isolation(draft, isStdio: isStdio == true)
        switch isStdio {
        case true: upstream.transport = .stdio(self.stdioUpstream(draft))
        case false:
            guard let http = self.httpUpstream(draft) else { return nil }
            upstream.transport = .http(http)
            upstream.forwardHeaders = self.forwardHeaders(draft, http: http, isolation: upstream.isolation)
        case nil: return nil
        }
        return route == nil ? nil : upstream
    }

    /// Whether a server is neither started nor routed: any key that says so is enough.
    private mutating func isLeftOut(_ node: Node, options: Node?) -> Bool {
        let foreign = [(node["disabled"], true), (node["enabled"], false), (options?["enabled"], false)]
            .first { $0.0?.boolean == $0.1 }
        if let place = foreign?.0 {
            self.findings.add(
                .foreignKey,
                at: place,
                "the server is neither started nor routed, as with options.disabled"
            )
        }
        return foreign != nil || options?["disabled"]?.boolean == true
    }

    private mutating func route(_ member: Node.Member) -> String? {
        do {
            return try ServerRoute.make(of: member.key)
        } catch {
            if member.key.contains("${") {
                self.findings.add(
                    .invalidName,
                    at: member,
                    "variables are not expanded in keys, and this name makes no route as it stands; write it out"
                )
                return nil
            }
            self.findings.add(
                .invalidName,
                at: member,
                "this name makes no route: \(error.reason); accepted are letters, digits and -._~!$&'()*+,=:@,"
                    + " in segments between slashes",
                suggestion: ServerRoute.nearest(to: member.key).map { "\"\($0)\"" }
            )
            return nil
        }
    }

    /// Whether a server is a child process; nil and a finding if that cannot be said.
    private mutating func isStdio(_ node: Node) -> Bool? {
        let command = node["command"]
        let url = node["url"]
        if let command, url != nil {
            self.findings.add(
                .conflictingKeys,
                at: command,
                "command and url exclude each other; a server has one of them"
            )
            return nil
        }
        // Of one that is no transport it is said already.
        let type = node["transportType"].flatMap { $0.isUnread ? nil : $0 }
        if type?.string == "stdio" {
            if command == nil { self.reportMissing("command", of: node, because: "for transportType stdio") }
            return command == nil ? nil : true
        }
        if type != nil {
            if url == nil { self.reportMissing("url", of: node, because: "for this transportType") }
            return url == nil ? nil : false
        }
        if command == nil, url == nil {
            self.reportMissing("url", of: node, because: "unless there is a command")
            return nil
        }
        return command != nil
    }

    private mutating func reportMissing(_ key: String, of node: Node, because reason: String) {
        self.findings.add(
            .missingKey,
            path: node.path.appending(key: key),
            position: node.position,
            "this key is required \(reason) and missing; accepted is \(KeyTable.server[key]?.shape.expectation ?? "")"
        )
    }

    private mutating func isolation(_ draft: ServerDraft, isStdio: Bool) -> UpstreamConfiguration.Isolation {
        guard let node = draft.options?["isolation"],
            let isolation = node.string.flatMap({ UpstreamConfiguration.Isolation(rawValue: $0) })
        else { return isStdio ? .shared : .session }
        return isolation
    }

    /// In the first version a client admits its own tokens and the global ones.
    private static func mergeTokensOfV1(
        into draft: inout ServerDraft,
        inherited: ServerOptions,
        isGatewayV1: Bool
    ) {
        guard draft.options?["authTokens"] != nil else { return }
        let own = draft.settings.inboundTokens ?? []
        let global = inherited.inboundTokens ?? []
        draft.settings.inboundTokens = own + (isGatewayV1 || own.isEmpty ? global.filter { !own.contains($0) } : [])
    }

    private mutating func warnIfOpen(_ draft: ServerDraft) {
        guard draft.isStarted, !draft.isV1, let tokens = draft.options?["authTokens"], tokens.elements?.isEmpty == true
        else {
            return
        }
        self.findings.add(.openServer, at: tokens, "an empty list opens this server to anybody, whatever is inherited")
    }

    /// Says of keys that belong to the other kind of server that they do nothing.
    mutating func warnAboutMisplaced(_ misplaced: [ServerDraft.Misplaced], _ reason: String) {
        for entry in misplaced {
            self.findings.add(.noEffect, at: entry.node, "\(entry.key) has no effect on \(reason)")
        }
    }
}
