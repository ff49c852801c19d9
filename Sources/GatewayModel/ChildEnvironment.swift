// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// A child is code of somebody else. It gets what a program needs to find its files, its language and its certificates,
// and what the configuration says it gets; our tokens, proxy settings and everything else that happens to be in our
// environment it gets only if `inheritEnv` says so (contract §2, faults S12.3).

/// The environment that a child is started with.
package enum ChildEnvironment {
    /// What every child gets of ours, if we have it.
    private static let allowed = [
        "PATH", "HOME", "USER", "LANG", "LC_*", "TZ", "TMPDIR", "XDG_*", "SSL_CERT_FILE", "SSL_CERT_DIR",
        "NODE_EXTRA_CA_CERTS",
    ]
    /// What concerns this process only: the settings of its own crash reports and the mark of its second start.
    private static let own: Set<String> = ["SWIFT_BACKTRACE", "MCP_PROXY_SET_UP"]

    /// The variables of a child; `ours` is the environment of this process.
    ///
    /// What the configuration sets for the child wins.
    package static func variables(
        for configuration: StdioUpstreamConfiguration,
        from ours: [String: String]
    ) -> [String: String] {
        var patterns = self.allowed
        switch configuration.inherited {
        case .allowList: break
        case .all: patterns = ["*"]
        case .named(let names): patterns += names
        }
        var variables = ours.filter { entry in
            !entry.key.isEmpty && !self.own.contains(entry.key) && patterns.contains { self.matches(entry.key, $0) }
        }
        for (name, value) in configuration.environment { variables[name] = value.reveal() }
        return variables
    }

    /// Whether `name` is `pattern`, or begins with it if the pattern ends in `*`.
    private static func matches(_ name: String, _ pattern: String) -> Bool {
        guard pattern.hasSuffix("*") else { return name == pattern }
        return name.utf8.starts(with: pattern.utf8.dropLast())
    }
}
