// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire
import Testing

@testable import GatewayConfiguration

/// What a load says about the proxies that servers take.
@Suite("Findings about outbound proxies") struct OutboundProxyFindingTests {
    private static let pool = #""auth": {"tokens": ["CANARY-t"]}"#

    private func load(_ url: String, _ options: String, _ environment: [String: String]) -> LoadResult {
        GatewayConfigurationTests.load(
            document(server: "\"url\": \"\(url)\", \"options\": {\(options)}"),
            environment: environment
        )
    }

    private func document(servers: String, proxy: String = "") -> String {
        """
        {"mcpProxy": {"baseURL": "http://localhost", "addr": "127.0.0.1:1", "name": "n", "version": "1"\(proxy)},
        "mcpServers": {\(servers)}}
        """
    }

    private func document(server: String) -> String { GatewayConfigurationTests.document(server: server) }

    @Test(
        "A token in clear text that passes a proxy elsewhere is worth a warning, wherever the target is",
        arguments: [
            ("http://up.test/", #""proxy": "http://p:1""#, [:], true),
            ("http://up.test/", #""proxy": "socks5h://p:1""#, [:], true),
            ("http://up.test/", "", ["http_proxy": "p:1"], true),
            ("http://up.test/", "", ["ALL_PROXY": "https://p:1"], true),
            ("http://localhost/", #""proxy": "http://p:1""#, [:], true),
            ("http://127.0.0.1/", #""proxy": {"url": "http://p:1", "useEnv": true}"#, [:], true),
            ("http://localhost/", "", ["http_proxy": "p:1"], false),
            ("https://up.test/", #""proxy": "http://p:1""#, [:], false),
            ("https://up.test/", "", ["https_proxy": "p:1"], false),
            ("http://up.test/", #""proxy": "http://localhost:1""#, [:], false),
            ("http://up.test/", "", ["http_proxy": "127.0.0.1:1"], false),
            ("http://up.test/", "", ["http_proxy": "[::1]:1"], false),
            ("http://up.test/", #""proxy": {"url": "http://p:1", "noProxy": "up.test"}"#, [:], false),
            ("http://up.test/", "", ["http_proxy": "p:1", "no_proxy": "up.test"], false),
            ("http://up.test/", #""proxy": false"#, ["http_proxy": "p:1"], false),
        ] as [(String, String, [String: String], Bool)]
    )
    func seesToken(url: String, proxy: String, environment: [String: String], isWarned: Bool) {
        let separator = proxy.isEmpty ? "" : ", "
        let result = self.load(url, Self.pool + separator + proxy, environment)
        #expect(result.codes.count { $0 == "proxy-sees-token" } == (isWarned ? 1 : 0))
        #expect(!self.load(url, proxy, environment).codes.contains("proxy-sees-token"))
        if isWarned {
            let finding = result.findings.first { $0.code == .proxySeesToken }
            #expect(finding?.message.contains("bearer token is visible to the outbound proxy") == true)
        }
    }

    @Test("A configured Authorization is such a token, too")
    func authorization() {
        let server = #""url": "http://up.test/", "headers": {"authorization": "Bearer CANARY"}"#
        let result = GatewayConfigurationTests.load(document(server: server), environment: ["ALL_PROXY": "p:1"])
        #expect(result.codes == ["clear-text-credentials", "proxy-sees-token"])
    }

    @Test(
        "Names that this machine looks up, and a port that is not written, are told for the proxy that is taken",
        arguments: [
            (#""proxy": "socks5://p:1""#, [:], ["proxy-local-dns"]), (#""proxy": "socks5h://p:1""#, [:], []),
            ("", ["https_proxy": "socks5://p"], ["proxy-local-dns"]), ("", ["ALL_PROXY": "socks5h://p"], []),
            (#""proxy": "p""#, [:], ["proxy-default-port"]), (#""proxy": "http://p:80""#, [:], []),
            ("", ["https_proxy": "http://p"], ["proxy-default-port"]), ("", ["https_proxy": "p:80"], []),
            ("", ["https_proxy": "https://p"], []), (#""proxy": "https://p""#, [:], []),
            (#""proxy": {"url": "socks5://p", "noProxy": "*"}"#, [:], []),
            (#""proxy": {"url": "p", "noProxy": "*"}"#, [:], []),
            ("", ["https_proxy": "socks5://p", "NO_PROXY": "*"], []), ("", ["https_proxy": "p", "NO_PROXY": "*"], []),
        ] as [(String, [String: String], [String])]
    )
    func infos(proxy: String, environment: [String: String], codes: [String]) {
        #expect(self.load("https://up.test/", proxy, environment).codes == codes)
    }

    @Test("What concerns an inherited proxy or the environment is said once")
    func once() {
        let servers = #""a": {"url": "https://a/"}, "b": {"url": "https://b/"}, "c": {"url": "http://c/"}"#
        let inherited = self.document(
            servers: servers,
            proxy: #", "options": {"proxy": {"url": "socks5://p", "noProxy": ["*x", "y"]}}"#
        )
        let first = GatewayConfigurationTests.load(inherited)
        #expect(first.codes == ["proxy-local-dns", "no-proxy-entry-ignored"])
        #expect(
            first.findings.map(\.path) == ["mcpProxy.options.proxy.url", "mcpProxy.options.proxy.noProxy"]
        )
        let second = GatewayConfigurationTests.load(
            self.document(servers: servers),
            environment: [
                "REQUEST_METHOD": "GET", "HTTP_PROXY": "CANARY", "ALL_PROXY": "http://u:CANARY@p", "NO_PROXY": "/ a",
            ]
        )
        #expect(
            second.codes == ["no-proxy-entry-ignored", "proxy-default-port", "environment-proxy-discarded"]
        )
        #expect(!"\(second)".contains("CANARY"))
        #expect(second.findings.first?.message.hasPrefix("NO_PROXY entry 1 (/) cannot be used") == true)
    }

    @Test("Every server that needs an unusable variable is named, and the others are not")
    func unusable() {
        let servers =
            #""a": {"url": "https://a/"}, "b c": {"url": "https://b/"}, "d": {"url": "http://c/"}, "#
            + #""e": {"url": "https://e/", "options": {"proxy": false}}, "f": {"command": "c"}, "#
            + #""g": {"url": "https://x.g.test/"}"#
        let result = GatewayConfigurationTests.load(
            self.document(servers: servers.replacing("b c", with: "b:c")),
            environment: ["HTTPS_PROXY": "ftp://CANARY", "NO_PROXY": "g.test"]
        )
        #expect(result.snapshot == nil)
        #expect(result.findings.map(\.path) == ["mcpServers.a.url", #"mcpServers["b:c"].url"#])
        #expect(
            result.findings.last?.message
                .contains(
                    #"upstream "b:c" needs it. Fix it or set mcpServers["b:c"].options.proxy to false"#
                ) == true
        )
    }

    @Test(
        "A server that is not started gives no findings of these kinds",
        arguments: [
            ["ALL_PROXY": "ftp://h"], ["ALL_PROXY": "socks5://h"], ["ALL_PROXY": "h"],
            ["HTTP_PROXY": "h", "REQUEST_METHOD": "GET"], ["ALL_PROXY": "h:1", "NO_PROXY": "/"],
        ]
    )
    func disabled(environment: [String: String]) {
        for proxy in ["", #", "proxy": "socks5://p""#, #", "proxy": {"url": "p", "noProxy": "/"}"#] {
            let options = "\(Self.pool), \"disabled\": true\(proxy)"
            let result = self.load("http://up.test/", options, environment)
            #expect(result.snapshot != nil)
            #expect(result.codes == [])
        }
    }

    @Test("A proxy that is wrong is an error at a disabled server as well, as every value is")
    func disabledAndWrong() {
        #expect(self.load("https://h/", #""disabled": true, "proxy": """#, [:]).codes == ["empty-security-setting"])
    }

    @Test("A configuration and an environment full of secrets show none of them, however they are shown")
    func secrets() throws {
        let environment = ["HTTPS_PROXY": "http://CANARY1:CANARY2@env.test:1", "no_proxy": "x://CANARY3@h"]
        let servers =
            #""a": {"url": "https://a/"}, "b": {"url": "https://b/", "options": {"proxy": "http://CANARY4:CANARY%2F5@p:1"}}, "#
            + #""c": {"url": "https://c/", "options": {"proxy": {"url": "socks5h://p:1", "auth": {"username": "CANARY6", "password": "CANARY7"}}}}"#
        let result = GatewayConfigurationTests.load(self.document(servers: servers), environment: environment)
        let snapshot = try #require(result.snapshot)
        let summary = ConfigurationSummary(snapshot, environment: environment)
        var text = result.findings.map { $0.rendered(sourceName: "c") }.joined() + summary.text
        dump(summary, to: &text)
        dump(result, to: &text)
        for upstream in snapshot.upstreams {
            guard case .http(let http) = upstream.transport else { continue }
            let selection = OutboundProxySelection(http.proxy, to: http.url.origin, environment: environment)
            text += "\(http) \(http.proxy) \(String(reflecting: http.outboundProxy)) \(selection)"
            text += String(reflecting: http.proxy) + String(reflecting: selection)
            for value in [http, http.proxy, http.outboundProxy as Any, selection] { dump(value, to: &text) }
            text += Mirror(reflecting: http.outboundProxy as Any).children.map { "\($0)" }.joined()
            text += try OutboundProxyExplanation(of: "https://x/", environment: environment).text
            text += try OutboundProxyExplanation(
                of: "https://x/",
                server: upstream.name,
                in: result,
                environment: environment
            )
            .text
        }
        #expect(!text.contains("CANARY"))
        #expect(text.contains("http://•••@env.test:1") && text.contains("socks5h://•••@p:1"))
        #expect(snapshot.upstreams.count == 3)
    }
}
