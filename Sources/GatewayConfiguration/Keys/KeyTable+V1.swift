// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

extension KeyTable {
    /// `server` of the first version.
    static let gatewayV1 = KeyTable(
        title: "The gateway (first version)",
        keys: [
            Key("baseURL", .webURL, required: true, "As mcpProxy.baseURL."),
            Key("addr", .filledText, required: true, "As mcpProxy.addr."),
            Key("name", .filledText, required: true, "As mcpProxy.name."),
            Key("version", .filledText, required: true, "As mcpProxy.version."),
            Key(
                "globalAuthTokens",
                .list(.filledSecret),
                fallback: "[]",
                restriction: true,
                "Tokens that callers of any server may present."
            ),
        ],
        restrictions: Self.guardRestrictions
    )

    /// `clients.NAME` of the first version.
    static let clientV1 = KeyTable(
        title: "An upstream (first version)",
        keys: [
            Key(
                "type",
                .choice(["stdio", "sse", "streamable-http"]),
                fallback: "found out from command or url",
                "As mcpServers.NAME.transportType."
            ),
            Key("config", .object(.clientConfigV1), required: true, "How the upstream is reached."),
            Key("panicIfInvalid", .flag, fallback: "false", "As mcpServers.NAME.options.panicIfInvalid."),
            Key("logEnabled", .flag, fallback: "false", "As mcpServers.NAME.options.logEnabled."),
            Key(
                "authTokens",
                .list(.filledSecret),
                fallback: "[]",
                restriction: true,
                "Tokens that callers may present, besides the global ones."
            ),
        ] + Self.clientKeys,
        aliases: Self.clientAliases,
        restrictions: Self.clientRestrictions.merging(Self.optionsOfV1) { _, own in own },
        conveniences: Self.clientConveniences
    )

    /// `clients.NAME.config` of the first version.
    static let clientConfigV1 = KeyTable(
        title: "How an upstream is reached (first version)",
        keys: ["command", "args", "env", "url", "headers", "timeout"].compactMap { Self.server[$0] } + Self.clientKeys,
        constraints: Self.server.constraints,
        aliases: Self.clientAliases,
        restrictions: Self.clientRestrictions.merging(Self.optionsOfV1) { _, own in own },
        conveniences: Self.clientConveniences
    )

    /// Keys of the second version that nobody reads in a file of the first one.
    private static let optionsOfV1: [String: String] = {
        let advice = "the first version of the file does not have it; write the server into mcpServers"
        return [
            "toolfilter": advice, "proxy": advice, "isolation": advice, "options": advice,
            "authtokens": "callers would come in without a token; it stands beside config, not in it",
        ]
    }()
}
