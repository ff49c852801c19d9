// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

/// Every pair of a credential pool and an outbound proxy: neither changes what the other means.
@Suite("Pools together with proxies") struct PoolAndProxyTests {
    struct Part: Sendable, CustomTestStringConvertible {
        var name: String
        /// Members of `options`.
        var options: String
        /// What `check` says after the name of the line.
        var line: String
        var codes: [String] = []
        /// Whether the token of an http:// upstream is seen by somebody elsewhere.
        var isElsewhere = true
        var environment: [String: String] = [:]

        var testDescription: String { self.name }
    }

    static let pools = [
        Part(name: "no pool", options: "", line: "none"),
        Part(
            name: "static",
            options: #""auth": {"tokens": ["CANARY-1"]}"#,
            line: "1 token, static, attempts 1, on 401, 403, affinity request"
        ),
        Part(
            name: "round-robin",
            options: #""auth": {"tokens": ["CANARY-1", "CANARY-2"], "rotationMode": "round-robin", "retryOn": [401]}"#,
            line: "2 tokens, round-robin, attempts 1, on 401, affinity request"
        ),
        Part(
            name: "on-first-failed",
            options: #""auth": {"tokens": ["CANARY-1", "CANARY-2"], "rotationMode": "on-first-failed"}"#,
            line: "2 tokens, on-first-failed, attempts 2, on 401, 403, affinity request"
        ),
    ]

    static let proxies = [
        Part(name: "none", options: "", line: "none", isElsewhere: false),
        Part(
            name: "url",
            options: #""proxy": {"url": "http://p.test:1", "auth": {"username": "CANARY-u", "password": "CANARY:@%"}}"#,
            line: "http://•••@p.test:1 (mcpServers.one.options.proxy)"
        ),
        Part(
            name: "string",
            options: #""proxy": "http://CANARY-u:CANARY%40@p.test""#,
            line: "http://•••@p.test:80 (mcpServers.one.options.proxy)",
            codes: ["proxy-default-port"]
        ),
        Part(
            name: "false",
            options: #""proxy": false"#,
            line: "none (options.proxy)",
            isElsewhere: false,
            environment: ["ALL_PROXY": "http://p.test:1"]
        ),
        Part(
            name: "environment",
            options: "",
            line: "http://•••@p.test:3128 (ALL_PROXY)",
            environment: ["ALL_PROXY": "http://CANARY-u:CANARY-p@p.test:3128"]
        ),
        Part(
            name: "environment, exempt",
            options: "",
            line: "none (NO_PROXY entry 1 (*))",
            isElsewhere: false,
            environment: ["ALL_PROXY": "http://p.test:3128", "NO_PROXY": "*"]
        ),
        Part(
            name: "environment, on this machine",
            options: "",
            line: "http://127.0.0.1:3128 (ALL_PROXY)",
            isElsewhere: false,
            environment: ["ALL_PROXY": "127.0.0.1:3128"]
        ),
        Part(
            name: "socks5",
            options: #""proxy": "socks5://CANARY-u:CANARY-p@p.test""#,
            line: "socks5://•••@p.test:1080 (mcpServers.one.options.proxy)",
            codes: ["proxy-local-dns"]
        ),
        Part(
            name: "https",
            options:
                #""proxy": {"url": "https://p.test", "tls": {"caFile": "/ca.pem"}, "noProxy": ["x.test"], "tunnel": "always"}"#,
            line: "https://p.test:443 (mcpServers.one.options.proxy), tunnel always, not for x.test,"
                + " tls verified, also by \"/ca.pem\""
        ),
    ]

    @Test("Each pair gives what its parts give, and check shows both", arguments: Self.pools, Self.proxies)
    func pair(pool: Part, proxy: Part) throws {
        for scheme in ["https", "http"] {
            let options = [pool.options, proxy.options].filter { !$0.isEmpty }.joined(separator: ", ")
            let result = load(
                document(server: "\"url\": \"\(scheme)://up.test/mcp\", \"options\": {\(options)}"),
                environment: proxy.environment
            )
            var codes = proxy.codes
            if scheme == "http", !pool.options.isEmpty {
                codes.append("clear-text-credentials")
                if proxy.isElsewhere { codes.append("proxy-sees-token") }
            }
            #expect(result.codes.sorted() == codes.sorted())
            let snapshot = try #require(result.snapshot)
            let summary = ConfigurationSummary(snapshot, environment: proxy.environment).text
            #expect(summary.contains("\n  credentials: \(pool.line)\n  proxy: \(proxy.line)\n"))
            #expect((result.pool == nil) == pool.options.isEmpty)
            #expect((result.http?.outboundProxy == nil) == proxy.line.hasPrefix("none"))
            #expect(!summary.contains("CANARY") && !"\(result)".contains("CANARY"))
        }
    }

    @Test("check says of a variable that it is not usable, beside the error")
    func unusable() throws {
        let environment = ["HTTPS_PROXY": "ftp://CANARY"]
        let result = load(document(server: #""url": "https://up.test/""#), environment: environment)
        let summary = ConfigurationSummary(try #require(result.understood), environment: environment).text
        #expect(summary.contains("\n  proxy: NOT USABLE (HTTPS_PROXY)\n"))
    }

    @Test("check says that NO_PROXY applies beside a proxy that the configuration names")
    func withNoProxy() throws {
        let result = load(document(options: #""proxy": {"url": "http://p:1", "useEnv": true}"#))
        let summary = ConfigurationSummary(try #require(result.snapshot), environment: [:]).text
        #expect(summary.contains("\n  proxy: http://p:1 (mcpServers.one.options.proxy), nor for NO_PROXY\n"))
    }
}
