// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

extension KeyTable {
    /// `options.proxy`.
    static let outboundProxy = KeyTable(
        title: "Outbound proxy",
        keys: [
            Key("url", .filledSecret, "The proxy: `http://`, `https://`, `socks5://` or `socks5h://`, or `host:port`."),
            Key(
                "type",
                .choice(["http", "https", "socks5", "socks5h"]),
                fallback: "the scheme of the url, or http",
                "What kind of proxy it is."
            ),
            Key("auth", .object(.outboundProxyLogin), "User and password for the proxy."),
            Key(
                "useEnv",
                .flag,
                "Without a url: whether the environment decides. With one: whether its NO_PROXY applies too."
            ),
            Key(
                "noProxy",
                .either([.list(.text), .text]),
                fallback: "[]",
                "Targets that are reached without the proxy, written as in NO_PROXY."
            ),
            Key(
                "tunnel",
                .choice(["auto", "always", "never"]),
                fallback: #""auto""#,
                "Whether http:// upstreams are tunnelled through an HTTP proxy; auto: where it does not refuse that."
            ),
            Key("tls", .object(.tls), "How an https:// proxy is verified and who we say we are."),
        ],
        misspellings: ["username": "auth.username", "password": "auth.password", "host": "url", "no_proxy": "noProxy"]
    )

    /// `options.proxy.auth`.
    static let outboundProxyLogin = KeyTable(
        title: "Login at the outbound proxy",
        keys: [
            Key("username", .filledSecret, required: true, "User name."),
            Key("password", .secret, fallback: #""""#, "Password."),
        ],
        misspellings: ["user": "username", "pass": "password"]
    )
}
