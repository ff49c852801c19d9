// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayConfiguration

@Suite("No configuration") struct MissingConfigurationTests {
    @Test(
        "The file of a client that is there is named, and never taken by itself",
        arguments: [
            ([".mcp.json"], "Found .mcp.json: mcp-proxy --config .mcp.json"),
            ([".vscode/mcp.json", ".mcp.json"], "Found .mcp.json: mcp-proxy --config .mcp.json"),
            ([".cursor/mcp.json"], "Found .cursor/mcp.json: mcp-proxy --config .cursor/mcp.json"),
            (["other.json"], "--config names another file, also that of an MCP client."),
        ]
    )
    func found(files: [String], words: String) {
        let text = MissingConfiguration.text(commands: ["serve"]) { files.contains($0) }
        #expect(text == "no config.json here. \(words)")
    }

    @Test("Commands that there are begin without a file; others are not named")
    func commands() {
        let all = ["serve", "run", "import", "init", "demo"]
        #expect(
            MissingConfiguration.text(commands: all) { $0 == ".mcp.json" } == """
                no config.json here. Found .mcp.json: mcp-proxy --config .mcp.json
                Or: mcp-proxy run -- uvx mcp-server-time · mcp-proxy import cursor · mcp-proxy init · mcp-proxy demo
                """
        )
        #expect(
            MissingConfiguration.text(commands: ["serve", "demo"]) { $0 == ".mcp.json" } == """
                no config.json here. Found .mcp.json: mcp-proxy --config .mcp.json
                Or: mcp-proxy demo
                """
        )
    }
}
