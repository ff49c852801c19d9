// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

@Suite("Outbound proxies") struct OutboundProxyTests {
    private func proxy(_ json: String) -> (configuration: OutboundProxyConfiguration?, codes: [String]) {
        let result = load(document(options: "\"proxy\": \(json)"))
        return (result.http?.proxy, result.codes)
    }

    private func explicit(_ json: String) throws -> OutboundProxy {
        let (configuration, codes) = self.proxy(json)
        guard case .explicit(let proxy, _) = try #require(configuration, "\(codes)") else {
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
        case .explicit(_, let exemptions):
            #expect(expected == (exemptions.includesEnvironment ? "explicit+env" : "explicit"))
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
        ] as [(String, String?, OutboundProxy.Kind, [String])]
    )
    func kinds(url: String, type: String?, kind: OutboundProxy.Kind, codes: [String]) throws {
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

    @Test(
        "A scheme that is none of ours is refused whatever the type says, and the accepted ones are listed",
        arguments: [
            ("ftp://h", "the scheme is not supported"), ("quic://h", "the scheme is not supported"),
            ("socks4://h", "SOCKS 4 is not supported"), ("socks4a://h", "SOCKS 4 is not supported"),
            ("socks://h", "SOCKS 4 is not supported"), ("pac+http://h/x.pac", "PAC files are not supported"),
        ]
    )
    func schemes(url: String, reason: String) {
        for type in ["", #", "type": "http""#, #", "type": "socks5h""#] {
            let result = load(document(options: "\"proxy\": {\"url\": \"\(url)\"\(type)}"))
            #expect(result.snapshot == nil && result.codes == ["invalid-proxy"])
            let message = result.findings.first?.message ?? ""
            #expect(message.contains(reason))
            #expect(message.contains("accepted are http://, https://, socks5:// and socks5h:// URLs, and host:port"))
        }
    }

    @Test(
        "A password with any character arrives as it is from its field, and percent-encoded from a URL",
        arguments: [
            (":", "%3A"), ("@", "%40"), ("%", "%25"), ("/", "%2F"), ("#", "%23"), ("?", "%3f"), ("+", "+"),
            (" ", "%20"),
            ("%41", "%2541"), ("pä示🦊", "p%C3%A4%E7%A4%BA%F0%9F%A6%8A"), ("a:b@c%d/e#f", "a:b@c%25d%2Fe%23f"),
        ]
    )
    func passwords(password: String, encoded: String) throws {
        let field = try self.explicit(
            "{\"url\": \"http://h:1\", \"auth\": {\"username\": \"u\", \"password\": \"\(password)\"}}"
        )
        #expect(field.password == Secret(password))
        #expect(try self.explicit("\"http://u:\(encoded)@h:1\"").password == Secret(password))
        let environment = ["ALL_PROXY": "http://u:\(encoded)@h:1"]
        let inherited = load(document(server: #""url": "https://up.test/""#), environment: environment)
        #expect(inherited.http?.outboundProxy?.password == Secret(password))
        #expect(inherited.http?.outboundProxy?.username == Secret("u"))
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
        #expect(plain.tunnel == .auto && plain.tls == TLSClientConfiguration())
        #expect(plain.setting == "mcpServers.one.options.proxy")
        let full = try self.explicit(#"{"url": "https://h:1", "tunnel": "never", "tls": {"caFile": "ca.pem"}}"#)
        #expect(full.tunnel == .never)
        #expect(full.tls.caFile == "ca.pem")
        #expect(full.setting == "mcpServers.one.options.proxy")
    }

    @Test(
        "The targets of noProxy are a list or a text, and an explicit proxy has none by itself",
        arguments: [
            (#""http://h:1""#, []), (#"{"url": "http://h:1"}"#, []),
            (#"{"url": "http://h:1", "noProxy": ["a.test", "b, 10.0.0.0/8"]}"#, ["a.test", "b", "10.0.0.0/8"]),
            (#"{"url": "http://h:1", "noProxy": "a, b"}"#, ["a", "b"]),
        ]
    )
    func exemptions(json: String, entries: [String]) throws {
        guard case .explicit(_, let exemptions) = try #require(self.proxy(json).configuration) else {
            Issue.record("not explicit")
            return
        }
        #expect(exemptions == OutboundProxyConfiguration.Exemptions(entries: entries))
    }

    @Test(
        "What means nothing beside the rest is said to have no effect",
        arguments: [
            #"{"useEnv": false, "type": "http"}"#, #"{"useEnv": true, "auth": {"username": "u"}}"#,
            #"{"url": "http://h:1", "tls": {}}"#,
            #"{"url": "socks5h://h:1", "tunnel": "never"}"#, #"{"noProxy": []}"#,
        ]
    )
    func noEffect(json: String) {
        #expect(self.proxy(json).codes == ["no-effect"])
    }

    @Test("An object without a url inherits none: it is refused, and says so, at a server and for all of them")
    func nameless() throws {
        let gateway = #", "options": {"proxy": "http://p:1"}"#
        let own = document(server: #""url": "https://h/", "options": {"proxy": {"type": "socks5h"}}"#, gateway: gateway)
        let result = load(own)
        let finding = try #require(result.findings.first)
        #expect(result.snapshot == nil && result.codes == ["missing-key"])
        #expect(finding.path == "mcpServers.one.options.proxy.url")
        #expect(finding.message.contains("past the proxy") && finding.message.contains("inherits nothing"))
        let inherited = #", "options": {"proxy": {"auth": {"username": "CANARY"}}}"#
        for server in [
            #""url": "https://h/""#, #""command": "c""#, #""url": "https://h/", "options": {"proxy": false}"#,
        ] {
            let result = load(document(server: server, gateway: inherited))
            #expect(result.snapshot == nil && result.findings.map(\.path) == ["mcpProxy.options.proxy.url"])
        }
    }
}
