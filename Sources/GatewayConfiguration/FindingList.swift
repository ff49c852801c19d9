// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The findings of one load, as they are made.
struct FindingList: Sendable {
    /// How many of one severity are kept: a hostile document could cause millions.
    static let limit = 1_000

    private(set) var all: [Finding] = []
    private var counts: [Finding.Severity: Int] = [:]

    mutating func add(_ finding: Finding) {
        let count = self.counts[finding.severity, default: 0]
        guard count < Self.limit else { return }
        self.counts[finding.severity] = count + 1
        self.all.append(finding)
    }

    /// Adds a finding about a value.
    mutating func add(_ code: Finding.Code, at node: Node, _ message: String, suggestion: String? = nil) {
        self.add(code, path: node.path, position: node.position, message, suggestion: suggestion)
    }

    /// Adds a finding about a key.
    mutating func add(_ code: Finding.Code, at member: Node.Member, _ message: String, suggestion: String? = nil) {
        self.add(code, path: member.value.path, position: member.position, message, suggestion: suggestion)
    }

    mutating func add(
        _ code: Finding.Code,
        path: DocumentPath,
        position: SourcePosition,
        _ message: String,
        suggestion: String? = nil
    ) {
        self.add(
            Finding(
                code: code,
                path: path.description,
                line: position.line,
                column: position.column,
                message: message,
                suggestion: suggestion
            )
        )
    }

    /// The findings in the order of the document; those of one place in the order in which they were made.
    var sorted: [Finding] {
        self.all.enumerated()
            .sorted { one, other in
                (one.element.line, one.element.column, one.offset)
                    < (other.element.line, other.element.column, other.offset)
            }
            .map(\.element)
    }
}
