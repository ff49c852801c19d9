// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

/// A file without `mcpProxy`: what clients write is read, or said to be unread, or refused (decision 0044).
@Suite("Files of MCP clients") struct ClientFileTests {
    private static let foreign = "info foreign-key"
    private static let environment = [
        "TOKEN": "t", "HOME": "/home/x", "API_KEY": "k", "_1_KEY": "one", "workspaceFolderBasename": "w",
        "EMPTY_KEY": "",
    ]
    private static let environmentFile = TestFiles([
        "keys.env": "A=of the file\nB=two", "broken.env": "A=1\nno line", "/etc/keys": "C=3",
    ])

    private func load(_ text: String) -> LoadResult {
        ConfigurationLoader.load(
            bytes: Array(text.utf8),
            sourceName: ".mcp.json",
            environment: Self.environment,
            options: LoadOptions(
                secretFiles: SecretFiles(directory: "", reader: Self.environmentFile),
                gateway: GatewayDefaults(version: "9.9")
            )
        )
    }

    /// What is read: all of them load.
    static let readRows: [ClientRow] = [
        // The servers.
        .http(#""headers": {"A": "b"}"#), .stdio(#""args": ["a"], "env": {"A": "b"}, "cwd": "/""#),
        ClientRow(#"{▶"servers": {"one": {"command": "c"}}}"#, [foreign]),
        ClientRow(#"{"$schema": "x", "mcpProxy": null, "mcpServers": {"one": {"command": "c"}}}"#, []),
        // How one is reached.
        .http(#"▶"type": "http""#, [foreign]), .http(#"▶"type": "sse""#, [foreign]),
        .http(#"▶"type": "streamable-http""#, [foreign]), .http(#"▶"type": "streamableHttp""#, [foreign]),
        .http(#"▶"type": "streamable_http""#, [foreign]), .http(#"▶"type": "remote""#, [foreign]),
        .http(#"▶"transport": "HTTP""#, [foreign]), .stdio(#"▶"type": "stdio""#, [foreign]),
        .stdio(#"▶"transport": "local""#, [foreign]), .http(#""type": null"#),
        .server(#"▶"serverUrl": "https://h/mcp""#, [foreign]), .server(#"▶"httpUrl": "https://h/mcp""#, [foreign]),
        .server(#""url": null, ▶"serverUrl": "https://h/mcp", "httpUrl": null"#, [foreign]),
        // Left out, and hidden.
        .http(#""disabled": ▶true"#, [foreign]), .http(#""enabled": ▶false"#, [foreign]), .http(#""disabled": false"#),
        .http(#""includeTools": ▶["a"]"#, [foreign]), .http(#""enabled_tools": ▶["a"]"#, [foreign]),
        .http(#""tools": ▶["a"]"#, [foreign]), .http(#""tools": ["*"]"#), .http(#""includeTools": ["*"]"#),
        .http(#""tools": ["*"], "excludeTools": ▶["a"]"#, [foreign]),
        .http(#""excludeTools": ▶["a"]"#, [foreign]), .http(#""disabledTools": ▶["a"]"#, [foreign]),
        // Values.
        .stdio(#""env": {"A": ▶1, "B": true}, "args": ["-p", 80.50, false]"#, [foreign]),
        .stdio(#""envFile": "keys.env""#), .stdio(#""envFile": "/etc/keys""#),
        .http(#""timeout": 30"#), .http(#""timeout": 60000"#), .http(#""timeout": "30s""#), .http(#""timeout": 0"#),
        .http(#""envFile": ▶"missing.env""#, ["warning no-effect"]),
        // Variables.
        .stdio(#""args": [▶"${env:TOKEN}", "${env:TOKEN}"]"#, [foreign]),
        .stdio(#""args": [▶"${userHome}/x", ▶"a${pathSeparator}b", ▶"${/}"]"#, [foreign, foreign, foreign]),
        .stdio(#""args": ["${workspaceFolderBasename}"]"#), .stdio(#""args": ["$${env:TOKEN}", "{TOKEN}", "$${{x}}"]"#),
        .stdio(#""env": {"K": ▶"${input:api-key}", "L": "${input:api_key}"}"#, [foreign]),
        .stdio(#""env": {"K": ▶"${input:1-key}"}"#, [foreign]),
        .stdio(#""args": [▶▶"${env:UNSET}"]"#, ["warning variable-unset", foreign]),
        // What is the client's.
        .http(#"▶"autoApprove": ["x"], "trust": true, "description": "d", "dev": {"watch": "x"}"#, ["info client-key"]),
        ClientRow(
            #"{▶"numStartups": 3, "projects": {"a": "${broken"}, "mcpServers": {"one": {"command": "c"}}, "theme": "x"}"#,
            ["info client-key"]
        ),
        ClientRow(
            #"{"mcpServers": {"one": {"command": "c"}}, "inputs": [{"id": "x"}], "mcp": {▶"serverCommand": "x"}}"#,
            ["info client-key"]
        ),
        .http(#"▶"requestOptions": {}"#, ["warning unknown-key"]),
        .http(#"▶"sandboxEnabled": false"#, ["warning unknown-key"]),
    ]

    /// What is refused.
    static let refusedRows: [ClientRow] = [
        ClientRow("▶{}", ["error missing-key"]), ClientRow(#"{"mcpServers": ▶{}}"#, ["error missing-key"]),
        ClientRow(#"▶{"mcpProxy": null}"#, ["error missing-key"]),
        ClientRow(#"▶{▶"theme": "x"}"#, ["error missing-key", "info client-key"]),
        ClientRow(
            #"{"mcpServers": {"one": {"command": "c"}}, ▶"servers": {"two": {"command": "c"}}}"#,
            ["error conflicting-keys"]
        ),
        .http(#"▶"serverUrl": "https://h/""#, ["error conflicting-keys"]),
        .server(#"▶"serverUrl": "https://h/", ▶"httpUrl": "https://h/""#, [foreign, "error conflicting-keys"]),
        .server(#"▶"httpUrl": "https://h/", ▶"url": "https://h/""#, [foreign, "error conflicting-keys"]),
        .http(#"▶"type": "http", ▶"transportType": "sse""#, [foreign, "error conflicting-keys"]),
        .http(#""type": ▶"websocket""#, ["error invalid-value"]),
        .http(#""transportType": ▶"http""#, ["error invalid-value"]),
        .stdio(#""type": ▶"ws""#, ["error invalid-value"]),
        .http(#""includeTools": ["a"], "excludeTools": ▶["b"]"#, ["error conflicting-keys"]),
        .stdio(#""envFile": ▶"missing.env""#, ["error unusable-file"]),
        .stdio(#""envFile": ▶"broken.env""#, ["error unusable-file"]),
        .http(#"▶"sandboxEnabled": true"#, ["error restriction-ignored"]),
        .server(#""command": ▶["npx", "-y", "x"]"#, ["error wrong-type"]),
        .http(#""headers": ▶["A: b"]"#, ["error wrong-type"]),
        .stdio(#""args": [▶"${workspaceFolder}/x"]"#, ["error bad-expansion"]),
        .stdio(#""args": [▶"${workspaceFolder:app}"]"#, ["error bad-expansion"]),
        .stdio(#""args": [▶"${config:a.b}"]"#, ["error bad-expansion"]),
        .stdio(#""args": [▶"${{ secrets.TOKEN }}"]"#, ["error bad-expansion"]),
        .stdio(#""args": [▶"{env:TOKEN}"]"#, ["error bad-expansion"]),
        .stdio(#""args": [▶"${input:other}"]"#, ["error input-unset"]),
        .stdio(#""args": [▶"${input:empty-key}"]"#, ["error input-unset"]),
        .stdio(#""timeout": ▶-1"#, ["error invalid-duration"]),
        ClientRow(#"{"mcpServers": {▶"My Server": {"command": "c"}}}"#, ["error invalid-name"]),
        ClientRow(#"{"mcpServers": {"one": {"command": "c"}}, ▶"authTokens": ["t"]}"#, ["error restriction-ignored"]),
        ClientRow(
            #"{"mcpServers": {"one": {"command": "c"}}, ▶"mcpProxi": {"addr": ":1"}}"#,
            ["error restriction-ignored"]
        ),
        ClientRow(
            #"{"mcpServers": {"one": {"command": "c"}}, "mcp": {▶"allowed": ["one"]}}"#,
            ["error restriction-ignored"]
        ),
        ClientRow(
            #"{"mcpServers": {"one": {"command": "c"}}, ▶"excludeMCPServers": ["one"]}"#,
            ["error restriction-ignored"]
        ),
        // Other programs' files.
        ClientRow(#"{▶"context_servers": {"one": {"command": "c"}}}"#, ["error foreign-file"]),
        ClientRow(#"{"theme": "x", ▶"mcp": {"one": {"type": "local", "command": ["c"]}}}"#, ["error foreign-file"]),
        ClientRow(#"{▶"amp.mcpServers": {"one": {"command": "c"}}}"#, ["error foreign-file"]),
        ClientRow("# Codex\n\n▶[mcp_servers.one]\ncommand = \"c\"\n", ["error foreign-file"]),
        ClientRow("▶model = \"m\"\n", ["error foreign-file"]),
        ClientRow("▶name: x\nmcpServers:\n  - name: one\n", ["error foreign-file"]),
        ClientRow("▶---\nmcpServers:\n", ["error foreign-file"]),
    ]

    @Test("What clients write is read, and what is worth a word is said once", arguments: Self.readRows)
    func reads(row: ClientRow) {
        let result = self.load(row.text)
        #expect(result.snapshot != nil)
        #expect(result.said == row.said, "\(result.findings.map { $0.rendered(sourceName: "c") })")
        #expect(result.positions == row.positions)
    }

    @Test("What cannot be kept or understood is refused, at its place", arguments: Self.refusedRows)
    func refuses(row: ClientRow) {
        let result = self.load(row.text)
        #expect(result.snapshot == nil)
        #expect(result.said == row.said, "\(result.findings.map { $0.rendered(sourceName: "c") })")
        #expect(result.positions == row.positions)
    }

    @Test("Without mcpProxy the gateway is on this machine alone, and is called what it is")
    func standard() throws {
        let listener = try #require(self.load(#"{"mcpServers": {"one": {"command": "c"}}}"#).snapshot?.listener)
        #expect(listener.address == ListenAddress(host: "127.0.0.1", port: 9090))
        #expect(listener.baseOrigin.description == "http://127.0.0.1:9090" && listener.basePath.isEmpty)
        #expect(listener.name == "mcp-proxy" && listener.version == "9.9")
        #expect(listener.advertisedTransport == .streamableHTTP)
        #expect(listener.limits.differences.isEmpty && listener.statusTokens.isEmpty)
    }

    @Test(
        "An address that is given with the command counts, and the base URL follows it",
        arguments: [
            ("127.0.0.1:8080", "http://127.0.0.1:8080", []), ("localhost:1", "http://localhost:1", []),
            ("[::1]:7", "http://[::1]:7", []), ("127.0.0.1:80", "http://127.0.0.1", []),
            ("127.0.0.1:0", "http://127.0.0.1:0", []),
            ("10.0.0.5:9090", "http://10.0.0.5:9090", ["open-gateway"]),
            (":9090", "http://build-box:9090", ["base-url-guessed", "open-gateway"]),
            ("0.0.0.0:9090", "http://build-box:9090", ["base-url-guessed", "open-gateway"]),
            ("[::]:9090", "http://build-box:9090", ["base-url-guessed", "open-gateway"]),
        ] as [(String, String, [String])]
    )
    func address(text: String, base: String, codes: [String]) throws {
        let address = try #require(ListenAddress(text: text))
        let result = ConfigurationLoader.load(
            bytes: Array(#"{"mcpServers": {"one": {"command": "c"}}}"#.utf8),
            sourceName: "c",
            environment: [:],
            options: LoadOptions(gateway: GatewayDefaults(address: address, hostName: "Build-Box"))
        )
        #expect(result.snapshot?.listener.address == address)
        #expect(result.snapshot?.listener.baseOrigin.description == base)
        #expect(result.codes == codes)
    }

    @Test("It counts before that of mcpProxy, too, whose base URL stays")
    func addressOfGateway() throws {
        let result = ConfigurationLoader.load(
            bytes: Array(document(server: #""url": "https://h/""#).utf8),
            sourceName: "c",
            environment: [:],
            options: LoadOptions(gateway: GatewayDefaults(address: ListenAddress(host: nil, port: 8080)))
        )
        #expect(result.snapshot?.listener.address == ListenAddress(host: nil, port: 8080))
        #expect(result.snapshot?.listener.baseOrigin.description == "http://localhost:9090")
        #expect(result.codes == ["open-gateway"])
        #expect(
            result.findings.first?.path == "mcpProxy.addr" && result.findings.first?.message.contains("--addr") == true
        )
    }

    @Test(
        "How a server is reached is what its file means",
        arguments: [
            (#""type": "sse""#, .sse), (#""type": "http""#, .detect), (#""transport": "streamableHttp""#, .detect),
            (#""transportType": "streamable-http""#, .streamableHTTP),
        ] as [(String, HTTPUpstreamConfiguration.Kind)]
    )
    func transport(member: String, kind: HTTPUpstreamConfiguration.Kind) {
        #expect(self.load(ClientRow.http(member).text).http?.kind == kind)
        #expect(self.load(ClientRow.server(#""serverUrl": "https://h/x", \#(member)"#).text).http?.url.path == "/x")
    }

    @Test("Numbers and booleans are the text that was written")
    func written() throws {
        let stdio = try #require(
            self.load(ClientRow.stdio(#""env": {"A": 1e3, "B": true}, "args": ["-p", 80.50, false]"#).text).stdio
        )
        #expect(stdio.arguments == ["-p", "80.50", "false"])
        #expect(stdio.environment.map { "\($0.name)=\($0.value.reveal())" } == ["A=1e3", "B=true"])
    }

    @Test(
        "A bare timeout is seconds up to an hour, and milliseconds above",
        arguments: [
            ("30", .seconds(30)), ("3600", .seconds(3_600)), ("3601", .milliseconds(3_601)), ("60000", .seconds(60)),
            ("30000000", .seconds(30_000)), ("\"250ms\"", .milliseconds(250)), ("0", .seconds(300)),
        ] as [(String, Duration)]
    )
    func timeout(text: String, expected: Duration) {
        #expect(self.load(ClientRow.http("\"timeout\": \(text)").text).snapshot?.upstreams.first?.timeout == expected)
    }

    @Test("Variables of an envFile stand below those of env, and the file belongs to the configuration")
    func environmentFile() throws {
        let result = self.load(ClientRow.stdio(#""envFile": "keys.env", "env": {"B": "own", "C": "${TOKEN}"}"#).text)
        let stdio = try #require(result.stdio)
        #expect(
            stdio.environment.map { "\($0.name)=\($0.value.reveal())" } == ["A=of the file", "B=own", "C=t"]
        )
        #expect(result.variableFiles == ["keys.env"])
        // Nobody looks for what a server needs that is not started.
        let disabled = self.load(ClientRow.stdio(#""envFile": "missing.env", "disabled": true"#).text)
        #expect(disabled.snapshot != nil && disabled.variableFiles.isEmpty)
    }

    @Test("References of editors are what they name")
    func references() throws {
        let stdio = try #require(
            self.load(
                ClientRow.stdio(
                    #""args": ["${env:TOKEN}x", "${env:UNSET:-d}", "${userHome}/p", "a${/}b", "${input:api-key}", "$${env:TOKEN}"]"#
                )
                .text
            )
            .stdio
        )
        #expect(stdio.arguments == ["tx", "d", "/home/x/p", "a/b", "k", "${env:TOKEN}"])
    }

    @Test("Whoever asks for an input hears what its editor would ask, and no control character of it")
    func question() throws {
        let result = self.load(
            #"""
            {"inputs": [{"type": "promptString", "id": "my-key", "description": "Key of\u001b[31m the \"shop\"", "password": true}],
            "servers": {"one": {"command": "c", "env": {"K": "${input:my-key}"}}}}
            """#
        )
        let finding = try #require(result.findings.first { $0.code == .inputUnset })
        #expect(finding.path == "servers.one.env.K")
        #expect(
            finding.message.contains(#"MY_KEY is not set, for which its editor asks: "Key of\u{1b}[31m the \"shop\"""#)
        )
    }

    @Test(
        "What is refused says what to write",
        arguments: [
            (ClientRow.server(#""command": ["npx", "CANARY"]"#), #""args": ["…"]"#, nil),
            (.http(#""headers": ["CANARY: b"]"#), #""headers": {"NAME": "VALUE"}"#, nil),
            (.stdio(#""args": ["${workspaceFolder}"]"#), "write the directory itself", nil),
            (.stdio(#""args": ["${{ secrets.TOKEN }}"]"#), "another program's way", "\"${TOKEN}\""),
            (.stdio(#""args": ["{env:TOKEN}"]"#), "write ${TOKEN}", nil),
            (ClientRow(#"{"context_servers": {}}"#, []), "this is a file of Zed", nil),
            (ClientRow("[mcp_servers.one]\n", []), "as Codex has it", nil),
            (ClientRow(#"{"mcpServers": {"My Server": {"command": "c"}}}"#, []), "makes no route", "\"my-server\""),
        ] as [(ClientRow, String, String?)]
    )
    func advice(row: ClientRow, words: String, suggestion: String?) throws {
        let finding = try #require(self.load(row.text).findings.first { $0.severity == .error })
        #expect(finding.message.contains(words), "\(finding.message)")
        #expect(finding.suggestion == suggestion)
        #expect(!finding.message.contains("CANARY"))
    }

    @Test(
        "A name that makes no route is offered as one that does",
        arguments: [
            ("My Server", "my-server"), (" a  b ", "a-b"), ("_x", "x"), ("a//b/", "a/b"), ("Ünï Code", "ünï-code"),
            ("metrics", nil), ("???", nil), ("", nil), ("a{b}", "a-b"),
        ] as [(String, String?)]
    )
    func nearestRoute(name: String, route: String?) {
        #expect(ServerRoute.nearest(to: name) == route)
    }

    @Test("With mcpProxy none of this holds: the file is ours, or the Go program's")
    func withGateway() {
        let rows: [(String, [String])] = [
            (#""url": "https://h/", "type": "http""#, ["unknown-key"]),
            (#""serverUrl": "https://h/""#, ["missing-key", "unknown-key"]),
            (#""url": "https://h/", "timeout": 30"#, ["duration-unit"]),
            (#""command": "c", "args": [1]"#, ["wrong-type"]), (#""command": "c", "env": {"A": true}"#, ["wrong-type"]),
            (#""command": "c", "envFile": "missing.env""#, ["unknown-key"]),
            (#""command": "c", "args": ["${env:TOKEN}"]"#, ["bad-expansion"]),
            (#""command": "c", "args": ["${input:api-key}"]"#, ["bad-expansion"]),
            (#""command": "c", "args": ["{env:TOKEN}"]"#, []),
            (#""command": "c", "args": ["${workspaceFolder}"]"#, ["variable-unset"]),
            (#""url": "https://h/", "tools": ["*"]"#, ["foreign-key"]),
        ]
        for (members, codes) in rows {
            let result = self.load(document(server: members))
            #expect(result.codes == codes, "\(members)")
        }
        let servers = self.load(
            #"{"mcpProxy": {"baseURL": "http://h", "addr": "localhost:1", "name": "n", "version": "1"}, "servers": {}, "theme": 1}"#
        )
        #expect(servers.codes == ["no-servers", "unknown-key", "unknown-key"])
        #expect(self.load(#"{"clients": {"a": {"config": {"command": "c"}}}}"#).codes.contains("missing-key"))
    }

    @Test("A reference in the manner of editors is answered with ours, whoever's file it is")
    func suggestion() {
        let result = self.load(document(server: #""command": "c", "args": ["${env:TOKEN}"]"#))
        #expect(result.findings.first?.suggestion == "\"${TOKEN}\"")
    }

    @Test("A file with a thousand servers of a client says each thing once")
    func manyServers() {
        let servers = (0..<1_000).map { #""s\#($0)": {"type": "http", "url": "https://h/\#($0)", "alwaysAllow": []}"# }
        let result = self.load("{\"mcpServers\": {\(servers.joined(separator: ",\n"))}}")
        #expect(result.said == ["info foreign-key", "info client-key"])
        #expect(result.findings.first?.message.hasSuffix("; so in 999 more places") == true)
    }
}
