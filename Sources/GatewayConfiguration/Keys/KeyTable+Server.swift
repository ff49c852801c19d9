// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

extension KeyTable {
    /// `mcpServers.NAME`.
    static let server = KeyTable(
        title: "An upstream",
        keys: [
            Key(
                "transportType",
                .choice(["stdio", "sse", "streamable-http"]),
                fallback: "found out from command or url",
                "How the upstream is reached; given explicitly it never falls back."
            ),
            Key(
                "command",
                .filledText,
                insteadOfList: #""command": "PROGRAM" alone, and what follows it as "args": ["…"]"#,
                "stdio: the program to run; no shell is involved."
            ),
            Key("args", .list(.text), fallback: "[]", "stdio: its arguments."),
            Key("env", .map(.secret, names: "^[^=]+$"), fallback: "{}", "stdio: environment variables of the child."),
            Key("cwd", .filledText, fallback: "that of the gateway", "stdio: working directory of the child."),
            Key(
                "inheritEnv",
                .either([.flag, .list(.text)]),
                fallback: "false",
                "stdio: which of the gateway's variables the child gets besides a fixed list: all, or names and `PREFIX_*`."
            ),
            Key("url", .webURL, "sse, streamable-http: where the upstream is."),
            Key(
                "headers",
                .map(.secret, names: "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"),
                fallback: "{}",
                insteadOfList: #"an object of names and values: "headers": {"NAME": "VALUE"}"#,
                "sse, streamable-http: request headers."
            ),
            Key("timeout", .duration, fallback: #""5m""#, "Time for one upstream request; 0 is the default."),
            Key(
                "protocol",
                .choice(["auto", "handshake", "stateless"]),
                fallback: #""auto""#,
                "Era of the protocol that the upstream is spoken to in; `auto` finds out."
            ),
            Key("tls", .object(.tls), "https urls: how the upstream is verified and who we say we are."),
            Key("oauth", .object(.oauth), "Recognised, not built yet: a server that has it is not started."),
            Key("options", .object(.options), "How the gateway treats this server."),
        ] + Self.clientKeys,
        misspellings: [
            "type": "transportType", "transport": "transportType", "httpUrl": "url", "serverUrl": "url", "uri": "url",
            "environment": "env", "workingDirectory": "cwd", "arguments": "args",
        ],
        constraints: [
            .anyOf(["command", "url"]),
            .notTogether(["command", "url"]),
        ],
        aliases: Self.clientAliases,
        restrictions: Self.clientRestrictions,
        conveniences: Self.clientConveniences
    )

    /// `mcpServers.NAME.options`.
    static let options = KeyTable(
        title: "Options of an upstream",
        keys: Self.inheritedOptions + [
            Key("toolFilter", .object(.toolFilter), restriction: true, "Which tools callers see and may call."),
            Key(
                "disabled",
                .flag,
                fallback: "false",
                restriction: true,
                "Whether the server is neither started nor routed."
            ),
            Key(
                "forwardHeaders",
                .list(.text),
                fallback: "[]",
                "Names of callers' request headers that are passed on to this upstream."
            ),
            Key(
                "isolation",
                .choice(["session", "shared"]),
                fallback: #""shared" for stdio, "session" else"#,
                restriction: true,
                "Whether every caller session has its own upstream session or child, or all share one."
            ),
            Key("auth", .object(.credentials), "Tokens for this upstream."),
        ] + Self.clientKeys.filter { $0.name != "disabled" },
        misspellings: ["tokens": "auth.tokens"],
        aliases: Self.clientAliases.filter { $0.value != "disabled" },
        restrictions: Self.clientRestrictions
    )

    /// `toolFilter`.
    static let toolFilter = KeyTable(
        title: "Tool filter",
        keys: [
            Key(
                "mode",
                .choice(["allow", "block"], ignoringCase: true),
                restriction: true,
                "Whether the list is what is shown or what is hidden."
            ),
            Key(
                "list",
                .either([.list(.text), .text]),
                restriction: true,
                "Names of tools, in which `*` stands for any characters: an array, or one string with commas."
            ),
        ]
    )

    /// `options.auth`.
    static let credentials = KeyTable(
        title: "Credentials of an upstream",
        keys: [
            Key("tokens", .list(.secret), "Bearer tokens, one per slot."),
            Key(
                "rotationMode",
                .choice(["round-robin", "on-first-failed"]),
                fallback: "round-robin with two tokens or more",
                "How the tokens take turns."
            ),
            Key(
                "maxRetries",
                .integer(1...Int.max),
                fallback: "the number of tokens; 1 for round-robin",
                "How many tokens one request may try."
            ),
            Key(
                "retryOn",
                .list(.oneOf([401, 403])),
                fallback: "[401, 403]",
                "Statuses after which the next token is tried."
            ),
            Key(
                "affinity",
                .choice(["request", "session"]),
                fallback: #""request""#,
                "Whether every request takes its turn or a caller's session stays on one token."
            ),
        ],
        misspellings: ["mode": "rotationMode", "retries": "maxRetries"]
    )

    /// `tls`.
    static let tls = KeyTable(
        title: "TLS as a client",
        keys: [
            Key("caFile", .filledText, "PEM file of authorities that are trusted besides the system's."),
            Key("certFile", .filledText, "PEM file of our certificate chain; goes with keyFile."),
            Key("keyFile", .filledText, "PEM file of the key of our certificate; goes with certFile."),
            Key("insecure", .flag, fallback: "false", "Whether nothing is verified."),
        ],
        constraints: [.allOrNone(["certFile", "keyFile"])]
    )

    /// `oauth`.
    static let oauth = KeyTable(
        title: "OAuth client (not built yet)",
        keys: [
            Key("clientId", .anything, "Not built yet."),
            Key("clientSecret", .anything, "Not built yet."),
            Key("redirectUri", .anything, "Not built yet."),
            Key("scopes", .anything, "Not built yet."),
            Key("pkceDisabled", .anything, "Not built yet."),
            Key("authServerMetadataUrl", .anything, "Not built yet."),
        ]
    )
}
