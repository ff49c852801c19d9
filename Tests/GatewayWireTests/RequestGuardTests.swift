// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Host and Origin checks") struct RequestGuardTests {
    static func makeGuard(hosts: [String] = [], origins: [String] = []) throws -> RequestGuard {
        RequestGuard(
            baseOrigin: try #require(WebOrigin("https://gateway.example:8443")),
            allowedHosts: try hosts.map { try #require(HostPort($0)) },
            allowedOrigins: try origins.map { try #require(AllowedOrigin($0)) }
        )
    }

    static func host(_ text: String, _ guardian: RequestGuard, isLoopback: Bool) -> RequestGuard.Verdict {
        let bytes = latin1(text)
        return guardian.admitsHost(bytes.span, isLocalAddressLoopback: isLoopback)
    }

    static func origin(_ text: String, _ guardian: RequestGuard, isLoopback: Bool, count: Int = 1)
        -> RequestGuard.Verdict
    {
        let bytes = latin1(text)
        return guardian.admitsOrigin(bytes.span, count: count, isLocalAddressLoopback: isLoopback)
    }

    static let hosts: [(String, RequestGuard.Verdict)] = [
        ("localhost", .admitted), ("localhost:1", .admitted), ("LOCALHOST:65535", .admitted),
        ("app.localhost", .admitted),
        ("127.0.0.1:9090", .admitted), ("127.9.9.9", .admitted), ("[::1]:9090", .admitted),
        ("[0:0:0:0:0:0:0:1]", .admitted),
        ("gateway.example", .admitted), ("Gateway.Example:8443", .admitted), ("gateway.example:1", .admitted),
        ("evil.example", .misdirected), ("evil.example:8443", .misdirected), ("gateway.example.evil", .misdirected),
        ("evilgateway.example", .misdirected), ("localhost.evil.example", .misdirected), ("0.0.0.0", .misdirected),
        ("[::]", .misdirected), ("[::ffff:127.0.0.1]", .misdirected), ("127.1", .misdirected),
        ("192.168.1.1", .misdirected),
        ("", .malformed), ("localhost@evil.example", .malformed), ("localhost:", .malformed),
        ("[::1].evil", .malformed),
        ("a b", .malformed), ("localhost,evil.example", .malformed), ("localhost\u{0}", .malformed),
    ]

    @Test("On a loopback address only names that can mean this gateway are admitted", arguments: Self.hosts.map(\.0))
    func hostOnLoopback(text: String) throws {
        let expected = try #require(Self.hosts.first { $0.0 == text }).1
        let guardian = try Self.makeGuard()
        #expect(Self.host(text, guardian, isLoopback: true) == expected)
    }

    @Test("On another address without allowedHosts every well-formed Host is admitted", arguments: Self.hosts.map(\.0))
    func hostElsewhere(text: String) throws {
        let expected = try #require(Self.hosts.first { $0.0 == text }).1
        let guardian = try Self.makeGuard()
        #expect(Self.host(text, guardian, isLoopback: false) == (expected == .malformed ? .malformed : .admitted))
    }

    @Test(
        "With allowedHosts every connection is checked, and an entry without a port admits every port",
        arguments: [true, false]
    )
    func allowedHosts(isLoopback: Bool) throws {
        let guardian = try Self.makeGuard(hosts: [
            "mcp.internal", "other.internal:8080", "tls.internal:443", "[2001:DB8::1]",
        ])
        for (text, expected) in [
            ("mcp.internal", .admitted), ("MCP.internal:1", .admitted), ("other.internal:8080", .admitted),
            ("other.internal", .misdirected), ("other.internal:80", .misdirected), ("tls.internal", .admitted),
            ("tls.internal:443", .admitted), ("tls.internal:80", .misdirected), ("[2001:db8:0::1]:5", .admitted),
            ("[2001:db8::2]", .misdirected), ("2001.db8.1", .misdirected), ("evil.example", .misdirected),
            ("gateway.example", .admitted), ("localhost", .admitted),
        ] as [(String, RequestGuard.Verdict)] {
            #expect(Self.host(text, guardian, isLoopback: isLoopback) == expected, "\(text)")
        }
    }

    @Test("A request that names no host is admitted only where no Host is checked")
    func missingHost() throws {
        let open = try Self.makeGuard()
        let closed = try Self.makeGuard(hosts: ["a"])
        #expect(open.admitsMissingHost(isLocalAddressLoopback: false) == .admitted)
        #expect(open.admitsMissingHost(isLocalAddressLoopback: true) == .misdirected)
        #expect(closed.admitsMissingHost(isLocalAddressLoopback: false) == .misdirected)
    }

    static let origins: [(String, isOnLoopback: Bool, isElsewhere: Bool)] = [
        ("https://gateway.example:8443", true, true), ("HTTPS://Gateway.Example:8443", true, true),
        ("https://gateway.example", false, false), ("http://gateway.example:8443", false, false),
        ("https://app.example", true, true), ("https://app.example:443", true, true),
        ("http://app.example", false, false),
        ("https://app.example:444", false, false), ("http://[2001:db8::1]:3000", true, true),
        ("http://[2001:DB8:0::1]:3000", true, true), ("http://localhost:3000", true, false),
        ("https://127.0.0.1", true, false),
        ("http://[::1]", true, false), ("http://a.localhost", true, false), ("http://evil.example", false, false),
        ("null", false, false), ("", false, false), ("http://localhost.evil", false, false),
        ("http://[::1].evil", false, false),
        ("http://localhost@evil.example", false, false), ("http://localhost/", false, false),
        ("localhost", false, false),
        ("http://localhost:99999", false, false), ("file://", false, false), ("http://0.0.0.0:3000", false, false),
        ("https://gateway.example:8443 https://evil.example", false, false),
        ("https://gateway.example:8443/", false, false),
        ("chrome-extension://abc", false, false), ("http://localhost\u{e9}", false, false),
    ]

    @Test(
        "An Origin is admitted if it is baseURL's, allowed, or loopback on a loopback address",
        arguments: Self.origins.map(\.0)
    )
    func origin(text: String) throws {
        let expected = try #require(Self.origins.first { $0.0 == text })
        let guardian = try Self.makeGuard(origins: ["https://app.example", "http://[2001:db8::1]:3000"])
        #expect(Self.origin(text, guardian, isLoopback: true) == (expected.isOnLoopback ? .admitted : .forbidden))
        #expect(Self.origin(text, guardian, isLoopback: false) == (expected.isElsewhere ? .admitted : .forbidden))
    }

    static let otherOrigins: [(String, Bool)] = [
        ("chrome-extension://abc", true), ("vscode-webview://0a1B", true), ("app://obsidian.md", true),
        ("app://localhost:1", true), ("file://", true),
        ("chrome-extension://abd", false), ("chrome-extension://ABC", false), ("Chrome-Extension://abc", false),
        ("chrome-extension://abc/", false), ("chrome-extension://abc:1", false), ("chrome-extension://", false),
        ("moz-extension://abc", false), ("vscode-webview://0a1b", false), ("app://obsidian.md.evil", false),
        ("app://localhost", false), ("http://obsidian.md", false), ("file:///", false), ("null", false),
        ("app://obsidian.md, app://obsidian.md", false),
    ]

    @Test("An Origin of another scheme is admitted only if it is listed, byte for byte", arguments: [true, false])
    func otherSchemes(isLoopback: Bool) throws {
        let guardian = try Self.makeGuard(origins: [
            "Chrome-Extension://abc", "vscode-webview://0a1B", "app://obsidian.md", "app://localhost:1", "file://",
        ])
        for (text, isAdmitted) in Self.otherOrigins {
            let verdict = Self.origin(text, guardian, isLoopback: isLoopback)
            #expect(verdict == (isAdmitted ? .admitted : .forbidden), "\(text)")
        }
    }

    @Test(
        "What is no origin, and what anybody can have, cannot be listed",
        arguments: [
            "null", "*", "", "https://*", "chrome-extension://*", "https://a/b", "https://u@a", "app://a/b",
            "app://a?b",
            "app://a#b", "app://u@a", "app:a", "://a", "1app://a", "a b://c", "app://a b", "app://\u{e9}", "app//a",
            "app://" + String(repeating: "a", count: 600),
        ]
    )
    func notListed(text: String) { #expect(AllowedOrigin(text) == nil) }

    @Test("Two Origins are never admitted, even equal ones that each would be")
    func twoOrigins() throws {
        let guardian = try Self.makeGuard()
        #expect(Self.origin("http://localhost", guardian, isLoopback: true, count: 2) == .forbidden)
    }

    @Test("Each verdict has its status")
    func statuses() {
        #expect(RequestGuard.Verdict.admitted.status == nil)
        #expect(RequestGuard.Verdict.malformed.status == 400)
        #expect(RequestGuard.Verdict.misdirected.status == 421)
        #expect(RequestGuard.Verdict.forbidden.status == 403)
    }
}
