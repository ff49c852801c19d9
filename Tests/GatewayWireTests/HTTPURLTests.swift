// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("HTTP URLs") struct HTTPURLTests {
    @Test(
        "A URL is split into origin and target, and the target stays as written",
        arguments: [
            ("http://a", "http://a", "/"), ("HTTP://A.Example/", "http://a.example", "/"),
            ("https://a:443/b", "https://a", "/b"),
            ("https://a:80/b", "https://a:80", "/b"), ("http://a:80", "http://a", "/"),
            ("http://a?b", "http://a", "/?b"),
            ("http://a#b", "http://a", "/"), ("http://a/b?c#d", "http://a", "/b?c"),
            ("http://a/%2e%2E/b//c/../?x=%00", "http://a", "/%2e%2E/b//c/../?x=%00"),
            ("http://a/b?c?d", "http://a", "/b?c?d"), ("http://[::1]:9090/mcp", "http://[::1]:9090", "/mcp"),
            ("http://[0:0::1]/", "http://[::1]", "/"),
            ("http://a/@b", "http://a", "/@b"), ("http://a/http://b", "http://a", "/http://b"),
            ("http://a?@b:c", "http://a", "/?@b:c"),
            ("http://a:65535/", "http://a:65535", "/"), ("http://a\u{2f}b", "http://a", "/b"),
        ]
    )
    func parses(text: String, origin: String, target: String) throws {
        let url = try #require(HTTPURL(text))
        #expect(url.origin.description == origin)
        #expect(url.target == target)
        #expect(!url.hasUserInfo)
    }

    @Test(
        "What is no absolute http or https URL, or names its host ambiguously, is refused",
        arguments: [
            "", "a", "/a", "//a/b", "http", "http:", "http:/", "http://", "http:///a", "http:a", "ftp://a", "file:///a",
            "ws://a", "httpx://a", "://a",
            "http//a", " http://a", "http://a ", "http://a b", "http://a/ b", "http://a/\u{0}", "http://a/\n",
            "http://a/\u{7f}", "http://a/é", "http://é",
            "http://a:0", "http://a:", "http://a:65536", "http://a:b", "http://a:-1", "http://:80", "http://a:80:80",
            "http://[::1", "http://::1",
            "http://[::1]a", "http://[::1%25lo]", "http://a%62", "http://*", "http://a,b", "http://user@", "http://@",
            "http://a@b@c", "http://a\\b",
            "http://a\\@b", "http://a|b@c", "http://<a>@c", "http://a..b", "http://.a", "http:\\\\a", "hTtP;//a",
            "http://a:80@b:80:80",
        ]
    )
    func refuses(text: String) {
        #expect(HTTPURL(text) == nil)
    }

    @Test(
        "User information is noticed, and kept nowhere",
        arguments: [
            ("http://user:password@a/b", "http://a"), ("http://@a", "http://a"), ("http://a:80@b:81", "http://b:81"),
            ("http://u%40x;(=),&$!'*+:~@a", "http://a"),
        ]
    )
    func userInformation(text: String, origin: String) throws {
        let url = try #require(HTTPURL(text))
        #expect(url.hasUserInfo)
        #expect(url.origin.description == origin)
        #expect(!url.target.contains("@") && !"\(url)".contains("password"))
    }

    @Test(
        "The path has no query",
        arguments: [("http://a", "/"), ("http://a?b", "/"), ("http://a/b/?c/d", "/b/"), ("http://a/b#c", "/b")]
    )
    func path(text: String, expected: String) throws {
        let url = try #require(HTTPURL(text))
        #expect(url.path == expected)
    }

    @Test(
        "A Location is an absolute URL or an absolute path, anything else is refused",
        arguments: [
            ("/b?c", "http://a:81/b?c"), ("/", "http://a:81/"), ("/\\evil.example", "http://a:81/\\evil.example"),
            ("https://b/c", "https://b/c"),
            ("HTTP://B", "http://b/"), ("//evil.example/b", nil), ("b", nil), ("?b", nil), ("", nil), ("#b", nil),
            ("javascript:a", nil),
            ("/b\r\nX: a", nil), ("/b c", nil), ("file:///etc/passwd", nil), ("http:b", nil), ("\\\\evil.example", nil),
            (".//evil.example", nil),
        ] as [(String, String?)]
    )
    func location(location: String, expected: String?) throws {
        let base = try #require(HTTPURL("http://user@a:81/x/y?z"))
        let url = base.resolving(location: location)
        #expect(url.map { $0.origin.description + $0.target } == expected)
    }

    @Test("A location relative to an IPv6 literal keeps the brackets")
    func locationWithLiteral() throws {
        let base = try #require(HTTPURL("https://[2001:db8::1]:8443/x"))
        #expect(base.resolving(location: "/y")?.origin == base.origin)
    }
}

@Suite("Origins") struct WebOriginTests {
    @Test(
        "An origin is scheme, host and effective port",
        arguments: [
            ("http://a", "http://a:80"), ("https://A", "https://a:443"), ("http://[0::1]:80", "http://[::1]"),
            ("HTTP://a", "http://a"),
        ]
    )
    func equal(one: String, other: String) throws {
        let first = try #require(WebOrigin(one))
        #expect(first == WebOrigin(other))
    }

    @Test(
        "Origins that differ in scheme, host or port are different",
        arguments: ["https://a", "http://b", "http://a:81", "http://a.", "http://[::1]"]
    )
    func different(other: String) throws {
        let second = try #require(WebOrigin(other))
        #expect(WebOrigin("http://a") != second)
    }

    @Test(
        "What a browser would not send as an origin is refused",
        arguments: [
            "null", "", "http://a/", "http://a?", "http://a#", "http://u@a", "http://@a", "a", "//a", "http://a b",
            "http://a,http://b", "file://", "http://[::1].evil",
        ]
    )
    func refused(text: String) {
        #expect(WebOrigin(text) == nil)
    }

    @Test("The authority names the port only where the scheme does not imply it")
    func authority() {
        #expect(WebOrigin("http://a:80")?.authority == "a")
        #expect(WebOrigin("http://a:443")?.authority == "a:443")
        #expect(WebOrigin("https://[::1]:443")?.authority == "[::1]")
        #expect(WebOrigin("http://a")?.hostPort == HostPort(host: "a", port: 80, isIPv6Literal: false))
    }

    @Test(
        "A loopback origin is one whose host is a loopback name",
        arguments: [("http://localhost:1", true), ("https://[::1]", true), ("http://localhost.evil", false)]
    )
    func loopback(text: String, expected: Bool) throws {
        let origin = try #require(WebOrigin(text))
        #expect(origin.isLoopback == expected)
    }

    @Test(
        "A reference is read against the URL that it came from",
        arguments: [
            ("messages?s=1", "http://h:8080/a/messages?s=1"), ("/m?s=1", "http://h:8080/m?s=1"),
            ("?s=1", "http://h:8080/a/sse?s=1"), ("http://other/x", "http://other/x"), ("//other/x", nil), ("", nil),
            ("../m", nil), ("#f", nil), ("a b", nil), ("m\r\nX: y", nil),
        ] as [(String, String?)]
    )
    func references(reference: String, expected: String?) throws {
        let url = try #require(HTTPURL("http://h:8080/a/sse?key=1"))
        let resolved = url.resolving(reference: reference)
        #expect(resolved.map { "\($0.origin)\($0.target)" } == expected)
    }
}
