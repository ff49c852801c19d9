// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

extension KeyTable {
    /// The whole file.
    static let root = KeyTable(
        title: "Configuration of mcp-proxy",
        keys: [
            Key("$schema", .text, "The schema that an editor checks this file with; ignored."),
            Key(
                "mcpProxy",
                .object(.gateway),
                fallback: "127.0.0.1:9090, for this machine alone",
                "The gateway itself: where and as whom it listens."
            ),
            Self.servers(.server),
            Key("server", .object(.gatewayV1), "Deprecated, the first version of the file: mcpProxy."),
            Key(
                "clients",
                .map(.object(.clientV1), names: Self.serverNames),
                "Deprecated, the first version of the file: mcpServers."
            ),
        ],
        misspellings: ["proxy": "mcpProxy", "servers": "mcpServers", "mcp": "mcpProxy"],
        constraints: [.anyOf(["mcpProxy", "server"], filled: ["mcpServers"])],
        restrictions: Self.guardRestrictions.filter { name, _ in
            // What else stands here belongs to the client whose file it was.
            ["oauth2", "authtokens", "authtoken", "globalauthtokens", "apikey", "apikeys", "toolfilter"].contains(name)
        }
    )

    /// `mcpServers`, with entries of this kind.
    static func servers(_ table: KeyTable) -> Key {
        Key("mcpServers", .map(.object(table), names: Self.serverNames), "The upstreams; each name is a route.")
    }

    /// Names that make a route, as far as a regular expression can tell; `ServerRoute` is exact.
    private static let serverNames =
        #"^(?!_|metrics$)(?!(.*/)?\.{0,2}(/.*)?$)[^\s\\{}?#%;<>"^|`\[\]]+$"#

    /// `mcpProxy`.
    static let gateway = KeyTable(
        title: "The gateway",
        keys: [
            Key(
                "baseURL",
                .webURL,
                required: true,
                "URL under which clients reach the gateway; its path prefixes every route."
            ),
            Key(
                "addr",
                .filledText,
                required: true,
                "Address to listen on: `:9090`, `host:port` or `[::1]:9090`; port 0 picks one."
            ),
            Key("name", .filledText, required: true, "Name by which the gateway introduces itself."),
            Key("version", .filledText, required: true, "Version by which the gateway introduces itself."),
            Key(
                "type",
                .choice(["sse", "streamable-http"]),
                fallback: #""sse""#,
                "Which URL is advertised in logs and status; both transports are always served."
            ),
            Key(
                "startupGracePeriod",
                .duration,
                fallback: #""30s""#,
                "How long `/_readyz` may say `initializing`; 0 is off."
            ),
            Key(
                "drainTimeout",
                .duration,
                fallback: #""10m""#,
                "How long a server that a reload replaced or removed may go on with what it has; 0 is not at all."
            ),
            Key(
                "allowedOrigins",
                .list(.text),
                fallback: "[]",
                "Origins that browsers may call from, besides that of `baseURL`."
            ),
            Key(
                "allowedHosts",
                .list(.text),
                fallback: "[]",
                "Hosts that callers may name, besides that of `baseURL`."
            ),
            Key("limits", .object(.limits), "Bounds of the gateway; all on by default."),
            Key("options", .object(.gatewayOptions), "What servers inherit."),
        ],
        misspellings: ["address": "addr", "baseUrl": "baseURL", "host": "addr", "port": "addr"],
        restrictions: Self.guardRestrictions
    )

    /// `mcpProxy.options`: what servers inherit.
    static let gatewayOptions = KeyTable(
        title: "Inherited options",
        keys: Self.inheritedOptions + [
            Key("toolFilter", .anything, "No effect here; set it on each server."),
            Key("disabled", .anything, "No effect here; set it on each server."),
            Key("auth", .never("credentials belong to one server; set it on each"), "Not here; set it on each server."),
            Key(
                "forwardHeaders",
                .never("what is passed on is decided for each server"),
                "Not here; set it on each server."
            ),
            Key("isolation", .never("it is decided for each server"), "Not here; set it on each server."),
        ],
        restrictions: Self.guardRestrictions
    )

    /// What `mcpProxy.options` and `mcpServers.NAME.options` have in common.
    static let inheritedOptions = [
        Key(
            "panicIfInvalid",
            .flag,
            fallback: "false",
            "Whether the start fails if this upstream cannot be initialised."
        ),
        Key("logEnabled", .flag, fallback: "false", "Whether calls are written to the access log."),
        Key(
            "authTokens",
            .list(.filledSecret),
            restriction: true,
            "Tokens that callers must present; `[]` on a server opens it."
        ),
        Key(
            "pingInterval",
            .duration,
            fallback: #""30s""#,
            "How long an upstream may be idle before it is probed; 0 is off."
        ),
        Key("autoReconnect", .flag, fallback: "true", "Whether a lost upstream is recovered."),
        Key("reconnectInterval", .duration, fallback: #""15s""#, "Pause between attempts to recover an upstream."),
        Key(
            "proxy",
            .either([.filledSecret, .off, .object(.outboundProxy)]),
            fallback: "the environment",
            restriction: true,
            "Outbound proxy: a URL, an object, or false for none."
        ),
    ]
}
