// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What was meant by arguments that mean nothing here: misspelt commands, and what programs of a similar name take.
package enum ForeignArguments {
    /// What people write for a command of ours.
    static let words: [String: String] = [
        "start": "serve", "server": "serve", "up": "serve", "validate": "check", "lint": "check", "verify": "check",
        "test": "check", "config": "check", "refresh": "reload", "restart": "reload", "proxy": "explain proxy URL",
        "why": "explain proxy URL", "version": "--version",
    ]

    /// Options of other programs, and what is ours.
    static let options: [String: String] = {
        let address = "--addr HOST:PORT"
        let file = "--config FILE takes a file with mcpServers as it is"
        let program = "a server of config.json: \(Self.server)"
        let inherit = #""inheritEnv": true in the server's entry"#
        return [
            "--port": address, "-p": address, "--host": address, "--sse-port": address, "--sse-host": address,
            "--listen": address, "--bind": address,
            "--named-server": program, "--stdio": program, "--command": program,
            "--sse": #"a server of config.json: {"mcpServers": {"NAME": {"url": "URL"}}}"#,
            "--streamablehttp": #"a server of config.json: {"mcpServers": {"NAME": {"url": "URL"}}}"#,
            "--named-server-config": file, "--config-file": file, "--mcp-config": file, "-c": file,
            "--pass-environment": inherit, "--env": #""env" in the server's entry, or --env-file FILE"#,
            "-e": #""env" in the server's entry, or --env-file FILE"#,
            "--cwd": #""cwd" in the server's entry"#, "--headers": #""headers" in the server's entry"#,
            "--header": #""headers" in the server's entry"#,
            "--transport": #""transportType" in the server's entry; callers may use both transports"#,
            "--outputtransport": "nothing: callers may use both transports",
            "--stateless": "nothing: callers of every revision are served",
            "--allow-origin": "mcpProxy.allowedOrigins", "--cors": "mcpProxy.allowedOrigins",
            "--api-key": "mcpProxy.options.authTokens", "--oauth2bearer": "options.auth.tokens of the server",
            "--baseurl": "mcpProxy.baseURL", "--debug": "--log-level debug", "--verbose": "--log-level debug",
            "-v": "--log-level debug", "--loglevel": "--log-level", "--hot-reload": "nothing: changes are looked for",
        ]
    }()

    private static let server = #"{"mcpServers": {"NAME": {"command": "PROGRAM", "args": ["…"]}}}"#

    /// Programs that start servers, and words for it; whoever writes one first means that it be started.
    private static let starters: Set<String> = [
        "run", "exec", "npx", "uvx", "uv", "node", "python", "python3", "docker", "podman", "bunx", "bun", "deno",
        "pipx",
    ]

    /// What to say about arguments that cannot be understood; nil if they look like nothing that is known.
    ///
    /// `commands` are the names of those that there are. Nothing but names of options and commands is repeated.
    package static func advice(on arguments: [String], commands: [String]) -> String? {
        let known = commands + ["help"]
        // Behind another command stand options of its own, and behind -- the command of somebody's server.
        let isCommand = arguments.first.map { known.contains($0) && $0 != "serve" } == true
        if isCommand { return nil }
        for (index, argument) in arguments.enumerated() {
            if argument == "--" { break }
            let name = String(argument.prefix { $0 != "=" })
            if name.hasPrefix("-"), let ours = Self.options[name.lowercased()] {
                return "\(name) is an option of other programs; here it is \(ours)\n\(Self.help)"
            }
            if index == 0, argument != "serve", !argument.hasPrefix("-") { return Self.advice(onWord: argument, known) }
        }
        guard let rest = arguments.firstIndex(of: "--"), rest + 1 < arguments.count else { return nil }
        return "\(Self.programAdvice)\n\(Self.help)"
    }

    private static let help = "mcp-proxy --help has the rest"
    private static let programAdvice = "a program to start is a server of config.json: \(Self.server)"

    private static func advice(onWord word: String, _ commands: [String]) -> String? {
        if word.contains("://") {
            return "a URL is a server of config.json: {\"mcpServers\": {\"NAME\": {\"url\": \"URL\"}}}\n\(Self.help)"
        }
        if Self.starters.contains(word) || word.contains("/") { return "\(Self.programAdvice)\n\(Self.help)" }
        guard word.count <= 32, word.utf8.allSatisfy({ JSONCReader.isWordByte($0) || $0 == UInt8(ascii: "-") }) else {
            return nil
        }
        let folded = word.lowercased()
        let meant = Self.words[folded] ?? NearestText.choose(for: folded, among: commands)
        let advice =
            meant.map { "did you mean mcp-proxy \($0)?" } ?? "the commands are \(commands.joined(separator: ", "))"
        return "\(word) is no command; \(advice)\n\(Self.help)"
    }
}
