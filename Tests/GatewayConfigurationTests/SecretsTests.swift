// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

@Suite("Secrets of a snapshot") struct SecretsTests {
    /// A configuration with a canary in every place that holds a secret, and the canaries.
    static let canaries = #"""
        {
          "mcpProxy": {"baseURL": "http://localhost", "addr": ":1", "name": "n", "version": "1",
            "options": {"authTokens": ["CANARY7f3a-inherited", "CANARY7f3a-inherited"], "proxy": "http://CANARY7f3a-user1:CANARY7f3a-pass1@p:1"}},
          "mcpServers": {
            "a": {"url": "https://h/x?key=CANARY7f3a-query&q=CANARY7f3a%2Dcoded", "headers": {"X-A": "CANARY7f3a-header", "Authorization": "Bearer CANARY7f3a-bearer"},
              "options": {"authTokens": ["CANARY7f3a-own", " CANARY7f3a-own2\n"]}},
            "b": {"url": "https://h/", "options": {"auth": {"tokens": ["CANARY7f3a-token0", "", "Bearer CANARY7f3a-token1", "CANARY7f3a-token0"]},
              "proxy": {"url": "socks5://CANARY7f3a-user2:CANARY7f3a-pass2@p:1", "auth": {"username": "CANARY7f3a-user3", "password": "CANARY7f3a-pass3"}}}},
            "c": {"command": "x", "args": ["https://CANARY7f3a-user4:CANARY7f3a-pass4@h/?t=CANARY7f3a-arg"], "env": {"K": "CANARY7f3a-env", "U": "postgres://CANARY7f3a-user5:CANARY7f3a-pass5@h/db"}}
          }
        }
        """#

    @Test("Every secret of a configuration is among them, once, in every form that it is written in")
    func complete() throws {
        let result = load(Self.canaries)
        let secrets = try #require(result.snapshot, "\(result.codes)").secrets.map { $0.reveal() }
        let expected = [
            "CANARY7f3a-inherited", "CANARY7f3a-own", "CANARY7f3a-own2", "CANARY7f3a-token0",
            "Bearer CANARY7f3a-token1", "CANARY7f3a-header",
            "Bearer CANARY7f3a-bearer",
            "CANARY7f3a-bearer", "CANARY7f3a-query", "CANARY7f3a-coded", "CANARY7f3a%2Dcoded", "CANARY7f3a-user1",
            "CANARY7f3a-pass1",
            "CANARY7f3a-user3", "CANARY7f3a-pass3",
            "CANARY7f3a-env", "CANARY7f3a-user4", "CANARY7f3a-pass4", "CANARY7f3a-arg", "CANARY7f3a-user5",
            "CANARY7f3a-pass5",
            "postgres://CANARY7f3a-user5:CANARY7f3a-pass5@h/db",
        ]
        #expect(Set(expected).subtracting(secrets).isEmpty)
        #expect(Set(secrets).count == secrets.count)
    }

    @Test("Values of eight characters are masked and shorter ones are not", arguments: [7, 8])
    func length(count: Int) throws {
        let token = String("aB3$efgh".prefix(count))
        let result = load(document(options: "\"auth\": {\"tokens\": [\"\(token)\"]}"))
        #expect(try #require(result.snapshot).secrets.count == (count == 8 ? 1 : 0))
    }

    @Test(
        "Plain words, numbers, paths and URLs stay readable",
        arguments: [
            "production", "application/json", "text/event-stream; charset=utf-8", "en_US.UTF-8", "Europe/Berlin",
            "/usr/local/bin:/usr/bin",
            "./node_modules/.bin", "~/.config/mcp", "https://example.com/path/to/thing", "http://localhost:8080",
            "12345678", "3.14159265",
            "-100000.5", "true, false", "no-cache, no-store", "2025-11-25", "debug.verbose",
        ]
    )
    func plain(text: String) {
        #expect(SecretText.isPlain(text))
    }

    @Test(
        "What is shaped like a token, carries a login or a query is a secret",
        arguments: [
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "sk-proj-abc123def456", "a1b2c3d4e5f6a7b8", "hunter2hunter2",
            "aGVsbG8gd29ybGQ=",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "https://user:pass@example.com",
            "https://example.com/?key=abc123def456",
            "https://hooks.example.com/T000/B000/XXXXabcd1234XXXXabcd", "Bearer abcdef123456", "123456789012345678901",
            "p@ssw0rd!!",
            "550e8400-e29b-41d4-a716-446655440000", "geheimes Paßwort",
        ]
    )
    func secret(text: String) {
        #expect(!SecretText.isPlain(text))
    }

    @Test(
        "A name that says secret makes any value one",
        arguments: ["X-Api-Key", "GITHUB_TOKEN", "DB_PASSWORD", "Authorization", "Cookie"]
    )
    func names(name: String) throws {
        #expect(SecretText.isSecretName(name))
        let result = load(
            document(
                server:
                    "\"url\": \"https://h/\", \"headers\": {\"\(name)\": \"production\", \"X-Env\": \"production2\"}"
            )
        )
        let secrets = try #require(result.snapshot).secrets
        #expect(secrets.contains(Secret("production")))
    }

    @Test("Plain values of headers, variables and queries are left out")
    func plainLeftOut() throws {
        let result = load(
            """
            {"mcpProxy": {"baseURL": "http://localhost", "addr": "localhost:1", "name": "n", "version": "1"}, "mcpServers": {
            "a": {"url": "https://h/?mode=production&empty=&flag", "headers": {"X-Kind": "production"}},
            "b": {"command": "c", "env": {"NODE_ENV": "production", "HOME": "/home/somebody", "URL": "https://example.com/a"}}}}
            """
        )
        #expect(try #require(result.snapshot).secrets.isEmpty)
    }
}
