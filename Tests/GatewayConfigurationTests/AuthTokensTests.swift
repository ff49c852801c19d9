// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import Testing

@testable import GatewayConfiguration

/// The section "authTokens, once and for all" of the contract.
@Suite("authTokens") struct AuthTokensTests {
    private func tokens(_ pool: CredentialPoolConfiguration?) -> [String]? { pool?.tokens.map { $0.reveal() } }

    @Test("K16: a url server's own list guards callers and is its pool, with a warning")
    func mapped() throws {
        let result = load(document(options: #""authTokens": ["A", "B"]"#))
        #expect(self.tokens(result.pool) == ["A", "B"])
        #expect(result.pool?.mode == .roundRobin)
        #expect(result.pool?.attemptLimit == 1)
        #expect(result.one?.inboundTokens == [Secret("A"), Secret("B")])
        #expect(result.codes == ["authtokens-sent-upstream"])
        #expect(result.findings.first?.path == "mcpServers.one.options.authTokens")
        #expect(load(document(options: #""authTokens": ["A"]"#)).pool?.mode == .static)
    }

    @Test(
        "K17: with an auth object the list only guards",
        arguments: [(#"{"tokens": ["B"]}"#, ["B"]), ("{}", nil)] as [(String, [String]?)]
    )
    func ownPool(auth: String, expected: [String]?) {
        let result = load(document(options: "\"authTokens\": [\"A\"], \"auth\": \(auth)"))
        #expect(self.tokens(result.pool) == expected)
        #expect(result.one?.inboundTokens == [Secret("A")])
        #expect(result.codes == [])
    }

    @Test(
        "K18: an inherited list, a stdio server, clear text to another machine and an Authorization header map nothing",
        arguments: [
            (#""url": "https://h/""#, #", "options": {"authTokens": ["A"]}"#),
            (#""command": "c", "options": {"authTokens": ["A"]}"#, ""),
            (#""url": "http://h/", "options": {"authTokens": ["A"]}"#, ""),
            (#""url": "https://h/", "headers": {"AUTHORIZATION": "x"}, "options": {"authTokens": ["A"]}"#, ""),
        ]
    )
    func neverMapped(server: String, gateway: String) {
        let result = load(document(server: server, gateway: gateway))
        #expect(result.snapshot != nil)
        #expect(result.pool == nil)
        #expect(result.one?.inboundTokens == [Secret("A")])
        #expect(result.codes == [])
    }

    @Test("Clear text on the machine itself maps", arguments: ["localhost:1", "127.9.9.9", "[::1]", "x.localhost"])
    func loopback(host: String) {
        let result = load(document(server: "\"url\": \"http://\(host)/\", \"options\": {\"authTokens\": [\"A\"]}"))
        #expect(self.tokens(result.pool) == ["A"])
    }

    @Test("K18: the first version's tokens map nothing, neither a client's own nor the global ones")
    func firstVersion() throws {
        let result = load(
            #"""
            {"server": {"baseURL": "http://h", "addr": "localhost:1", "name": "n", "version": "1", "globalAuthTokens": ["G"]},
            "clients": {"one": {"type": "streamable-http", "config": {"url": "https://h/"}, "authTokens": ["A"]},
            "two": {"type": "stdio", "config": {"command": "c"}}}}
            """#
        )
        let upstreams = try #require(result.snapshot).upstreams
        #expect(result.pool == nil)
        #expect(upstreams.map(\.inboundTokens) == [[Secret("A"), Secret("G")], [Secret("G")]])
        #expect(result.codes == ["deprecated-v1"])
    }

    @Test("An empty list on a server opens it whatever is inherited, with a warning")
    func open() {
        let result = load(document(options: #""authTokens": []"#, gatewayOptions: #""authTokens": ["A"]"#))
        #expect(result.one?.inboundTokens == [])
        #expect(result.codes == ["open-server"])
        #expect(load(document(options: "", gatewayOptions: #""authTokens": []"#)).codes == [])
    }

    @Test("White space around a token is left out and a scheme in it is warned of")
    func doubts() {
        let result = load(document(options: #""authTokens": [" A\n", "Bearer B"], "auth": {}"#))
        #expect(result.one?.inboundTokens == [Secret("A"), Secret("Bearer B")])
        #expect(result.codes == ["token-whitespace", "token-scheme"])
    }
}
