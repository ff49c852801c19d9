// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Whose file a document is, which says how it is read.
enum DocumentKind {
    /// Ours, or one of the Go program, in any version.
    case gateway
    /// One with servers and without `mcpProxy`, as MCP clients have them.
    case client
    /// One of another program that is not read, whose servers stand under this key.
    case foreign(Node.Member, program: String)

    /// Keys at the top, in lower case, that make a file ours: of both versions.
    private static let ownKeys: Set<String> = ["mcpproxy", "server", "clients"]
    private static let serverKeys: Set<String> = ["mcpservers", "servers"]

    /// Where other programs have their servers, in lower case, and whose file it is then.
    static let foreignKeys: [(key: String, program: String)] = [
        ("context_servers", "of Zed"), ("mcp", "of opencode, or the settings of VS Code"),
        ("amp.mcpservers", "of Amp"), ("mcp_servers", "of Codex, or of another program"),
    ]

    init(_ root: Node) {
        let given = (root.members ?? []).filter { !$0.value.isNull }
        func has(_ keys: Set<String>) -> Bool { given.contains { keys.contains($0.key.lowercased()) } }
        if has(Self.ownKeys) {
            self = .gateway
            return
        }
        if !has(Self.serverKeys) {
            for (key, program) in Self.foreignKeys {
                guard let member = given.first(where: { $0.key.lowercased() == key }) else { continue }
                self = .foreign(member, program: program)
                return
            }
        }
        self = .client
    }

    var isClient: Bool {
        guard case .client = self else { return false }
        return true
    }

    /// The keys that it may have.
    var table: KeyTable {
        switch self {
        case .gateway: .root
        case .client, .foreign: .clientFile
        }
    }

    /// What a finding says about a file that is not read.
    static func advice(of program: String) -> String {
        "this is a file \(program), which is not read; write its servers into a file of JSON, each with"
            + #" its command and args or its url: {"mcpServers": {"NAME": {"command": "PROGRAM", "args": ["…"]}}}"#
    }
}
