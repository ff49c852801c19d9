// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel

/// What `mcpProxy.options` gives to servers, or a server has after inheriting.
struct ServerOptions {
    var panicIfInvalid = false
    var isLogEnabled = false
    /// Nil: none are given; empty: deliberately open.
    var inboundTokens: [Secret]?
    /// Nil: never probed.
    var pingInterval: Duration? = .seconds(30)
    var autoReconnect = true
    var reconnectInterval = Duration.seconds(15)
    var proxy: OutboundProxyReading?
}

extension SnapshotBuilder {
    /// `mcpProxy.options`.
    mutating func inheritedOptions(_ node: Node?) -> ServerOptions {
        for key in ["toolFilter", "disabled"] {
            guard let node = node?[key] else { continue }
            self.findings.add(.noEffect, at: node, "this has no effect here; set it in the options of each server")
        }
        return self.options(node, inheriting: ServerOptions(), readsProxy: true)
    }

    /// The inheritable part of a server's options.
    mutating func options(_ node: Node?, inheriting base: ServerOptions, readsProxy: Bool) -> ServerOptions {
        var options = base
        guard let node else { return options }
        if let value = node["panicIfInvalid"]?.boolean { options.panicIfInvalid = value }
        if let value = node["logEnabled"]?.boolean { options.isLogEnabled = value }
        if let value = node["autoReconnect"]?.boolean { options.autoReconnect = value }
        if let value = self.duration(node["pingInterval"], zero: .off) {
            options.pingInterval = value == .zero ? nil : value
        }
        if let value = self.duration(node["reconnectInterval"], zero: .refused) { options.reconnectInterval = value }
        if let tokens = node["authTokens"] { options.inboundTokens = self.inboundTokens(tokens) }
        if readsProxy, let proxy = node["proxy"] { options.proxy = self.outboundProxy(proxy) }
        return options
    }

    /// Tokens that callers present: none may be empty, or anybody who sends nothing could come in (contract §2).
    private mutating func inboundTokens(_ node: Node) -> [Secret] {
        var tokens: [Secret] = []
        for element in node.elements ?? [] {
            guard let text = element.string else { continue }
            switch TokenText(text) {
            case .empty:
                self.findings.add(
                    .emptySecuritySetting,
                    at: element,
                    "this token is empty; accepted is a token of visible ASCII characters, or remove the entry"
                )
            case .unusable:
                self.findings.add(.invalidToken, at: element, TokenText.rule)
            case .usable(let token, let isTrimmed, let hasScheme):
                if isTrimmed {
                    self.findings.add(.tokenWhitespace, at: element, "white space around this token is left out")
                }
                if hasScheme {
                    self.findings.add(
                        .tokenScheme,
                        at: element,
                        "this begins with Bearer, which callers send besides the token; it will match nobody"
                    )
                }
                tokens.append(Secret(token))
            }
        }
        return tokens
    }
}
