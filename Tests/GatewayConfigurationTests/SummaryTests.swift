// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

@Suite("Summary") struct SummaryTests {
    private func summary(of name: String) throws -> String {
        let text = try Repository.text(of: "Tests/GatewayConfigurationTests/Inputs/\(name).json")
        let environment = ["TOKEN": "CANARY-env", "http_proxy": "http://CANARY-u:CANARY-p@proxy.example.net:3128"]
        let snapshot = try #require(load(text, environment: environment).snapshot)
        return ConfigurationSummary(snapshot, environment: environment).text
    }

    @Test(
        "What was understood is printed line by line as it was on record",
        arguments: ["summary-plain", "summary-full"]
    )
    func golden(name: String) throws {
        let expected = try Repository.text(of: "Tests/GatewayConfigurationTests/Inputs/\(name).txt")
        #expect(try self.summary(of: name) == expected)
    }

    @Test("A filter with patterns says how many of its entries are some")
    func patterns() throws {
        let filter = #""toolFilter": {"mode": "block", "list": ["delete_*", "drop", "*"]}"#
        let snapshot = try #require(load(document(options: filter)).snapshot)
        let text = ConfigurationSummary(snapshot, environment: [:]).text
        #expect(text.contains("  tools: block *, delete_*, drop (2 of 3 with *)\n"))
    }

    @Test("A summary has no control characters but line ends, whatever names are in it")
    func control() throws {
        let result = load(
            #"""
            {"mcpProxy": {"baseURL": "http://h", "addr": "localhost:1", "name": "a\u202e\"b", "version": "\u00a0"},
            "mcpServers": {"x": {"command": "c\u001b[31m", "cwd": "/\n"}}}
            """#
        )
        let text = ConfigurationSummary(try #require(result.snapshot), environment: [:]).text
        #expect(text.unicodeScalars.allSatisfy { $0 == "\n" || $0.isVisible })
        #expect(text.contains(#"gateway "a\u{202e}\"b" "\u{a0}""#))
    }

    @Test("A finding is one line that names file, place, severity, path and code")
    func rendered() {
        let finding = load(document(server: #""url": "https://h/", "timeot": 1"#)).findings[0]
        #expect(
            finding.rendered(sourceName: "config.json")
                == #"config.json:4:22: warning: mcpServers.one.timeot: this key is unknown and has no effect; did you mean "timeout"? [unknown-key]"#
        )
    }
}
