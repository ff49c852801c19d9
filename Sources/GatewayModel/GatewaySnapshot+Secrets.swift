// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire

extension GatewaySnapshot {
    /// Every value that must be masked in whatever is written, each once (contract §5).
    ///
    /// Inbound tokens, credentials, proxy users and passwords, user information and query values of URLs, and the
    /// values of headers and `env` with the exception of plain ones (`SecretText`). Only values of eight characters
    /// and more: shorter ones occur by chance in what has to stay readable.
    package var secrets: [Secret] {
        var collection = SecretCollection()
        collection.add(self.listener.statusTokens)
        for upstream in self.upstreams {
            collection.add(upstream.inboundTokens)
            switch upstream.transport {
            case .http(let http): collection.add(http)
            case .stdio(let stdio): collection.add(stdio)
            }
        }
        return collection.secrets
    }
}

/// Secrets as they are gathered, each once.
private struct SecretCollection {
    private(set) var secrets: [Secret] = []
    private var seen: Set<Secret> = []

    mutating func add(_ secrets: [Secret]) {
        for secret in secrets { self.add(secret) }
    }

    mutating func add(_ secret: Secret) {
        guard secret.reveal().count >= SecretText.shortest, self.seen.insert(secret).inserted else { return }
        self.secrets.append(secret)
    }

    mutating func add(_ http: HTTPUpstreamConfiguration) {
        for value in SecretText.queryValues(of: http.url.target[...]) { self.add(Secret(value)) }
        for header in http.headers { self.add(header.value, named: header.name) }
        self.add(http.credentials?.tokens ?? [])
        if case .explicit(let proxy) = http.proxy {
            self.add([proxy.username, proxy.password].compactMap { $0 })
        }
    }

    mutating func add(_ stdio: StdioUpstreamConfiguration) {
        for variable in stdio.environment { self.add(variable.value, named: variable.name) }
        for argument in stdio.arguments {
            for value in SecretText.partsOfURL(argument) { self.add(Secret(value)) }
        }
    }

    /// Adds a header or variable as a whole, what follows an authentication scheme, and what a URL in it hides.
    private mutating func add(_ secret: Secret, named name: String) {
        let text = secret.reveal()
        if SecretText.isSecretName(name) || !SecretText.isPlain(text) {
            self.add(secret)
            if let space = text.firstIndex(of: " ") { self.add(Secret(String(text[text.index(after: space)...]))) }
        }
        for value in SecretText.partsOfURL(text) { self.add(Secret(value)) }
    }
}
