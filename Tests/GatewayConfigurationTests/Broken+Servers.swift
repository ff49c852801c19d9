// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

@testable import GatewayConfiguration

extension Broken {
    private static let url = #""url": "https://up.example.com/mcp""#

    private static func named(_ name: String, schema: Bool = true) -> Broken {
        let gateway = #""mcpProxy": {"baseURL": "http://h", "addr": ":1", "name": "n", "version": "1"}"#
        return Broken(
            .invalidName,
            DocumentPath.root.appending(key: "mcpServers").appending(key: name).description,
            schema: schema,
            "{\(gateway), \"mcpServers\": {▶\"\(name)\": {\(Self.url)}}}"
        )
    }

    /// Mistakes in servers and in how they are reached.
    static let serverRows: [Broken] = [
        .named(""), .named("/a"), .named("a/"), .named("a//b"), .named("."), .named("a/../b"), .named("a/."),
        .named("_status"), .named("metrics"), .named("a b"), .named("a{b}"), .named("a%2fb"), .named("a;b"),
        .named("a?b"), .named("a#b"), .named("a\u{202e}b", schema: false), .named("a\u{a0}b"), .named("a|b"),
        Broken(
            .routeConflict,
            #"mcpServers["a/mcp"]"#,
            schema: false,
            """
            {"mcpProxy": {"baseURL": "http://h", "addr": ":1", "name": "n", "version": "1"},
            "mcpServers": {"a": {\(url)},
            ▶"a/mcp": {\(url)}}}
            """
        ),
        .server(.missingKey, "url", "").atServerBrace(),
        .server(.missingKey, "command", #""transportType": "stdio", "url": "https://h/""#).atServerBrace().unseen(),
        .server(.missingKey, "url", #""transportType": "sse", "command": "c""#).atServerBrace().unseen(),
        .server(.conflictingKeys, "command", #""url": "https://h/", "command": ▶"c""#),
        .server(.invalidValue, "transportType", "\(url), \"transportType\": ▶\"streamable\""),
        .server(.wrongType, "transportType", "\(url), \"transportType\": ▶3"),
        .server(.wrongType, "url", #""url": ▶["https://h/"]"#),
        .server(.invalidURL, "url", #""url": ▶"h/mcp""#),
        .server(.invalidURL, "url", #""url": ▶"https://user:pass@h/""#),
        .server(.invalidURL, "url", schema: false, #""url": ▶"https://h:99999/""#),
        .server(.invalidURL, "url", #""url": ▶"https://h/a b""#),
        .server(.invalidURL, "url", schema: false, #""url": ▶"https://ｆull.example/""#),
        .server(.invalidURL, "url", schema: false, #""url": ▶"https://h/bücher""#),
        .server(.wrongType, "headers", "\(url), \"headers\": ▶[]"),
        .server(.wrongType, "headers.X", "\(url), \"headers\": {\"X\": ▶1}"),
        .server(.invalidHeader, #"headers["X Y"]"#, "\(url), \"headers\": {▶\"X Y\": \"1\"}"),
        .server(.invalidHeader, #"headers[""]"#, "\(url), \"headers\": {▶\"\": \"1\"}"),
        .server(.invalidHeader, "headers.X", schema: false, "\(url), \"headers\": {\"X\": ▶\"a\\r\\nY: b\"}"),
        .server(.invalidHeader, "headers.X", schema: false, "\(url), \"headers\": {\"X\": ▶\"a\\u007fb\"}"),
        .server(.duplicateKey, "headers.x-a", schema: false, "\(url), \"headers\": {\"X-A\": \"1\", ▶\"x-a\": \"2\"}"),
        .server(.forbiddenHeader, "headers.Host", schema: false, "\(url), \"headers\": {▶\"Host\": \"h\"}"),
        .server(
            .forbiddenHeader,
            "headers.Connection",
            schema: false,
            "\(url), \"headers\": {▶\"Connection\": \"close\"}"
        ),
        .server(
            .forbiddenHeader,
            "headers.Content-Length",
            schema: false,
            "\(url), \"headers\": {▶\"Content-Length\": \"1\"}"
        ),
        .server(
            .forbiddenHeader,
            "headers.Proxy-Authorization",
            schema: false,
            "\(url), \"headers\": {▶\"Proxy-Authorization\": \"x\"}"
        ),
        .server(.invalidDuration, "timeout", "\(url), \"timeout\": ▶\"30\""),
        .server(.invalidDuration, "timeout", "\(url), \"timeout\": ▶-5"),
        .server(.invalidDuration, "timeout", "\(url), \"timeout\": ▶\"-5s\""),
        .server(.invalidDuration, "timeout", "\(url), \"timeout\": ▶1.5"),
        .server(.invalidDuration, "timeout", schema: false, "\(url), \"timeout\": ▶\"10us\""),
        .server(.outOfRange, "timeout", schema: false, "\(url), \"timeout\": ▶\"9000h\""),
        .server(.wrongType, "timeout", "\(url), \"timeout\": ▶false"),
        .server(.invalidValue, "protocol", "\(url), \"protocol\": ▶\"modern\""),
        .server(.emptySecuritySetting, "tls.caFile", "\(url), \"tls\": {\"caFile\": ▶\"\"}"),
        .server(.emptySecuritySetting, "tls.keyFile", "\(url), \"tls\": {\"certFile\": \"c\", \"keyFile\": ▶\"\"}"),
        .server(.conflictingKeys, "tls", "\(url), \"tls\": ▶{\"certFile\": \"c\"}"),
        .server(.conflictingKeys, "tls", "\(url), \"tls\": ▶{\"keyFile\": \"k\"}"),
        .server(.wrongType, "tls.insecure", "\(url), \"tls\": {\"insecure\": ▶\"true\"}"),
        .server(.wrongType, "args", #""command": "c", "args": ▶"-v""#),
        .server(.wrongType, "args[1]", #""command": "c", "args": ["a", ▶1]"#),
        .server(.invalidValue, "args[0]", schema: false, #""command": "c", "args": [▶"\u0000"]"#),
        .server(.invalidValue, "command", #""command": ▶"""#),
        .server(.invalidValue, "cwd", #""command": "c", "cwd": ▶"""#),
        .server(.wrongType, "env.A", #""command": "c", "env": {"A": ▶1}"#),
        .server(.invalidValue, #"env["A=B"]"#, #""command": "c", "env": {▶"A=B": "1"}"#),
        .server(.invalidValue, #"env[""]"#, #""command": "c", "env": {▶"": "1"}"#),
        .server(.wrongType, "inheritEnv", #""command": "c", "inheritEnv": ▶"PATH""#),
        .server(.invalidValue, "inheritEnv[0]", schema: false, #""command": "c", "inheritEnv": [▶"*"]"#),
        .server(.wrongType, "options", "\(url), \"options\": ▶[]"),
        .server(.wrongType, "oauth", "\(url), \"oauth\": ▶true"),
        .server(.wrongType, "disabled", "\(url), \"disabled\": ▶\"true\""),
        .server(.wrongType, "excludeTools", "\(url), \"excludeTools\": ▶{\"a\": true}"),
        .server(
            .conflictingKeys,
            "excludeTools",
            schema: false,
            "\(url), \"includeTools\": [\"a\"], \"excludeTools\": ▶[\"b\"]"
        ),
        .server(.duplicateKey, "disabledTools", "\(url), \"excludeTools\": [\"a\"], ▶\"disabledTools\": [\"b\"]"),
        .server(.restrictionIgnored, "authTokens", "\(url), ▶\"authTokens\": [\"t\"]"),
        .server(.restrictionIgnored, "toolFilter", "\(url), ▶\"toolFilter\": {\"mode\": \"block\"}"),
        .server(.restrictionIgnored, "isolation", "\(url), ▶\"isolation\": \"session\""),
        .server(.restrictionIgnored, "proxy", "\(url), ▶\"proxy\": \"http://p:1\""),
        .server(.restrictionIgnored, "sandboxEnabled", "\(url), ▶\"sandboxEnabled\": true"),
        .server(.restrictionIgnored, "disabledPrompts", "\(url), ▶\"disabledPrompts\": [\"p\"]"),
        .server(.restrictionIgnored, "enabeld", "\(url), ▶\"enabeld\": false"),
    ]

    /// A missing key is reported at the brace of the server, which is at the end of line 3.
    private func atServerBrace() -> Broken {
        var row = self
        row.position = SourcePosition(line: 3, column: 23)
        return row
    }

    /// The same mistake, not seen by the schema.
    private func unseen() -> Broken {
        var row = self
        row.isSeenBySchema = false
        return row
    }
}
