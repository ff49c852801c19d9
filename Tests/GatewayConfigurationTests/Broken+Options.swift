// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

@testable import GatewayConfiguration

extension Broken {
    /// Mistakes in the options of a server.
    static let optionRows: [Broken] = [
        .options(.wrongType, "panicIfInvalid", #""panicIfInvalid": ▶"true""#),
        .options(.wrongType, "logEnabled", #""logEnabled": ▶1"#),
        .options(.wrongType, "disabled", #""disabled": ▶"false""#),
        .options(.wrongType, "autoReconnect", #""autoReconnect": ▶{}"#),
        .options(.invalidDuration, "pingInterval", #""pingInterval": ▶"often""#),
        .options(.invalidDuration, "reconnectInterval", schema: false, #""reconnectInterval": ▶"0s""#),
        .options(.emptySecuritySetting, "authTokens[0]", #""authTokens": [▶""]"#),
        .options(.emptySecuritySetting, "authTokens[1]", #""authTokens": ["t", ▶"\n"]"#),
        .options(.invalidToken, "authTokens[0]", schema: false, #""authTokens": [▶"a\u0000b"]"#),
        .options(.invalidToken, "authTokens[0]", schema: false, #""authTokens": [▶"schlüssel"]"#),
        .options(.wrongType, "authTokens[0]", #""authTokens": [▶null]"#),
        .options(.wrongType, "toolFilter", #""toolFilter": ▶["a"]"#),
        .options(.invalidValue, "toolFilter.mode", #""toolFilter": {"mode": ▶"deny", "list": ["a"]}"#),
        .options(.missingKey, "toolFilter.mode", schema: false, #""toolFilter": ▶{"list": ["a"]}"#),
        .options(.wrongType, "toolFilter.list", #""toolFilter": {"mode": "allow", "list": ▶{"a": 1}}"#),
        .options(
            .invalidValue,
            "toolFilter.list[1]",
            schema: false,
            #""toolFilter": {"mode": "allow", "list": ["a", ▶" "]}"#
        ),
        .options(
            .emptySecuritySetting,
            "toolFilter.list",
            schema: false,
            #""toolFilter": {"mode": "block", "list": ▶" "}"#
        ),
        .options(.invalidValue, "isolation", #""isolation": ▶"none""#),
        .options(.wrongType, "forwardHeaders", #""forwardHeaders": ▶"X-A""#),
        .options(.invalidHeader, "forwardHeaders[0]", schema: false, #""forwardHeaders": [▶"X A"]"#),
        .options(.forbiddenHeader, "forwardHeaders[0]", schema: false, #""forwardHeaders": [▶"Cookie"]"#),
        .options(
            .forbiddenHeader,
            "forwardHeaders[0]",
            schema: false,
            #""authTokens": ["t"], "auth": {}, "forwardHeaders": [▶"Authorization"]"#
        ),
        .options(
            .conflictingKeys,
            "forwardHeaders",
            schema: false,
            #""isolation": "shared", "forwardHeaders": ▶["X-A"]"#
        ),
        .options(.wrongType, "auth", #""auth": ▶[]"#),
        .options(.wrongType, "auth.tokens", #""auth": {"tokens": ▶"t"}"#),
        .options(
            .wrongType,
            "auth.tokens[0]",
            #""auth": {"tokens": [▶{"value": "t"}, "u"], "rotationMode": "round-robin"}"#
        ),
        .options(
            .rotationWithoutTokens,
            "auth.rotationMode",
            schema: false,
            #""auth": {"tokens": ["", "  "], "rotationMode": ▶"round-robin"}"#
        ),
        .options(
            .rotationWithoutTokens,
            "auth.rotationMode",
            schema: false,
            #""auth": {"rotationMode": ▶"round-robin"}"#
        ),
        .options(.noUsableToken, "auth.tokens", schema: false, #""auth": {"tokens": ▶["", ""]}"#),
        .options(
            .invalidToken,
            "auth.tokens[1]",
            schema: false,
            #""auth": {"tokens": ["t", ▶"A\r\nX-Evil: 1"], "rotationMode": "round-robin"}"#
        ),
        .options(.invalidValue, "auth.rotationMode", #""auth": {"tokens": ["t"], "rotationMode": ▶"random"}"#),
        .options(.outOfRange, "auth.maxRetries", #""auth": {"tokens": ["t"], "maxRetries": ▶0}"#),
        .options(.outOfRange, "auth.maxRetries", #""auth": {"tokens": ["t"], "maxRetries": ▶-1}"#),
        .options(.wrongType, "auth.maxRetries", #""auth": {"tokens": ["t"], "maxRetries": ▶1.5}"#),
        .options(.wrongType, "auth.maxRetries", #""auth": {"tokens": ["t"], "maxRetries": ▶"2"}"#),
        .options(.invalidValue, "auth.retryOn[1]", #""auth": {"tokens": ["t"], "retryOn": [401, ▶429]}"#),
        .options(.wrongType, "auth.retryOn", #""auth": {"tokens": ["t"], "retryOn": ▶401}"#),
        .options(.invalidValue, "auth.affinity", #""auth": {"tokens": ["t"], "affinity": ▶"caller"}"#),
        .options(.missingKey, "toolFilter.mode", #""toolFilter": ▶{"names": ["a"]}"#),
        .options(.missingKey, "toolFilter.list", #""toolFilter": ▶{"mode": "block", "names": ["a"]}"#),
        .options(.restrictionIgnored, "authTokes", #"▶"authTokes": ["t"]"#),
        .options(.restrictionIgnored, "tolFilter", #"▶"tolFilter": {"mode": "block", "list": ["a"]}"#),
        .options(.restrictionIgnored, "disabeld", #"▶"disabeld": true"#),
        .options(.restrictionIgnored, "sandboxEnabled", #"▶"sandboxEnabled": true"#),
        .options(.wrongType, "enabled", #""enabled": ▶"no""#),
        .options(
            .conflictingKeys,
            "excludeTools",
            schema: false,
            #""toolFilter": {"mode": "allow", "list": ["a"]}, "excludeTools": ▶["b"]"#
        ),
        .options(.missingKey, "proxy.url", schema: false, #""proxy": ▶{"auth": {"username": "u"}}"#),
        .options(.missingKey, "proxy.url", schema: false, #""proxy": ▶{"type": "http"}"#),
        .options(.missingKey, "proxy.url", schema: false, #""proxy": ▶{"tunnel": "always"}"#),
        .options(.missingKey, "proxy.url", schema: false, #""proxy": ▶{"tls": {}, "noProxy": ["a"]}"#),
        .options(.missingKey, "proxy.url", #""proxy": ▶{"host": "p.test", "port": 3128}"#),
        .options(.wrongType, "proxy", #""proxy": ▶true"#),
        .options(.wrongType, "proxy", #""proxy": ▶8080"#),
        .options(.emptySecuritySetting, "proxy", #""proxy": ▶"""#),
        .options(.emptySecuritySetting, "proxy.url", #""proxy": {"url": ▶""}"#),
        .options(.invalidProxy, "proxy", schema: false, #""proxy": ▶"ftp://h:1""#),
        .options(.invalidProxy, "proxy", schema: false, #""proxy": ▶"socks4://h:1""#),
        .options(.invalidProxy, "proxy.url", schema: false, #""proxy": {"url": ▶"pac+http://h/p"}"#),
        .options(.invalidProxy, "proxy.url", schema: false, #""proxy": {"url": ▶"http://"}"#),
        .options(.invalidProxy, "proxy.url", schema: false, #""proxy": {"url": ▶"http://h:0"}"#),
        .options(.invalidProxy, "proxy.url", schema: false, #""proxy": {"url": ▶"http://h:65536"}"#),
        .options(.invalidProxy, "proxy.url", schema: false, #""proxy": {"url": ▶"http://user:secret"}"#),
        .options(.invalidProxy, "proxy.url", schema: false, #""proxy": {"url": ▶"http://[::1"}"#),
        .options(.invalidProxy, "proxy.url", schema: false, #""proxy": {"url": ▶"http://u:8080/w@h"}"#),
        .options(.invalidProxy, "proxy.url", schema: false, #""proxy": {"url": ▶"http://u:p%zz@h"}"#),
        .options(.invalidValue, "proxy.type", #""proxy": {"url": "http://h:1", "type": ▶"socks4"}"#),
        .options(.wrongType, "proxy.auth", #""proxy": {"url": "http://h:1", "auth": ▶"u:p"}"#),
        .options(.missingKey, "proxy.auth.username", #""proxy": {"url": "http://h:1", "auth": ▶{"password": "p"}}"#),
        .options(
            .emptySecuritySetting,
            "proxy.auth.username",
            #""proxy": {"url": "http://h:1", "auth": {"username": ▶""}}"#
        ),
        .options(
            .invalidProxy,
            "proxy.auth.username",
            schema: false,
            #""proxy": {"url": "http://h:1", "auth": {"username": ▶"u:v"}}"#
        ),
        .options(
            .invalidProxy,
            "proxy.auth.username",
            schema: false,
            #""proxy": {"url": "http://h:1", "auth": {"username": ▶"u\n"}}"#
        ),
        .options(.wrongType, "proxy.useEnv", #""proxy": {"useEnv": ▶"yes"}"#),
        .options(.invalidValue, "proxy.tunnel", #""proxy": {"url": "http://h:1", "tunnel": ▶"maybe"}"#),
        .options(.wrongType, "proxy.noProxy", #""proxy": {"url": "http://h:1", "noProxy": ▶7}"#),
        .options(
            .emptySecuritySetting,
            "proxy.tls.caFile",
            #""proxy": {"url": "https://h:1", "tls": {"caFile": ▶""}}"#
        ),
    ]
}
