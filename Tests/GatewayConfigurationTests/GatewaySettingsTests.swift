// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire
import Testing

@testable import GatewayConfiguration

@Suite("mcpProxy") struct GatewaySettingsTests {
    private func listener(_ members: String) -> ListenerConfiguration? {
        load("{\"mcpProxy\": {\"name\": \"n\", \"version\": \"1\", \(members)}}").snapshot?.listener
    }

    @Test(
        "The path of the base URL loses its trailing slashes and nothing else",
        arguments: [
            ("https://mcp.example.com", "https://mcp.example.com", ""), ("HTTP://H:8080/", "http://h:8080", ""),
            ("http://h/a/b/", "http://h", "/a/b"), ("http://[::1]:80/A%2fb", "http://[::1]", "/A%2fb"),
            ("http://h/a//", "http://h", "/a"),
        ]
    )
    func baseURL(text: String, origin: String, path: String) throws {
        let listener = try #require(self.listener("\"baseURL\": \"\(text)\", \"addr\": \":1\""))
        #expect(listener.baseOrigin.description == origin)
        #expect(listener.basePath == path)
    }

    @Test(
        "The address has a port, and a host or every interface",
        arguments: [
            (":9090", nil, 9090), ("127.0.0.1:0", "127.0.0.1", 0), ("[::1]:9090", "::1", 9090),
            ("LOCALHOST:65535", "localhost", 65_535),
            ("0.0.0.0:80", "0.0.0.0", 80),
        ] as [(String, String?, Int)]
    )
    func address(text: String, host: String?, port: Int) throws {
        let listener = try #require(self.listener("\"baseURL\": \"http://h\", \"addr\": \"\(text)\""))
        #expect(listener.address == ListenAddress(host: host, port: port))
    }

    @Test(
        "A bad address is answered with the one that is meant",
        arguments: [("9090", "\":9090\""), ("*:80", "\":80\""), ("h", nil)] as [(String, String?)]
    )
    func addressSuggestion(text: String, suggestion: String?) {
        let result = load(
            "{\"mcpProxy\": {\"name\": \"n\", \"version\": \"1\", \"baseURL\": \"http://h\", \"addr\": \"\(text)\"}}"
        )
        #expect(result.findings.first { $0.code == .invalidAddress }?.suggestion == suggestion)
    }

    @Test("The other settings arrive, and have their defaults where they are absent")
    func others() throws {
        let plain = try #require(self.listener(#""baseURL": "http://h", "addr": ":1""#))
        #expect(plain.advertisedTransport == .sse)
        #expect(plain.startupGracePeriod == .seconds(30) && plain.drainTimeout == .seconds(600))
        #expect(plain.allowedOrigins.isEmpty && plain.allowedHosts.isEmpty && plain.statusTokens.isEmpty)
        let full = try #require(
            self.listener(
                #"""
                "baseURL": "http://h", "addr": ":1", "type": "streamable-http", "startupGracePeriod": "1m",
                "drainTimeout": "20m",
                "allowedOrigins": ["https://App.example.com", "http://a:81", "Chrome-Extension://aBc"],
                "allowedHosts": ["Gate", "gate:80", "[::1]:5"],
                "options": {"authTokens": ["s1", "s2"]}
                """#
            )
        )
        #expect(full.advertisedTransport == .streamableHTTP)
        #expect(full.startupGracePeriod == .seconds(60) && full.drainTimeout == .seconds(1_200))
        #expect(
            full.allowedOrigins.map(\.description) == [
                "https://app.example.com", "http://a:81", "chrome-extension://aBc",
            ]
        )
        #expect(full.allowedHosts.map(\.authority) == ["gate", "gate:80", "[::1]:5"])
        #expect(full.statusTokens == [Secret("s1"), Secret("s2")])
    }

    @Test(
        "An address that other machines reach without any token is warned of",
        arguments: [
            (":1", "", true), ("0.0.0.0:1", "", true), ("10.0.0.1:1", "", true), ("127.0.0.1:1", "", false),
            ("localhost:1", "", false),
            ("[::1]:1", "", false), (":1", #""authTokens": ["t"]"#, false),
        ]
    )
    func openGateway(address: String, options: String, isWarned: Bool) {
        let result = load(
            """
            {"mcpProxy": {"name": "n", "version": "1", "baseURL": "http://h", "addr": "\(address)"},
            "mcpServers": {"one": {"command": "c", "options": {\(options)}}}}
            """
        )
        #expect(result.codes == (isWarned ? ["open-gateway"] : []))
    }

    @Test(
        "A gateway without servers loads, with a warning",
        arguments: ["", #", "mcpServers": {}"#, #", "mcpServers": null"#]
    )
    func noServers(members: String) {
        let result = load(
            "{\"mcpProxy\": {\"name\": \"n\", \"version\": \"1\", \"baseURL\": \"http://h\", \"addr\": \"localhost:1\"}\(members)}"
        )
        #expect(result.snapshot != nil)
        #expect(result.codes == ["no-servers"])
    }

    @Test("Tool filter and disabled have no effect in what servers inherit")
    func noEffect() throws {
        let result = load(document(options: "", gatewayOptions: #""toolFilter": {"mode": 1}, "disabled": true"#))
        #expect(result.codes == ["no-effect", "no-effect"])
        #expect(result.one?.isDisabled == false)
    }
}
