// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What is said where somebody starts the program and there is no configuration.
package enum MissingConfiguration {
    /// The one file that is found by itself.
    ///
    /// `.mcp.json` is not: in a repository that was cloned it is somebody else's list of commands.
    package static let usualName = "config.json"

    /// Files of clients that may be meant; the first that is there is named.
    static let clientFiles = [".mcp.json", "mcp.json", ".cursor/mcp.json", ".vscode/mcp.json"]

    /// Ways to begin without a file, by the command that each needs.
    static let beginnings: [(command: String, example: String)] = [
        ("run", "mcp-proxy run -- uvx mcp-server-time"), ("import", "mcp-proxy import cursor"),
        ("init", "mcp-proxy init"), ("demo", "mcp-proxy demo"),
    ]

    /// Two lines: what was found in place of it, and how else to begin.
    ///
    /// `commands` are the names of those that there are; `isThere` says whether there is a file that can be read.
    package static func text(commands: [String], isThere: (String) -> Bool) -> String {
        let found = Self.clientFiles.first(where: isThere)
        let first =
            found.map { "Found \($0): mcp-proxy --config \($0)" }
            ?? "--config names another file, also that of an MCP client."
        let others = Self.beginnings.filter { commands.contains($0.command) }.map(\.example)
        let second = others.isEmpty ? "" : "\nOr: \(others.joined(separator: " · "))"
        return "no \(Self.usualName) here. \(first)\(second)"
    }
}
