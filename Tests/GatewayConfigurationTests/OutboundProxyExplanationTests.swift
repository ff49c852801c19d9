// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire
import Testing

@testable import GatewayConfiguration

@Suite("Explanation of outbound proxies") struct OutboundProxyExplanationTests {
    private static let configuration = #"""
        {"mcpProxy": {"baseURL": "http://localhost", "addr": "127.0.0.1:1", "name": "n", "version": "1",
          "options": {"proxy": "https://u:CANARY@inherited.test"}},
        "mcpServers": {
          "own": {"url": "https://a/", "options": {"proxy": {"url": "socks5h://own.test", "noProxy": ["*.near.test", "/"]}}},
          "inheriting": {"url": "https://b/"}, "asking": {"url": "https://c/", "options": {"proxy": {"useEnv": true}}},
          "none": {"url": "https://d/", "options": {"proxy": false, "disabled": true}}, "child": {"command": "c"}}}
        """#

    @Test(
        "Without a server the environment decides",
        arguments: [
            (
                "https://api.example.com/x?key=CANARY", ["HTTPS_PROXY": "http://u:CANARY@proxy.corp:3128"],
                "https://api.example.com:443: through http://•••@proxy.corp:3128\nrule: HTTPS_PROXY\n"
            ),
            (
                "http://api.corp:8080/", ["http_proxy": "p:1", "NO_PROXY": "x, .corp"],
                "http://api.corp:8080: direct\nrule: NO_PROXY entry 2 (.corp)\n"
            ),
            (
                "http://localhost/", ["ALL_PROXY": "p:1"],
                "http://localhost:80: direct\nrule: the target is this machine, and the proxy in ALL_PROXY is not\n"
            ),
            (
                "https://[2001:db8::1]/", [:],
                "https://[2001:db8::1]:443: direct\nrule: no proxy is configured, and no variable names one\n"
            ),
            (
                "http://www.示例.com/", ["http_proxy": "p:1", "no_proxy": "示例.com"],
                "http://www.xn--fsq092h.com:80: direct\nrule: no_proxy entry 1 (示例.com)\n"
            ),
            (
                "http://a.test/", ["http_proxy": "p"],
                "http://a.test:80: through http://p:80\nrule: http_proxy\n"
                    + "info: environment variable http_proxy names a proxy without a port, so it is 80 (curl would take"
                    + " 1080)\n"
            ),
        ] as [(String, [String: String], String)]
    )
    func environment(url: String, environment: [String: String], text: String) throws {
        #expect(try OutboundProxyExplanation(of: url, environment: environment).text == text)
    }

    @Test("What was not used although it is there is told, one line each")
    func notices() throws {
        let environment = ["REQUEST_METHOD": "GET", "HTTP_PROXY": "p:1", "ALL_PROXY": "q:1", "NO_PROXY": "a/b,*c"]
        let lines = try OutboundProxyExplanation(of: "http://a.test/", environment: environment).text
            .split(separator: "\n")
        #expect(lines.count == 5)
        #expect(lines[2].hasPrefix("warning: environment variable HTTP_PROXY is ignored because REQUEST_METHOD is set"))
        #expect(lines[3].hasPrefix("warning: NO_PROXY entry 1 (a/b) cannot be used"))
        #expect(lines[4].hasPrefix("warning: NO_PROXY entry 2 (*c) cannot be used"))
    }

    @Test(
        "With a server its options.proxy decides, its own or the inherited one, for the URL that is asked about",
        arguments: [
            ("own", "http://far.test/", "through socks5h://own.test:1080", "mcpServers.own.options.proxy"),
            ("own", "http://a.near.test/", "direct", "options.proxy.noProxy entry 1 (*.near.test)"),
            ("inheriting", "https://far.test/", "through https://•••@inherited.test:443", "mcpProxy.options.proxy"),
            ("asking", "https://far.test/", "through http://env.test:1", "https_proxy"),
            ("asking", "http://far.test/", "direct", "no proxy is configured, and no variable names one"),
            ("none", "https://far.test/", "direct", "options.proxy"),
        ]
    )
    func server(name: String, url: String, decision: String, rule: String) throws {
        let environment = ["https_proxy": "env.test:1", "NO_PROXY": "near.test"]
        let result = load(Self.configuration, environment: environment)
        let text = try OutboundProxyExplanation(of: url, server: name, in: result, environment: environment).text
        let lines = text.split(separator: "\n")
        #expect(lines[0].hasSuffix(": \(decision)"))
        #expect(lines[1] == "rule: \(rule)")
        #expect(!text.contains("CANARY"))
    }

    private func refusal(_ url: String, _ environment: [String: String] = [:]) -> String? {
        do {
            _ = try OutboundProxyExplanation(of: url, environment: environment)
            return nil
        } catch {
            return error.message
        }
    }

    private func refusal(_ name: String, in text: String, _ environment: [String: String] = [:]) -> String? {
        do {
            let result = load(text, environment: environment)
            _ = try OutboundProxyExplanation(of: "https://x.test/", server: name, in: result, environment: environment)
            return nil
        } catch {
            return error.message
        }
    }

    @Test(
        "A text that is no URL is refused",
        arguments: ["", "x", "x.test", "ftp://x/", "http://", "http://ｆ.test/", "http://x/ä"]
    )
    func noURL(text: String) {
        #expect(self.refusal(text)?.hasPrefix("this is no absolute http or https URL;") == true)
    }

    @Test("A variable that decides and is no proxy is named, with what it is needed for, and not shown")
    func unusable() throws {
        let environment = ["HTTPS_PROXY": "ftp://CANARY"]
        let reason = "(the scheme is not supported; \(OutboundProxyURL.Refusal.accepted))"
        #expect(
            self.refusal("https://x.test:1/", environment)
                == "environment variable HTTPS_PROXY is not a usable proxy URL (value withheld); https://x.test:1 needs it."
                + " Fix it or name the host in NO_PROXY \(reason)"
        )
        #expect(
            self.refusal("asking", in: Self.configuration, environment)
                == "environment variable HTTPS_PROXY is not a usable proxy URL (value withheld); upstream \"asking\" needs"
                + " it. Fix it or set mcpServers.asking.options.proxy to false \(reason)"
        )
        // The error of one server does not keep another from being explained.
        #expect(self.refusal("own", in: Self.configuration, environment) == nil)
    }

    @Test("A server that is not there, or is reached through no network, is refused")
    func noServer() {
        #expect(
            self.refusal("nobody", in: Self.configuration)
                == #"--server: there is no server "nobody"; known are "own", "inheriting", "asking", "none", "child""#
        )
        #expect(self.refusal("child", in: Self.configuration)?.contains("child process") == true)
    }

    @Test("A configuration with another error explains nothing, and the error is told")
    func broken() {
        let text = Self.configuration.replacing("socks5h://own.test", with: "ftp://CANARY")
        let message = self.refusal("own", in: text)
        #expect(message?.contains("mcpServers.own.options.proxy.url") == true)
        #expect(message?.contains("CANARY") == false)
        #expect(self.refusal("own", in: "{")?.contains("[syntax]") == true)
    }
}
