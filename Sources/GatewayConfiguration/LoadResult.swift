// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel

/// What came of reading a configuration.
package struct LoadResult: Sendable {
    /// What to run with; nil if any finding is an error.
    package let snapshot: GatewaySnapshot?
    /// What could be understood in spite of errors, for printing only; nil if the text or `mcpProxy` is unusable.
    package let understood: GatewaySnapshot?
    /// In the order of the document; never empty when `snapshot` is nil.
    package let findings: [Finding]
    /// The name under which findings are shown: a path or a URL without its secrets.
    package let sourceName: String

    package init(understood: GatewaySnapshot?, findings: [Finding], sourceName: String) {
        self.snapshot = findings.contains { $0.severity == .error } ? nil : understood
        self.understood = understood
        self.findings = findings
        self.sourceName = sourceName
    }

    /// The gravest severity found; nil without findings.
    package var gravest: Finding.Severity? { self.findings.map(\.severity).max() }
}

/// How a configuration is read.
package struct LoadOptions: Sendable {
    /// Whether `${VAR}` in values is replaced (`--expand-env`).
    package var expandsEnvironment: Bool

    package init(expandsEnvironment: Bool = true) {
        self.expandsEnvironment = expandsEnvironment
    }
}
