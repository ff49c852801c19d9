// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// Files of other programs end up here: of MCP clients, of forks of the Go program, of other gateways. Whoever copies one
// means what it says. A key that keeps callers, tools or servers out is therefore kept as if it were ours, or the file is
// refused; it is never passed over. What only makes a client more comfortable is passed over, with one line.

extension KeyTable {
    /// What MCP clients write into a server's entry to leave it out or to hide some of its tools.
    static let clientKeys = [
        Key(
            "disabled",
            .flag,
            fallback: "false",
            restriction: true,
            "As options.disabled, where the files of MCP clients have it."
        ),
        Key("enabled", .flag, fallback: "true", restriction: true, "The opposite of disabled."),
        Key(
            "includeTools",
            .either([.list(.text), .text]),
            restriction: true,
            "As options.toolFilter with the mode allow, where the files of MCP clients have it."
        ),
        Key(
            "excludeTools",
            .either([.list(.text), .text]),
            restriction: true,
            "As options.toolFilter with the mode block, where the files of MCP clients have it."
        ),
    ]

    /// Other spellings of the same, as clients have them.
    static let clientAliases = [
        "disable": "disabled", "enable": "enabled", "isactive": "enabled", "active": "enabled", "isenabled": "enabled",
        "include_tools": "includeTools", "enabled_tools": "includeTools", "enabledtools": "includeTools",
        "allowedtools": "includeTools", "allowed_tools": "includeTools", "available_tools": "includeTools",
        "tools": "includeTools", "exclude_tools": "excludeTools", "excludedtools": "excludeTools",
        "disabled_tools": "excludeTools", "disabledtools": "excludeTools", "blockedtools": "excludeTools",
        "blocked_tools": "excludeTools",
    ]

    /// What clients keep beside a server for themselves: what they ask before a call, and how they show it.
    static let clientConveniences: Set<String> = [
        "alwaysallow", "autoapprove", "disabledautoapprovetools", "trust", "istrusted", "description", "displayname",
        "title", "icon", "logourl", "tags", "note", "notes", "comment", "_comment", "//", "dev", "gallery",
        "watchpaths",
    ]

    /// What clients restrict of a server that the gateway does not.
    static let clientRestrictions = [
        "sandboxenabled": Self.sandboxAdvice, "sandbox": Self.sandboxAdvice, "permissionprofile": Self.sandboxAdvice,
        "permission_profile": Self.sandboxAdvice, "isolatenetwork": Self.sandboxAdvice,
        "disabledresources": Self.contentAdvice, "disabled_resources": Self.contentAdvice,
        "excluderesources": Self.contentAdvice, "includeresources": Self.contentAdvice,
        "disabledprompts": Self.contentAdvice, "disabled_prompts": Self.contentAdvice,
        "excludeprompts": Self.contentAdvice, "includeprompts": Self.contentAdvice,
    ]

    private static let sandboxAdvice =
        "the program would run without a sandbox; start it in a container as its command, and remove this key"
    private static let contentAdvice =
        "only tools can be hidden here, by options.toolFilter; leave the server out with options.disabled, or remove this key"

    /// What guards a gateway in forks and in other programs, and would let everybody in here.
    static let guardRestrictions: [String: String] = {
        let login =
            "callers would come in without it; set mcpProxy.options.authTokens, or put a reverse proxy that logs callers in"
            + " before the gateway, and remove this key"
        let tokens = "callers would come in without a token; write the tokens into mcpProxy.options.authTokens"
        let encryption =
            "the gateway itself speaks HTTP without TLS; put a reverse proxy with TLS before it, and remove this key"
        let addresses =
            "callers would come in from everywhere; listen on a narrower mcpProxy.addr, or use a firewall, and remove this key"
        let server = "it belongs to one server; write it into mcpServers.NAME.options"
        var advice: [String: String] = [:]
        for name in ["oauth2", "oauth", "oidc", "jwt", "auth", "basicauth", "users", "password", "authentication"] {
            advice[name] = login
        }
        for name in [
            "authtokens", "authtoken", "globalauthtokens", "apikey", "apikeys", "api_key", "api_keys", "token",
            "tokens",
            "bearertoken", "bearertokens",
        ] {
            advice[name] = tokens
        }
        for name in ["tls", "ssl", "https", "certfile", "keyfile"] { advice[name] = encryption }
        for name in ["allowedips", "allowed_ips", "ipallowlist", "ipwhitelist"] { advice[name] = addresses }
        for name in ["toolfilter", "isolation"] + Self.clientKeys.map({ $0.name.lowercased() })
            + Self.clientAliases.keys
        {
            advice[name] = server
        }
        return advice
    }()
}
