// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

/// The files that ten clients document, with names and values of ours (December 2026).
@Suite("Examples of MCP clients") struct ClientExampleTests {
    private static let environment = [
        "TICKETS_TOKEN": "t", "API_KEY": "k", "MY_SERVICE_TOKEN": "m", "SEARCH_KEY": "s", "DB_CONNECTION_STRING": "d",
        "EXTERNAL_API_KEY": "e", "AUTH_TOKEN": "a", "REMOTE_TOKEN": "r", "HOME": "/home/x",
    ]

    /// A file, and all that is said about it.
    static let files: [(String, [String])] = [
        (
            "claude-code.json",
            [
                "4:7 info foreign-key mcpServers.tickets.type",
                "11:7 info foreign-key mcpServers.events.type",
                "15:7 info foreign-key mcpServers.database.type",
            ]
        ),
        (
            "claude-desktop.json",
            [
                "2:3 info client-key globalShortcut"
            ]
        ),
        (
            "cursor.json",
            [
                "4:7 info foreign-key mcpServers.local.type",
                "6:16 info foreign-key mcpServers.local.args[0]",
                "8:20 info foreign-key mcpServers.local.env.API_KEY",
            ]
        ),
        (
            "vscode.json",
            [
                "11:3 info foreign-key servers",
                "13:7 info foreign-key servers.docs.type",
                "17:7 info foreign-key servers.search.type",
                "21:27 info foreign-key servers.search.env.SEARCH_API_KEY",
                "23:7 info client-key servers.search.dev",
            ]
        ),
        (
            "codex.toml",
            [
                "2:1 error foreign-file"
            ]
        ),
        (
            "gemini.json",
            [
                "2:3 info client-key theme",
                "15:23 info foreign-key mcpServers.python.includeTools",
                "18:7 info foreign-key mcpServers.stream.httpUrl",
                "27:23 info foreign-key mcpServers.events.excludeTools",
            ]
        ),
        (
            "windsurf.json",
            [
                "4:7 info foreign-key mcpServers.remote-http.serverUrl",
                "6:20 info foreign-key mcpServers.remote-http.headers.API_KEY",
                "8:24 info foreign-key mcpServers.remote-http.disabledTools",
                "14:22 info foreign-key mcpServers.mail.env.MAIL_PORT",
                "16:19 info foreign-key mcpServers.mail.disabled",
                "17:7 info client-key mcpServers.mail.alwaysAllow",
            ]
        ),
        (
            "zed.json",
            [
                "3:3 error foreign-file context_servers"
            ]
        ),
        (
            "cline.json",
            [
                "9:7 info client-key mcpServers.local.alwaysAllow",
                "14:7 info foreign-key mcpServers.remote.type",
            ]
        ),
        (
            "continue.json",
            [
                "9:7 info foreign-key mcpServers.docs.type"
            ]
        ),
        (
            "continue.yaml",
            [
                "1:1 error foreign-file"
            ]
        ),
    ]

    private func load(_ name: String) throws -> LoadResult {
        ConfigurationLoader.load(
            bytes: try Repository.bytes(of: "Tests/GatewayConfigurationTests/Inputs/clients/\(name)"),
            sourceName: name,
            environment: Self.environment,
            options: LoadOptions(
                secretFiles: SecretFiles(directory: "", reader: TestFiles(["local.env": "REGION=eu\n"]))
            )
        )
    }

    @Test("Every documented file loads with nothing but info, or is refused with one error", arguments: Self.files)
    func said(name: String, expected: [String]) throws {
        let result = try self.load(name)
        let found = result.findings.map { finding in
            "\(finding.line):\(finding.column) \(finding.severity.rawValue) \(finding.code.rawValue)"
                + (finding.path.isEmpty ? "" : " \(finding.path)")
        }
        #expect(found == expected, "\(result.findings.map(\.message))")
        #expect((result.snapshot == nil) == expected.contains { $0.contains(" error ") })
    }

    @Test("Every file has its row")
    func rows() throws {
        let names = try Repository.files(in: "Tests/GatewayConfigurationTests/Inputs/clients")
        #expect(names == Self.files.map(\.0).sorted())
    }

    @Test("What they mean arrives")
    func meaning() throws {
        let code = try #require(self.load("claude-code.json").snapshot).upstreams
        #expect(code.map(\.name) == ["tickets", "events", "database"])
        guard case .http(let tickets) = code[0].transport, case .http(let events) = code[1].transport,
            case .stdio = code[2].transport
        else {
            Issue.record("other transports")
            return
        }
        #expect(tickets.kind == .detect && events.kind == .sse)
        #expect(tickets.url.path == "/mcp" && tickets.headers.map { $0.value.reveal() } == ["Bearer t"])

        guard case .stdio(let cursor)? = try self.load("cursor.json").snapshot?.upstreams.first?.transport else {
            return
        }
        #expect(cursor.arguments == ["/home/x/tools/server.py"])
        #expect(cursor.environment.map { "\($0.name)=\($0.value.reveal())" } == ["REGION=eu", "API_KEY=k"])

        let gemini = try #require(self.load("gemini.json").snapshot).upstreams
        #expect(gemini.map(\.timeout) == [.seconds(15), .seconds(5), .seconds(300)])
        #expect(gemini.map(\.toolFilter?.mode) == [.allow, nil, .block])

        let windsurf = try #require(self.load("windsurf.json").snapshot).upstreams
        #expect(windsurf.map(\.isDisabled) == [false, true])
        #expect(windsurf[0].toolFilter == ToolFilter(mode: .block, names: ["drop_table"]))

        let cline = try #require(self.load("cline.json").snapshot).upstreams
        #expect(cline.map(\.timeout) == [.seconds(60), .seconds(300)])
    }

    @Test("Without the variable that an editor would ask for, what it would ask is said")
    func question() throws {
        let result = ConfigurationLoader.load(
            bytes: try Repository.bytes(of: "Tests/GatewayConfigurationTests/Inputs/clients/vscode.json"),
            sourceName: "mcp.json",
            environment: [:]
        )
        let errors = result.findings.filter { $0.severity == .error }
        #expect(errors.map(\.code) == [.inputUnset])
        #expect(
            errors.first?.message.contains("SEARCH_KEY is not set, for which its editor asks: \"Search API key\"")
                == true
        )
    }
}
