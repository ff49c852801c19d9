// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// One thing that a configuration says wrongly, doubtfully or in vain.
///
/// It names the place and what is accepted there, and never repeats a value that could be secret.
package struct Finding: Hashable, Sendable {
    /// How much it matters.
    package enum Severity: String, Comparable, Sendable {
        /// Good to know; nothing needs to change.
        case info
        /// The configuration loads; `check --strict` refuses it.
        case warning
        /// The configuration does not load.
        case error

        package static func < (one: Severity, other: Severity) -> Bool { one.rank < other.rank }

        private var rank: Int {
            switch self {
            case .info: 0
            case .warning: 1
            case .error: 2
            }
        }
    }

    package let code: Code
    /// Where in the document, such as `mcpServers.github.options.auth.tokens[1]`; empty for the document as a whole.
    package let path: String
    /// The line, counted from 1.
    package let line: Int
    /// The column, counted from 1 in Unicode scalars.
    package let column: Int
    /// What is wrong and what is accepted.
    package let message: String
    /// What to write instead, where that can be said.
    package let suggestion: String?

    package init(
        code: Code,
        path: String,
        line: Int,
        column: Int,
        message: String,
        suggestion: String? = nil
    ) {
        self.code = code
        self.path = path
        self.line = line
        self.column = column
        self.message = message
        self.suggestion = suggestion
    }

    package var severity: Severity { self.code.severity }

    /// The finding as one line of text, in the shape that editors and CI systems recognise.
    ///
    /// `config.json:3:13: error: mcpProxy.addr: … [invalid-address]`
    package func rendered(sourceName: String) -> String {
        let place = self.path.isEmpty ? "" : "\(self.path): "
        let advice = self.suggestion.map { "; did you mean \($0)?" } ?? ""
        return "\(sourceName):\(self.line):\(self.column): \(self.severity.rawValue): \(place)\(self.message)\(advice)"
            + " [\(self.code.rawValue)]"
    }
}
