// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Pages of other origins") struct CrossOriginTests {
    static let known =
        "authorization, content-type, accept, last-event-id, mcp-session-id, mcp-protocol-version, mcp-method, mcp-name"

    static let requested: [(String, String)] = [
        ("", ""), (",", ""), ("authorization, content-type", ""), ("x-evil", ""),
        ("mcp-param-city", ", mcp-param-city"), ("MCP-Param-City", ", mcp-param-city"),
        ("content-type,mcp-param-a , mcp-param-b", ", mcp-param-a, mcp-param-b"),
        ("mcp-param-", ""), ("mcp-parameter", ""), ("mcp-param-a b", ""), ("mcp-param-\u{e9}", ""),
        ("mcp-param-a:x", ""), ("mcp-param-a\r\nset-cookie: x", ""), ("*", ""), ("mcp-param-*", ", mcp-param-*"),
        (" mcp-param-a", ", mcp-param-a"), ("mcp-param-a,", ", mcp-param-a"),
    ]

    @Test(
        "A page may send the headers of MCP and the parameters that it asks for, and no others",
        arguments: Self.requested.map(\.0)
    )
    func headers(text: String) throws {
        let expected = try #require(Self.requested.first { $0.0 == text }).1
        var headers = CrossOrigin.AllowedHeaders()
        let bytes = latin1(text)
        headers.read(bytes.span)
        #expect(String(decoding: headers.value, as: UTF8.self) == Self.known + expected)
    }

    @Test("Several lines are one list")
    func severalLines() {
        var headers = CrossOrigin.AllowedHeaders()
        for text in ["mcp-param-a", "x, mcp-param-b"] {
            let bytes = latin1(text)
            headers.read(bytes.span)
        }
        #expect(String(decoding: headers.value, as: UTF8.self) == Self.known + ", mcp-param-a, mcp-param-b")
    }

    // MARK: Paths of OAuth

    static let paths: [(String, Bool)] = [
        ("/.well-known/oauth-protected-resource", true), ("/.well-known/oauth-protected-resource/api/a/mcp", true),
        ("/.well-known/oauth-authorization-server", true), ("/.well-known/openid-configuration/api/a/mcp", true),
        ("/api/.well-known/oauth-protected-resource", true), ("/api/a/.well-known/oauth-authorization-server", true),
        ("/api/a/mcp/.well-known/openid-configuration", true), ("/.well-known", true), ("/.well-known/", true),
        ("/register", true), ("/authorize", true), ("/token", true), ("/api/register", true), ("/api/a/token", true),
        ("/api/a/mcp/authorize", true),
        ("", false), ("/", false), ("/api", false), ("/well-known/x", false), ("/.well-knownx", false),
        ("/x.well-known/y", false), ("/registered", false), ("/token/", false), ("/token/x", false), ("token", false),
        ("/%2ewell-known/x", false), ("/a/mcp", false),
    ]

    @Test("Clients look for OAuth below .well-known, and at three endpoints", arguments: Self.paths.map(\.0))
    func authorizationPath(path: String) throws {
        let expected = try #require(Self.paths.first { $0.0 == path }).1
        let bytes = latin1(path)
        #expect(AuthorizationPath.matches(bytes.span) == expected)
    }
}
