// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

@testable import GatewayConfiguration

extension Broken {
    private static let identity = #""name": "n", "version": "1""#
    private static let place = #""baseURL": "http://localhost", "addr": ":1""#

    /// Mistakes in the document as a whole and in `mcpProxy`.
    static let gatewayRows: [Broken] = [
        Broken(.wrongType, "", #"▶[]"#),
        Broken(.wrongType, "", #"▶"mcpProxy""#),
        Broken(.missingKey, "mcpServers", #"{"mcpServers": ▶{}}"#),
        Broken(.missingKey, "mcpServers", schema: false, #"▶{"mcpServers": null}"#),
        Broken(.missingKey, "mcpServers", schema: false, #"▶{"mcpProxy": null}"#),
        Broken(.missingKey, "mcpServers", "▶{}"),
        Broken(.missingKey, "mcpProxy", #"▶{"clients": {}}"#),
        Broken(.wrongType, "mcpProxy", #"{"mcpProxy": ▶[1]}"#),
        Broken(.wrongType, "mcpServers", "{\"mcpProxy\": {\(place), \(identity)}, \"mcpServers\": ▶[]}"),
        Broken(
            .wrongType,
            "mcpServers.one",
            "{\"mcpProxy\": {\(place), \(identity)}, \"mcpServers\": {\"one\": ▶null}}"
        ),
        .gateway(.missingKey, "baseURL", "▶\"addr\": \":1\", \(identity)").moved(toBrace: true),
        .gateway(.missingKey, "addr", "▶\"baseURL\": \"http://localhost\", \(identity)").moved(toBrace: true),
        .gateway(.missingKey, "name", "▶\(place), \"version\": \"1\"").moved(toBrace: true),
        .gateway(.missingKey, "version", "▶\(place), \"name\": \"n\"").moved(toBrace: true),
        .gateway(.missingKey, "name", "▶\(place), \"name\": null, \"version\": \"1\"").moved(toBrace: true),
        .gateway(.wrongType, "name", "\(place), \"name\": ▶7, \"version\": \"1\""),
        .gateway(.invalidValue, "name", "\(place), \"name\": ▶\"  \", \"version\": \"1\""),
        .gateway(.invalidValue, "version", schema: false, "\(place), \"name\": \"n\", \"version\": ▶\"1\\u0007\""),
        .gateway(.invalidURL, "baseURL", "\"baseURL\": ▶\"mcp.example.com\", \"addr\": \":1\", \(identity)"),
        .gateway(.invalidURL, "baseURL", "\"baseURL\": ▶\"ftp://h\", \"addr\": \":1\", \(identity)"),
        .gateway(.invalidURL, "baseURL", "\"baseURL\": ▶\"\", \"addr\": \":1\", \(identity)"),
        .gateway(.invalidURL, "baseURL", "\"baseURL\": ▶\"http://u:p@h\", \"addr\": \":1\", \(identity)"),
        .gateway(
            .invalidURL,
            "baseURL",
            schema: false,
            "\"baseURL\": ▶\"http://h?x=1\", \"addr\": \":1\", \(identity)"
        ),
        .gateway(.invalidURL, "baseURL", schema: false, "\"baseURL\": ▶\"http://h/#x\", \"addr\": \":1\", \(identity)"),
        .gateway(
            .invalidURL,
            "baseURL",
            schema: false,
            "\"baseURL\": ▶\"http://h/a//b\", \"addr\": \":1\", \(identity)"
        ),
        .gateway(
            .invalidURL,
            "baseURL",
            schema: false,
            "\"baseURL\": ▶\"http://h/../b\", \"addr\": \":1\", \(identity)"
        ),
        .gateway(.invalidURL, "baseURL", schema: false, "\"baseURL\": ▶\"http://h:0\", \"addr\": \":1\", \(identity)"),
        .gateway(
            .invalidURL,
            "baseURL",
            schema: false,
            "\"baseURL\": ▶\"http://bücher🦊.example\", \"addr\": \":1\", \(identity)"
        ),
        .gateway(.invalidAddress, "addr", schema: false, "\"baseURL\": \"http://h\", \"addr\": ▶\"9090\", \(identity)"),
        .gateway(
            .invalidAddress,
            "addr",
            schema: false,
            "\"baseURL\": \"http://h\", \"addr\": ▶\"localhost\", \(identity)"
        ),
        .gateway(
            .invalidAddress,
            "addr",
            schema: false,
            "\"baseURL\": \"http://h\", \"addr\": ▶\":65536\", \(identity)"
        ),
        .gateway(
            .invalidAddress,
            "addr",
            schema: false,
            "\"baseURL\": \"http://h\", \"addr\": ▶\"::1:80\", \(identity)"
        ),
        .gateway(.invalidAddress, "addr", schema: false, "\"baseURL\": \"http://h\", \"addr\": ▶\"*:80\", \(identity)"),
        .gateway(.invalidAddress, "addr", "\"baseURL\": \"http://h\", \"addr\": ▶\"\", \(identity)"),
        .extra(.invalidValue, "type", #""type": ▶"stdio""#),
        .extra(.wrongType, "type", #""type": ▶true"#),
        .extra(.invalidDuration, "startupGracePeriod", #""startupGracePeriod": ▶"soon""#),
        .extra(.invalidDuration, "drainTimeout", #""drainTimeout": ▶"soon""#),
        .extra(.wrongType, "startupGracePeriod", #""startupGracePeriod": ▶true"#),
        .extra(.wrongType, "allowedOrigins", #""allowedOrigins": ▶"https://a""#),
        .extra(.invalidValue, "allowedOrigins[1]", schema: false, #""allowedOrigins": ["https://a", ▶"*"]"#),
        .extra(.invalidValue, "allowedOrigins[0]", schema: false, #""allowedOrigins": [▶"https://a/b"]"#),
        .extra(.invalidValue, "allowedOrigins[0]", schema: false, #""allowedOrigins": [▶"https://u@a"]"#),
        .extra(.invalidValue, "allowedOrigins[0]", schema: false, #""allowedOrigins": [▶"null"]"#),
        .extra(.wrongType, "allowedOrigins[0]", #""allowedOrigins": [▶null]"#),
        .extra(.invalidValue, "allowedHosts[0]", schema: false, #""allowedHosts": [▶"https://a"]"#),
        .extra(.invalidValue, "allowedHosts[0]", schema: false, #""allowedHosts": [▶"*"]"#),
        .extra(.wrongType, "limits", #""limits": ▶[]"#),
        .extra(.wrongType, "limits.connections", #""limits": {"connections": ▶"many"}"#),
        .extra(.wrongType, "limits.connections", #""limits": {"connections": ▶1.5}"#),
        .extra(.wrongType, "limits.connections", #""limits": {"connections": ▶1e99}"#),
        .extra(.outOfRange, "limits.connections", #""limits": {"connections": ▶0}"#),
        .extra(.outOfRange, "limits.connections", #""limits": {"connections": ▶-1}"#),
        .extra(.outOfRange, "limits.connections", #""limits": {"connections": ▶1000000001}"#),
        .extra(.outOfRange, "limits.jsonDepth", #""limits": {"jsonDepth": ▶3}"#),
        .extra(.outOfRange, "limits.jsonDepth", #""limits": {"jsonDepth": ▶1001}"#),
        .extra(.invalidSize, "limits.bodyBytes", #""limits": {"bodyBytes": ▶"4MB"}"#),
        .extra(.invalidSize, "limits.bodyBytes", #""limits": {"bodyBytes": ▶"big"}"#),
        .extra(.invalidSize, "limits.bodyBytes", #""limits": {"bodyBytes": ▶1.5}"#),
        .extra(.outOfRange, "limits.bodyBytes", #""limits": {"bodyBytes": ▶0}"#),
        .extra(.outOfRange, "limits.bodyBytes", schema: false, #""limits": {"bodyBytes": ▶"0B"}"#),
        .extra(.outOfRange, "limits.bodyBytes", schema: false, #""limits": {"bodyBytes": ▶"2GiB"}"#),
        .extra(.wrongType, "limits.headTimeout", #""limits": {"headTimeout": ▶{}}"#),
        .extra(.invalidDuration, "limits.headTimeout", schema: false, #""limits": {"headTimeout": ▶0}"#),
        .extra(.wrongType, "options", #""options": ▶[]"#),
        .extra(.notInheritable, "options.auth", #""options": {"auth": ▶{"tokens": ["t"]}}"#),
        .extra(.notInheritable, "options.forwardHeaders", #""options": {"forwardHeaders": ▶[]}"#),
        .extra(.notInheritable, "options.isolation", #""options": {"isolation": ▶"session"}"#),
        .extra(.emptySecuritySetting, "options.authTokens[1]", #""options": {"authTokens": ["t", ▶" "]}"#),
        .extra(.emptySecuritySetting, "options.proxy", #""options": {"proxy": ▶""}"#),
        .extra(.wrongType, "options.authTokens", #""options": {"authTokens": ▶"t"}"#),
        .extra(.restrictionIgnored, "oauth2", #"▶"oauth2": {"enabled": true, "users": []}"#),
        .extra(.restrictionIgnored, "OAuth2", #"▶"OAuth2": {"users": [{"username": "u"}]}"#),
        .extra(.restrictionIgnored, "authTokens", #"▶"authTokens": ["t"]"#),
        .extra(.restrictionIgnored, "globalAuthTokens", #"▶"globalAuthTokens": ["t"]"#),
        .extra(.restrictionIgnored, "apiKey", #"▶"apiKey": "t""#),
        .extra(.restrictionIgnored, "tls", #"▶"tls": {"certFile": "c"}"#),
        .extra(.restrictionIgnored, "allowedIPs", #"▶"allowedIPs": ["10.0.0.0/8"]"#),
        .extra(.restrictionIgnored, "toolFilter", #"▶"toolFilter": {"mode": "block", "list": ["a"]}"#),
        .extra(.restrictionIgnored, "disabledTools", #"▶"disabledTools": ["a"]"#),
        .extra(.restrictionIgnored, "enabled", #"▶"enabled": false"#),
        .extra(.restrictionIgnored, "proxy", #"▶"proxy": "http://p:1""#),
        .extra(.restrictionIgnored, "options.oauth2", #""options": {▶"oauth2": {"users": []}}"#),
        .extra(.restrictionIgnored, "options.authToken", #""options": {▶"authToken": "t"}"#),
        .extra(.restrictionIgnored, "options.excludeTools", #""options": {▶"excludeTools": ["a"]}"#),
        Broken(
            .restrictionIgnored,
            "oauth2",
            "{\"mcpProxy\": {\(place), \(identity)}, ▶\"oauth2\": {\"users\": [1]}}"
        ),
        .extra(.missingKey, "options.proxy.url", schema: false, #""options": {"proxy": ▶{"type": "socks5h"}}"#),
    ]

    /// Errors about a missing key stand at the brace of its object, which the marker cannot be put before.
    private func moved(toBrace isBefore: Bool) -> Broken {
        var row = self
        row.position.column -= isBefore ? 1 : 0
        return row
    }
}
