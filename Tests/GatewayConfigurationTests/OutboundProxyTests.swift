// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

@Suite("Outbound proxies") struct OutboundProxyTests {
    typealias Explicit = OutboundProxyConfiguration.ExplicitProxy

    private func proxy(_ json: String) -> (configuration: OutboundProxyConfiguration?, codes: [String]) {
        let result = load(document(options: "\"proxy\": \(json)"))
        return (result.http?.proxy, result.codes)
    }

    private func explicit(_ json: String) throws -> Explicit {
        let (configuration, codes) = self.proxy(json)
        guard case .explicit(let proxy) = try #require(configuration, "\(codes)") else {
            Issue.record("not explicit: \(codes)")
            throw NotExplicit()
        }
        return proxy
    }

    private struct NotExplicit: Error {}

    @Test(
        "S1 to S6: what decides is the url, then useEnv, then the environment",
        arguments: [
            ("S1", "false", "direct"), ("S2", #""http://p:1""#, "explicit"),
            ("S2", #"{"url": "http://p:1"}"#, "explicit"),
            ("S2", #"{"url": "http://p:1", "useEnv": false}"#, "explicit"),
            ("S3", #"{"url": "http://p:1", "useEnv": true}"#, "explicit+env"),
            ("S4", #"{"useEnv": true}"#, "environment"), ("S5", "null", "environment"), ("S5", "{}", "environment"),
            ("S5", #"{"url": null}"#, "environment"), ("S6", #"{"useEnv": false}"#, "direct"),
        ]
    )
    func sources(id: String, json: String, expected: String) throws {
        let (configuration, codes) = self.proxy(json)
        #expect(codes == [])
        switch try #require(configuration) {
        case .direct: #expect(expected == "direct")
        case .environment: #expect(expected == "environment")
        case .explicit(let proxy): #expect(expected == (proxy.usesEnvironmentNoProxy ? "explicit+env" : "explicit"))
        }
    }

    @Test("S7: a stdio server has no proxy of its own, and a warning if it asks for one")
    func stdio() {
        #expect(load(document(server: #""command": "c", "options": {"proxy": "http://p:1"}"#)).codes == ["no-effect"])
        #expect(
            load(document(server: #""command": "c""#, gateway: #", "options": {"proxy": "http://p:1"}"#)).codes == []
        )
    }

    @Test(
        "Type and scheme together name the kind of proxy",
        arguments: [
            ("http://h:1", nil, .http, []), ("https://h:1", nil, .https, []),
            ("socks5://h:1", nil, .socks5, ["proxy-local-dns"]),
            ("socks5h://h:1", nil, .socks5h, []), ("h:1", nil, .http, []), ("h:1", "https", .https, []),
            ("h:1", "socks5h", .socks5h, []),
            ("http://h:1", "http", .http, []),
            ("http://h:1080", "socks5", .socks5, ["proxy-local-dns", "proxy-type-overrides"]),
            ("socks5h://h:1", "socks5", .socks5h, []), ("socks5://h:1", "socks5h", .socks5h, []),
            ("https://h:1", "http", .http, ["proxy-type-overrides"]), ("HTTP://h:1", nil, .http, []),
            (" http://h:1\n", nil, .http, []),
            ("http://h", nil, .http, ["proxy-default-port"]), ("http://h:1/", nil, .http, []),
            ("http://h:1/x?y", nil, .http, ["proxy-path-ignored"]),
        ] as [(String, String?, Explicit.Kind, [String])]
    )
    func kinds(url: String, type: String?, kind: Explicit.Kind, codes: [String]) throws {
        let text = url.replacing("\n", with: "\\n")
        let json = "{\"url\": \"\(text)\"\(type.map { ", \"type\": \"\($0)\"" } ?? "")}"
        #expect(try self.explicit(json).kind == kind)
        #expect(self.proxy(json).codes == codes)
    }

    @Test(
        "Hosts and ports are read, with the port of the kind where none is written",
        arguments: [
            ("http://H.example", "h.example", 80), ("https://h", "h", 443), ("socks5h://h", "h", 1080),
            ("h:65535", "h", 65_535),
            ("http://[2001:db8::1]:3128", "2001:db8::1", 3128), ("u:p@h:1", "h", 1),
        ]
    )
    func hosts(url: String, host: String, port: Int) throws {
        let proxy = try self.explicit("\"\(url)\"")
        #expect(proxy.host == host)
        #expect(proxy.port == port)
        #expect(proxy.isIPv6Literal == host.contains(":"))
    }

    @Test(
        "User and password are decoded once, and a plus is a plus",
        arguments: [
            ("http://u:p@h:1", "u", "p"), ("http://u@h:1", "u", nil), ("http://u:@h:1", "u", ""),
            ("http://u:p@ss@h:1", "u", "p@ss"),
            ("http://u:p%40%2f%2525@h:1", "u", "p@/%25"), ("http://u:a:b@h:1", "u", "a:b"),
            ("http://u+x:p+y@h:1", "u+x", "p+y"),
            ("http://h:1", nil, nil),
        ] as [(String, String?, String?)]
    )
    func userInfo(url: String, user: String?, password: String?) throws {
        let proxy = try self.explicit("\"\(url)\"")
        #expect(proxy.username?.reveal() == user)
        #expect(proxy.password?.reveal() == password)
    }

    @Test("The auth object beats what stands in the url, with one warning")
    func authObject() throws {
        let json = #"{"url": "http://u:p@h:1", "auth": {"username": "x", "password": "y:z"}}"#
        let proxy = try self.explicit(json)
        #expect(proxy.username == Secret("x"))
        #expect(proxy.password == Secret("y:z"))
        #expect(self.proxy(json).codes == ["proxy-credentials-twice"])
        #expect(
            self.proxy(#"{"url": "http://h:1", "auth": {"username": "x", "password": ""}}"#).codes == [
                "proxy-empty-password"
            ]
        )
        #expect(self.proxy(#"{"url": "http://h:1", "auth": {"username": "x"}}"#).codes == [])
    }

    @Test("User and password for SOCKS are 255 bytes each and no more", arguments: [255, 256])
    func socksLengths(count: Int) {
        let text = String(repeating: "u", count: count)
        for members in [
            "\"username\": \"\(text)\", \"password\": \"p\"", "\"username\": \"u\", \"password\": \"\(text)\"",
        ] {
            let codes = self.proxy("{\"url\": \"socks5h://h:1\", \"auth\": {\(members)}}").codes
            #expect(codes == (count > 255 ? ["invalid-proxy"] : []))
            #expect(self.proxy("{\"url\": \"http://h:1\", \"auth\": {\(members)}}").codes == [])
        }
    }

    @Test("A colon in the user name is refused for HTTP, where Basic could not carry it, and not for SOCKS")
    func colonInUser() {
        #expect(self.proxy(#""http://a%3Ab:p@h:1""#).codes == ["invalid-proxy"])
        #expect(self.proxy(#""socks5h://a%3Ab:p@h:1""#).codes == [])
    }

    @Test("The rest of the object arrives, and has its defaults")
    func others() throws {
        let plain = try self.explicit(#""http://h:1""#)
        #expect(plain.noProxy.isEmpty && plain.tunnel == .auto && plain.tls == TLSClientConfiguration())
        let full = try self.explicit(
            #"{"url": "https://h:1", "noProxy": ["a.test", "b, 10.0.0.0/8"], "tunnel": "never", "tls": {"caFile": "ca.pem"}}"#
        )
        #expect(full.noProxy == ["a.test", "b", "10.0.0.0/8"])
        #expect(full.tunnel == .never)
        #expect(full.tls.caFile == "ca.pem")
        #expect(try self.explicit(#"{"url": "http://h:1", "noProxy": "a, b"}"#).noProxy == ["a", "b"])
    }

    @Test(
        "What means nothing beside the rest is said to have no effect",
        arguments: [
            #"{"useEnv": false, "type": "http"}"#, #"{"auth": {"username": "u"}}"#,
            #"{"url": "http://h:1", "tls": {}}"#,
            #"{"url": "socks5h://h:1", "tunnel": "never"}"#, #"{"noProxy": []}"#,
        ]
    )
    func noEffect(json: String) {
        #expect(self.proxy(json).codes == ["no-effect"])
    }

    @Test(
        "The environment's proxy for a server is found by the variables of credentials.md §3.2",
        arguments: [
            ("https", ["https_proxy": "p"], "https_proxy"),
            ("https", ["HTTPS_PROXY": "p", "https_proxy": " "], "HTTPS_PROXY"),
            ("https", ["HTTP_PROXY": "p", "http_proxy": "p"], nil), ("https", ["ALL_PROXY": "p"], "ALL_PROXY"),
            ("http", ["http_proxy": "p", "HTTP_PROXY": "q"], "http_proxy"), ("http", ["HTTP_PROXY": "p"], "HTTP_PROXY"),
            ("http", ["HTTP_PROXY": "p", "REQUEST_METHOD": "GET"], nil),
            ("http", ["http_proxy": "p", "REQUEST_METHOD": "GET"], "http_proxy"),
            ("http", ["HTTP_PROXY": "p", "REQUEST_METHOD": ""], "HTTP_PROXY"),
            ("http", ["all_proxy": "p", "https_proxy": "q"], "all_proxy"),
            ("http", ["http_proxy": "p", "NO_PROXY": "up.test"], nil),
            ("http", ["http_proxy": "p", "no_proxy": "*"], nil),
            ("http", ["http_proxy": "p", "no_proxy": "x.test", "NO_PROXY": "up.test"], "http_proxy"),
            ("http", ["http_proxy": "p", "no_proxy": ".test"], nil),
            ("http", ["http_proxy": "p", "no_proxy": "*.up.test"], "http_proxy"),
            ("http", ["http_proxy": "p", "no_proxy": "a up.test:80,b"], nil),
            ("http", ["http_proxy": "p", "no_proxy": "up.test:81"], "http_proxy"),
        ] as [(String, [String: String], String?)]
    )
    func environment(scheme: String, environment: [String: String], variable: String?) {
        let result = load(
            document(server: "\"url\": \"\(scheme)://up.test/\""),
            environment: environment,
            notBuiltYet: NotBuiltYet.current
        )
        #expect(result.snapshot != nil)
        #expect(result.codes == (variable == nil ? [] : ["environment-proxy-ignored"]))
        if let variable { #expect(result.findings.first?.message.contains("variable \(variable) ") == true) }
    }

    @Test("No warning of the environment's proxy for loopback, an explicit direct connection, or a disabled server")
    func environmentWithoutEffect() {
        for server in [
            #""url": "https://localhost/""#, #""url": "https://h/", "options": {"proxy": false}"#, #""command": "c""#,
            #""url": "https://h/", "options": {"disabled": true}"#,
        ] {
            let result = load(
                document(server: server),
                environment: ["https_proxy": "p"],
                notBuiltYet: [.outboundProxies]
            )
            #expect(result.codes == [])
        }
    }
}
