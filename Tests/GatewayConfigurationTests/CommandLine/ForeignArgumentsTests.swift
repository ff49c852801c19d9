// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayConfiguration

@Suite("Arguments of other programs") struct ForeignArgumentsTests {
    private static let commands = ["serve", "check", "reload", "doctor", "explain", "schema", "demo"]

    private func advice(_ arguments: [String]) -> String? {
        ForeignArguments.advice(on: arguments, commands: Self.commands)
    }

    @Test(
        "What was meant is named",
        arguments: [
            (["chekc"], "chekc is no command; did you mean mcp-proxy check?"),
            (["relaod", "--config", "x"], "relaod is no command; did you mean mcp-proxy reload?"),
            (["Serve"], "Serve is no command; did you mean mcp-proxy serve?"),
            (["validate"], "validate is no command; did you mean mcp-proxy check?"),
            (["version"], "version is no command; did you mean mcp-proxy --version?"),
            (["frobnicate"], "frobnicate is no command; the commands are serve, check,"),
            (["run", "--", "uvx", "x"], "a program to start is a server of config.json"),
            (["--port", "8080", "uvx", "x"], "--port is an option of other programs; here it is --addr HOST:PORT"),
            (["--port=8080"], "--port is an option of other programs; here it is --addr HOST:PORT"),
            (["serve", "--port", "1"], "--port is an option of other programs; here it is --addr HOST:PORT"),
            (["--pass-environment", "npx", "x"], #"here it is "inheritEnv": true"#),
            (["--named-server-config", "x.json"], "--config FILE takes a file with mcpServers as it is"),
            (["--stdio", "npx x", "--outputTransport", "sse"], #"{"command": "PROGRAM", "args": ["…"]}"#),
            (["uvx", "mcp-server-time"], "a program to start is a server of config.json"),
            (["./server.py"], "a program to start is a server of config.json"),
            (["--", "uvx", "x"], "a program to start is a server of config.json"),
            (["https://example.com/mcp?key=CANARY"], "a URL is a server of config.json"),
            (
                ["--api-key", "CANARY"],
                "--api-key is an option of other programs; here it is mcpProxy.options.authTokens"
            ),
        ]
    )
    func named(arguments: [String], words: String) throws {
        let advice = try #require(self.advice(arguments))
        #expect(advice.contains(words), "\(advice)")
        #expect(advice.hasSuffix("\nmcp-proxy --help has the rest"))
        #expect(!advice.contains("CANARY"))
    }

    @Test(
        "Of what nobody knows the command line's own message speaks",
        arguments: [
            ["--no-such-option"], ["check", "--port", "1"], ["demo", "--port", "x"], ["explain", "poxy"], [],
            ["a b c"], ["--threads", "x"], ["help", "x"], ["--"],
        ]
    )
    func unknown(arguments: [String]) {
        #expect(self.advice(arguments) == nil)
    }

    @Test("With a command of that name its arguments are its own")
    func known() {
        #expect(ForeignArguments.advice(on: ["run", "--", "uvx", "x"], commands: Self.commands + ["run"]) == nil)
    }
}
