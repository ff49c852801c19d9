// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewayWire
import Testing

@testable import GatewayObservability

@Suite("Loaded secrets") struct LoadedSecretsTests {
    @Test(
        "Words, numbers, paths and URLs without secrets are plain",
        arguments: [
            ("production", true), ("PRODUCTION", true), ("Production", true), ("text/event-stream", true),
            ("application/json; charset=utf-8", true), ("en-US", true), ("12345678901", true), ("2025-06-18", true),
            ("192.168.1.1:8080", true), ("/etc/ssl/cert9x.pem", true), ("./run-4f.sh", true), ("~/x", true),
            ("https://host/p4th", true), ("", true), ("*", true),
            ("https://user:password@host", false), ("https://host/?key=value", false), ("hunter2hunter2", false),
            ("AbCdEfGhIjKl", false), ("sk-proj-4fT9", false), ("550e8400-e29b-41d4-a716-446655440000", false),
            ("correct horse battery 9staple", false), (String(repeating: "a", count: 21), false),
            ("p\u{e4}ssword", false),
        ]
    )
    func plain(text: String, expected: Bool) {
        #expect(LoadedSecrets.isPlain(text) == expected)
    }

    struct Case: CustomTestStringConvertible {
        var name: String
        var value: String
        var masked: [String]
        var kept: [String] = []
        var testDescription: String { "\(self.name): \(self.value)" }
    }

    @Test(
        "A value is masked as a whole and in the parts that may turn up alone",
        arguments: [
            Case(name: "X-Region", value: "production", masked: [], kept: ["production"]),
            Case(name: "X-Api-Key", value: "production", masked: ["production"]),
            Case(name: "DB_PASSWORD", value: "12345678", masked: ["12345678"]),
            Case(
                name: "Authorization",
                value: "Bearer correcthorsebattery",
                masked: ["Bearer correcthorsebattery", "correcthorsebattery"],
                kept: ["Bearer"]
            ),
            Case(name: "Authorization", value: "Negotiate abcdefghij0", masked: ["abcdefghij0"], kept: ["Negotiate"]),
            Case(name: "Cookie", value: "sid=abcdefgh1234; lang=english", masked: ["abcdefgh1234"]),
            Case(name: "X-Custom", value: "id=4f9a0b1c2d, application/json", masked: ["4f9a0b1c2d"]),
        ]
    )
    func parts(_ example: Case) {
        let redactor = Redactor(LoadedSecrets.parts(of: Secret(example.value), named: example.name))
        for text in example.masked { #expect(redactor.redacted("<\(text)>") == "<•••>") }
        for text in example.kept { #expect(redactor.redacted("<\(text)>") == "<\(text)>") }
    }

    @Test("A query value is masked as written and decoded, and plain ones are not")
    func query() {
        let target = "/mcp?key=abc%2Fdef%2Fghi&region=production&9f8e7d6c5b4a&empty=&x"
        let redactor = Redactor(LoadedSecrets.queryValues(of: target))
        #expect(redactor.redacted("abc%2Fdef%2Fghi abc/def/ghi 9f8e7d6c5b4a") == "••• ••• •••")
        #expect(redactor.redacted("production region") == "production region")
        #expect(LoadedSecrets.queryValues(of: "/mcp").isEmpty)
    }

    @Test(
        "What a secret file gave is masked, also if it is plain words",
        arguments: ["production", "id=4f9a0b1c2d; plain"]
    )
    func secretFile(text: String) {
        let listener = ListenerConfiguration(
            baseOrigin: WebOrigin(scheme: .http, host: "h", isIPv6Literal: false, port: 80),
            basePath: "",
            address: ListenAddress(host: "h", port: 1),
            name: "n",
            version: "1"
        )
        let snapshot = GatewaySnapshot(listener: listener, upstreams: [], secretsFromFiles: [Secret(text)])
        #expect(Redactor(LoadedSecrets.values(of: snapshot)).redacted("<\(text)>") == "<•••>")
    }

    @Test("Every secret of a configuration is found, wherever it is")
    func snapshot() throws {
        let url = try #require(HTTPURL("https://h/mcp?key=QUERY-secret-1a"))
        let proxy = OutboundProxy(
            kind: .http,
            host: "p",
            port: 1,
            username: Secret("PROXYUSER-secret-1a"),
            password: Secret("PROXYPASS-secret-1a"),
            setting: "mcpServers.a.options.proxy"
        )
        let environmentProxy = OutboundProxy(
            kind: .http,
            host: "p",
            port: 1,
            username: Secret("ENVPROXYUSER-secret-1a"),
            password: Secret("ENVPROXYPASS-secret-1a"),
            setting: "HTTPS_PROXY"
        )
        let http = HTTPUpstreamConfiguration(
            kind: .detect,
            url: url,
            headers: [.init(name: "X-Any", value: Secret("HEADER-secret-1a"))],
            credentials: CredentialPoolConfiguration(
                tokens: [Secret("POOL-secret-1a"), Secret("POOL-secret-2b")],
                mode: .roundRobin,
                attemptLimit: 2,
                retryOn: [401],
                affinity: .request
            ),
            proxy: .explicit(proxy, OutboundProxyConfiguration.Exemptions())
        )
        let inherited = HTTPUpstreamConfiguration(kind: .detect, url: url, outboundProxy: environmentProxy)
        let stdio = StdioUpstreamConfiguration(
            command: "c",
            arguments: [],
            environment: [("ANY", Secret("ENV-secret-1a"))],
            workingDirectory: nil,
            inherited: .allowList
        )
        let listener = ListenerConfiguration(
            baseOrigin: url.origin,
            basePath: "",
            address: ListenAddress(host: nil, port: 0),
            name: "n",
            version: "v",
            statusTokens: [Secret("STATUS-secret-1a")]
        )
        let upstreams = [
            UpstreamConfiguration(
                name: "a",
                route: "a",
                transport: .http(http),
                inboundTokens: [Secret("INBOUND-secret-1a")]
            ),
            UpstreamConfiguration(name: "b", route: "b", transport: .stdio(stdio), isDisabled: true),
            UpstreamConfiguration(name: "c", route: "c", transport: .http(inherited)),
        ]
        let redactor = Redactor(LoadedSecrets.values(of: GatewaySnapshot(listener: listener, upstreams: upstreams)))
        for kind in [
            "QUERY", "PROXYUSER", "PROXYPASS", "ENVPROXYUSER", "ENVPROXYPASS", "HEADER", "POOL", "ENV", "STATUS",
            "INBOUND",
        ] {
            #expect(redactor.redacted("\(kind)-secret-1a") == "•••")
        }
        #expect(redactor.redacted("POOL-secret-2b") == "•••")
    }
}
