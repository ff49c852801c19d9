// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Redirection") struct RedirectionTests {
    private static func url(_ text: String) throws -> HTTPURL { try #require(HTTPURL(text)) }

    @Test(
        "A redirect is followed within the origin and nowhere else",
        arguments: [
            ("/mcp/", "/mcp/"),
            ("/mcp/?key=1", "/mcp/?key=1"),
            ("http://one.example:8000/mcp/", "/mcp/"),
            ("HTTP://ONE.example:8000/mcp/", "/mcp/"),
            ("http://one.example:8000", "/"),
            ("/mcp/?next=http://two.example/", "/mcp/?next=http://two.example/"),
            ("mcp/", "/mcp/"),
            ("?v=2", "/mcp?v=2"),
            ("https://one.example:8000/mcp/", nil),
            ("http://two.example:8000/mcp/", nil),
            ("http://one.example/mcp/", nil),
            ("http://user@one.example:8000/mcp/", nil),
            ("//one.example:8000/mcp/", nil),
            ("file:///etc/passwd", nil),
            ("/with space", nil),
            ("/with\r\nline", nil),
            ("", nil),
            (nil, nil),
        ] as [(String?, String?)]
    )
    func follow(location: String?, target: String?) throws {
        var redirection = Redirection()
        let isFollowed = redirection.follow(location, from: try Self.url("http://one.example:8000/mcp"))
        #expect(isFollowed == (target != nil))
        #expect(redirection.target == target)
        #expect(redirection.isRedirected == isFollowed)
    }

    @Test("A relative redirect is read against the place that it comes from")
    func relative() throws {
        let url = try Self.url("http://one.example/a/mcp")
        var redirection = Redirection()
        #expect(redirection.follow("/b/c/mcp", from: url) == true)
        #expect(redirection.follow("sse", from: url) == true)
        #expect(redirection.target == "/b/c/sse")
    }

    @Test("A request follows three redirects, wherever they lead")
    func limit() throws {
        let url = try Self.url("http://one.example/mcp")
        var redirection = Redirection()
        redirection.start(at: "/remembered")
        for _ in 0..<Redirection.limit { #expect(redirection.follow("/mcp", from: url) == true) }
        #expect(redirection.follow("/mcp", from: url) == false)
    }

    @Test("A request starts where an earlier one was led to, and says so until it is led elsewhere")
    func remembered() throws {
        let url = try Self.url("http://one.example/mcp")
        var redirection = Redirection()
        redirection.start(at: nil)
        #expect(redirection.target == nil && !redirection.isRemembered)
        redirection.start(at: "/mcp/")
        #expect(redirection.target == "/mcp/" && redirection.isRemembered && !redirection.isRedirected)
        #expect(redirection.follow("/v2/mcp", from: url) == true)
        #expect(redirection.target == "/v2/mcp" && !redirection.isRemembered && redirection.isRedirected)
        // A second attempt goes where the first was led to.
        redirection.start(at: "/mcp/")
        #expect(redirection.target == "/v2/mcp" && !redirection.isRemembered)
    }

    @Test(
        "People are told where a redirect leads, and no secret with it",
        arguments: [
            ("/sse/", "http://one.example:8000/sse/"),
            ("/sse/?key=SECRET&b=SECRET", "http://one.example:8000/sse/?key=•••&b=•••"),
            ("/sse/?SECRET", "http://one.example:8000/sse/?•••"),
            ("/s/0123456789abcdef0123456789/mcp/", "http://one.example:8000/s/•••/mcp/"),
            ("https://user:SECRET@two.example/login#SECRET", "https://two.example/login"),
            ("file:///etc/passwd", nil),
            (nil, nil),
        ] as [(String?, String?)]
    )
    func place(location: String?, text: String?) throws {
        let url = try Self.url("http://one.example:8000/sse")
        #expect(Redirection().place(of: location, from: url) == text)
    }

    @Test("What people are told of a redirect has an end")
    func long() throws {
        let url = try Self.url("http://one.example/sse")
        let place = Redirection().place(of: "/" + String(repeating: "a", count: 5000), from: url)
        #expect(place?.count == 200)
    }
}
