// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayConfiguration

@Suite("Broken configurations") struct BrokenTests {
    static let all = Broken.textRows + Broken.gatewayRows + Broken.serverRows + Broken.optionRows

    @Test("A mistake is an error that names its kind, its path, its line and its column", arguments: Self.all)
    func isFound(row: Broken) throws {
        let result = load(row.text)
        #expect(result.snapshot == nil)
        let found = result.findings.filter { $0.severity == .error && $0.code == row.code && $0.path == row.path }
        let finding = try #require(
            found.first,
            "found instead: \(result.findings.map { $0.rendered(sourceName: "c") })"
        )
        #expect(found.count == 1)
        #expect(SourcePosition(line: finding.line, column: finding.column) == row.position)
        #expect(!finding.message.isEmpty)
    }

    @Test(
        "A document with one mistake has one error",
        arguments: Broken.gatewayRows + Broken.serverRows + Broken.optionRows
    )
    func isFoundOnce(row: Broken) {
        let errors = load(row.text).findings.filter { $0.severity == .error }
        #expect(errors.map(\.code) == [row.code])
    }

    @Test("There are more than a hundred ways to go wrong in these tables")
    func areMany() {
        #expect(Self.all.count > 100)
    }
}
