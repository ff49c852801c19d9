// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@testable import GatewayConfiguration

@Suite("Documentation") struct DocumentationTests {
    private static let page = "docs/CONFIGURATION.md"
    /// The secret files that the page names.
    private static let files = TestFiles(["/run/secrets/search_a": "a", "/run/secrets/search_b": "b", "/c/wiki": "w"])

    /// Blocks of `jsonc` are files of ours, blocks of `json` are those of clients.
    private func blocks(of kind: String = "jsonc") throws -> [String] {
        try Repository.text(of: Self.page).split(separator: "```\(kind)\n").dropFirst()
            .compactMap { part in
                part.split(separator: "\n```", maxSplits: 1, omittingEmptySubsequences: false).first.map(String.init)
            }
    }

    @Test("Every configuration in the documentation loads without an error or an unset variable")
    func blocksLoad() throws {
        let blocks = try self.blocks()
        #expect(blocks.count >= 5)
        for block in blocks {
            let result = ConfigurationLoader.load(
                bytes: Array(block.utf8),
                sourceName: "config.json",
                environment: block.contains("{CREDENTIALS_DIRECTORY}") ? ["CREDENTIALS_DIRECTORY": "/c"] : [:],
                options: LoadOptions(secretFiles: SecretFiles(directory: "", reader: Self.files))
            )
            #expect(result.snapshot != nil, "\(result.findings) in \(block)")
            #expect(!result.codes.contains("unknown-key") && !result.codes.contains("variable-unset"))
        }
    }

    @Test("Every client's file in the documentation loads, once its variables are set, with nothing but info")
    func clientBlocksLoad() throws {
        let blocks = try self.blocks(of: "json")
        #expect(!blocks.isEmpty)
        for block in blocks {
            let result = load(block, environment: ["SEARCH_KEY": "k"])
            #expect(result.snapshot != nil && result.findings.allSatisfy { $0.severity == .info }, "\(result.findings)")
        }
    }

    @Test("Every spelling and every reference of other programs is documented")
    func spellings() throws {
        let text = try Repository.text(of: Self.page).lowercased()
        for table in [KeyTable.clientFile, .clientServer] {
            for (spelling, meaning) in table.spellings {
                #expect(text.contains("`\(spelling)`"), "\(spelling)")
                for value in meaning.values { #expect(text.contains("`\(value.written)`"), "\(value.written)") }
            }
        }
        for form in EditorReferences.forms where form.beginning != "workspaceRoot" {
            #expect(text.contains("${\(form.beginning.lowercased())"), "\(form.beginning)")
        }
        for (key, _) in DocumentKind.foreignKeys { #expect(text.contains("`\(key)`"), "\(key)") }
    }

    @Test("Every configuration in the documentation that is plain JSON is valid for the schema")
    func blocksAreValid() throws {
        let schema = try SchemaValidator(ConfigurationSchema.text)
        // The schema is about JSON; an unquoted variable is not.
        for block in try self.blocks() where !block.contains(": ${") {
            #expect(try schema.accepts(block), "\(block)")
        }
    }

    @Test("Every example starts today, once its variables are set, with warnings about nothing but what it says itself")
    func examples() throws {
        let schema = try SchemaValidator(ConfigurationSchema.text)
        let names = try Repository.files(in: "examples").filter { $0.hasSuffix(".json") }
        #expect(names == ["minimal.json", "proxies.json", "team.json"])
        for name in names {
            let text = try Repository.text(of: "examples/\(name)")
            let environment = [
                "TEAM_TOKEN": "t", "SEARCH_TOKEN": "s", "SEARCH_TOKEN_B": "b", "WIKI_KEY": "w", "PROXY_USER": "u",
                "PROXY_PASSWORD": "p",
            ]
            let result = load(text, environment: environment)
            #expect(result.snapshot != nil)
            #expect(result.codes == [])
            #expect(try schema.accepts(text))
        }
    }

    @Test("Every key is documented")
    func keys() throws {
        let text = try Repository.text(of: Self.page)
        let tables: [KeyTable] = [
            .root, .gateway, .gatewayOptions, .limits, .server, .options, .toolFilter, .credentials, .tls, .oauth,
            .outboundProxy,
            .outboundProxyLogin, .gatewayV1, .clientV1, .clientConfigV1, .clientFile, .clientServer,
        ]
        for key in tables.flatMap(\.keys) { #expect(text.contains("`\(key.name)`"), "\(key.name)") }
    }

    @Test("Every failure of an outbound proxy is documented with its stage, and with whether it is sent again")
    func outboundProxyFailures() throws {
        let documented = try Repository.text(of: "docs/OUTBOUND-PROXIES.md").split(separator: "\n")
            .filter { $0.hasPrefix("| `proxy.") }
            .map { row in
                let cells = row.split(separator: "|").map { $0.filter { $0 != " " && $0 != "`" } }
                try #require(cells.count == 5)
                return "\(cells[0]) \(cells[1].prefix { $0 != "," }) \(cells[4].hasPrefix("once"))"
            }
        let expected = OutboundProxyError.Code.allCases.map { code in
            "\(code.rawValue) \(code.stage.rawValue) \(OutboundProxyError(code, "").isSentAgain)"
        }
        #expect(documented.sorted() == expected.sorted())
    }

    @Test("Every kind of finding is documented with its severity")
    func findings() throws {
        let rows = try Repository.text(of: Self.page).split(separator: "\n")
            .filter { $0.hasPrefix("| `") && $0.split(separator: "|").count == 3 }
        let documented = rows.compactMap { row -> String? in
            let cells = row.split(separator: "|").map { $0.filter { $0 != " " && $0 != "`" } }
            return ["error", "warning", "info"].contains(cells[1]) ? "\(cells[0]) \(cells[1])" : nil
        }
        #expect(documented.sorted() == Finding.Code.allCases.map { "\($0.rawValue) \($0.severity.rawValue)" }.sorted())
    }
}
