// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// The file of an MCP client: servers, and no `mcpProxy`. What clients write for a key of ours is a row here. In a file with
// `mcpProxy`, which is ours or the Go program's, none of this holds (decision 0044).

extension KeyTable {
    /// A whole file of a client; what else is in it is the client's.
    static let clientFile = KeyTable(
        title: "File of an MCP client",
        keys: [
            Key("$schema", .anything, "The schema that an editor checks this file with; ignored."),
            // It is not here, or this would be another kind of file; its name is, for those who misspell it.
            Key("mcpProxy", .anything, restriction: true, "The gateway itself."),
            Self.servers(.clientServer),
            Key("inputs", .anything, "What VS Code asks its user for; the names and what they are for are read."),
            Key("mcp", .either([.object(.clientServerChoice), .anything]), "Gemini CLI: which of the servers count."),
        ],
        spellings: ["servers": Spelling(key: "mcpServers")],
        restrictions: Self.root.restrictions.merging(Self.serverChoiceRestrictions) { own, _ in own },
        isShared: true
    )

    /// An entry of `mcpServers` in it.
    static let clientServer = KeyTable(
        title: "An upstream",
        keys: Self.server.keys.map { (key) -> Key in
            var key = key
            switch key.name {
            case "args": key.shape = .list(.written)
            case "env": key.shape = .map(.written)
            default: break
            }
            return key
        } + [
            Key(
                "envFile",
                .filledText,
                "stdio: a file of `NAME=VALUE` lines: variables of the child, below those of `env`."
            )
        ],
        misspellings: Self.server.misspellings,
        constraints: Self.server.constraints,
        aliases: Self.server.aliases,
        spellings: [
            "serverurl": Spelling(key: "url"),
            "httpurl": Spelling(key: "url"),
            "type": Spelling(key: "transportType", values: Self.clientTransports),
            "transport": Spelling(key: "transportType", values: Self.clientTransports),
        ],
        restrictions: Self.server.restrictions,
        conveniences: Self.server.conveniences.union(["version", "extensionname"])
    )

    /// What clients call the ways to a server.
    ///
    /// Most of them mean any of the two transports over HTTP when they say `http`.
    private static let clientTransports: [(written: String, meaning: Spelling.Meaning)] = [
        ("stdio", .value("stdio")), ("local", .value("stdio")), ("sse", .value("sse")), ("http", .absent),
        ("streamable-http", .absent), ("streamablehttp", .absent), ("streamable_http", .absent), ("remote", .absent),
    ]

    /// `mcp` of Gemini CLI, beside `mcpServers`.
    private static let clientServerChoice = KeyTable(
        title: "Which servers count",
        keys: [],
        restrictions: ["allowed": Self.serverChoiceAdvice, "excluded": Self.serverChoiceAdvice],
        isShared: true
    )

    private static let serverChoiceAdvice =
        "every server of this file would be served; write \"disabled\": true into those that are left out, and remove this key"

    /// The same as older versions of that program, and others, have it at the top.
    private static let serverChoiceRestrictions = Dictionary(
        uniqueKeysWithValues: [
            "allowmcpservers", "excludemcpservers", "enabledmcpjsonservers", "disabledmcpjsonservers",
        ]
        .map { ($0, Self.serverChoiceAdvice) }
    )
}
