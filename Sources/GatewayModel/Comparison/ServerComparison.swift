// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What becomes of one server when a configuration takes the place of another.
package struct ServerComparison: Hashable, Sendable {
    /// From the weakest to the strongest of those that a server can have that is in both configurations.
    package enum Verdict: String, Sendable {
        /// Nothing is different.
        case same
        /// The upstream lives on with other settings; its sessions, streams, children and connections stay.
        case tuned
        /// A new upstream takes what is new; the old one keeps its sessions until they end.
        case replaced
        /// It was not there, or was not started.
        case added
        /// It is not there any more, is called otherwise, or is not started any more.
        case removed
    }

    /// The key in `mcpServers`.
    package let name: String
    package let verdict: Verdict
    /// The keys whose values are others, as they are written in the entry of the server; sorted, never a value.
    package let keys: [String]

    init(name: String, verdict: Verdict, keys: [String]) {
        self.name = name
        self.verdict = verdict
        self.keys = keys
    }

    /// Compares a server that is started in both configurations.
    init(from old: UpstreamConfiguration, to new: UpstreamConfiguration, changedFiles: Set<String>) {
        var changed = UpstreamConfiguration.keys.changed(from: old, to: new)
        switch (old.transport, new.transport) {
        case (.http(let old), .http(let new)):
            changed += HTTPUpstreamConfiguration.keys.changed(from: old, to: new)
            if let old = old.credentials, let new = new.credentials {
                changed += CredentialPoolConfiguration.keys.changed(from: old, to: new)
            }
            if new.names(anyOf: changedFiles) { changed.append((name: "tls", weight: .replaced)) }
        case (.stdio(let old), .stdio(let new)):
            changed += StdioUpstreamConfiguration.keys.changed(from: old, to: new)
        case (.http, .stdio), (.stdio, .http):
            changed.append((name: "transportType", weight: .replaced))
        }
        let isReplaced = changed.contains { $0.weight == .replaced }
        self.init(
            name: new.name,
            verdict: changed.isEmpty ? .same : isReplaced ? .replaced : .tuned,
            keys: Set(changed.map(\.name)).sorted()
        )
    }
}

extension HTTPUpstreamConfiguration {
    /// Whether TLS towards the server or its proxy reads one of these files.
    fileprivate func names(anyOf files: Set<String>) -> Bool {
        [self.tls, self.outboundProxy?.tls].compactMap(\.self)
            .flatMap { [$0.caFile, $0.certFile, $0.keyFile] }
            .contains { $0.map(files.contains) ?? false }
    }
}
