// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayObservability

@Suite("docs/METRICS.md") struct MetricsDocumentTests {
    /// The rows of its tables: name, type and labels.
    static func rows() throws -> [String: [String]] {
        let text = Repository.content(of: try #require(Repository.root) + "/docs/METRICS.md")
        var rows: [String: [String]] = [:]
        for line in text.split(separator: "\n") where line.hasPrefix("| `mcp_proxy_") {
            let cells = line.split(separator: "|").map { $0.filter { !" `".contains($0) } }
            try #require(cells.count == 4)
            #expect(rows[cells[0]] == nil)
            rows[cells[0]] = Array(cells[1...2])
        }
        return rows
    }

    @Test("Every metric is described with its type and its labels, and no other is")
    func complete() throws {
        let rows = try Self.rows()
        let expected = MetricDefinition.all.map { definition in
            let labels = definition.labelNames.joined(separator: ",")
            return (definition.name, [definition.kind.rawValue, labels.isEmpty ? "none" : labels])
        }
        #expect(rows == Dictionary(uniqueKeysWithValues: expected))
    }
}
