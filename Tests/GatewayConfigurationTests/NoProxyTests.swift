// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire
import Testing

@testable import GatewayConfiguration

@Suite("Targets without an outbound proxy") struct NoProxyTests {
    /// The rows of credentials §3.3: NO_PROXY, a target, and whether the connection is direct.
    static let rows: [(row: Int, list: String, url: String, isDirect: Bool)] = [
        (1, "example.com", "http://example.com/", true),
        (2, "example.com", "http://www.example.com/", true),
        (3, "example.com", "http://notexample.com/", false),
        (4, ".example.com", "http://example.com/", true),
        (5, ".example.com", "http://www.example.com/", true),
        (6, "*.example.com", "http://example.com/", false),
        (7, "*.example.com", "http://www.example.com/", true),
        (8, "*example.com", "http://www.example.com/", false),
        (9, "*", "http://anything.test/", true),
        (10, "foo.com,*", "http://anything.test/", true),
        (11, "EXAMPLE.com", "http://Example.COM/", true),
        (12, "example.com.", "http://example.com/", true),
        (13, "example.com", "http://example.com./", true),
        (14, "foo.com bar.com", "http://bar.com/", true),
        (15, " foo.com , bar.com ", "http://bar.com/", true),
        (16, "foo.com,,,bar.com", "http://bar.com/", true),
        (17, "example.com:8080", "http://example.com:8080/", true),
        (18, "example.com:8080", "http://example.com/", false),
        (19, "example.com:80", "http://example.com/", true),
        (20, "example.com:443", "https://example.com/", true),
        (21, "example.com:443", "http://example.com/", false),
        (22, "192.168.0.0/16", "http://192.168.1.1/", true),
        (23, "192.168.0.0/16", "http://192.169.1.1/", false),
        (24, "192.168.0.1/16", "http://192.168.200.7:9000/", true),
        (25, "0.0.0.0/0", "http://8.8.8.8/", true),
        (26, "192.168.0.0/33", "http://192.168.0.1/", false),
        (27, "192.168.1.1", "http://192.168.1.1:8080/", true),
        (28, "192.168.1.1:8080", "http://192.168.1.1:8080/", true),
        (29, "192.168.1.", "http://192.168.1.1/", false),
        (30, "192.168", "http://192.168.1.1/", false),
        (31, "2001:db8::/32", "http://[2001:db8:1::5]/", true),
        (32, "2001:db8::1", "https://[2001:db8::1]/", true),
        (33, "[2001:db8::1]", "https://[2001:db8::1]/", true),
        (34, "[2001:db8::1]:443", "https://[2001:db8::1]/", true),
        (35, "", "http://localhost:3000/", true),
        (36, "", "http://127.0.0.1:3000/", true),
        (37, "", "http://127.8.9.1/", true),
        (38, "", "http://[::1]:3000/", true),
        (39, "localhost", "http://foo.localhost/", true),
        (40, "127.0.0.1", "http://localhost/", true),
        (41, "::ffff:10.0.0.1", "http://10.0.0.1/", true),
        (42, "10.0.0.1", "http://[::ffff:10.0.0.1]/", true),
        (43, "示例.com", "http://www.xn--fsq092h.com/", true),
        (44, "xn--fsq092h.com", "http://www.示例.com/", true),
        (45, "http://example.com", "http://example.com/", false),
        (46, "com", "http://example.com/", true),
        (47, ".", "http://example.com/", false),
        (48, ":80", "http://example.com/", false),
        (49, "10.0.0.0/8", "http://10.0.0.5.nip.test/", false),
        (50, "127.0.0.1", "http://2130706433/", true),
    ]

    private func selection(_ url: String, _ environment: [String: String]) throws -> OutboundProxySelection {
        let target = try #require(HTTPURL(written: url)).origin
        return OutboundProxySelection(.environment, to: target, environment: environment)
    }

    @Test(
        "NO_PROXY means what most programs take it for, with a proxy of the environment elsewhere",
        arguments: Self.rows
    )
    func table(row: Int, list: String, url: String, isDirect: Bool) throws {
        let environment = ["ALL_PROXY": "http://proxy.corp:3128", "NO_PROXY": list]
        #expect(try (self.selection(url, environment).proxy == nil) == isDirect, "row \(row)")
    }

    @Test("All fifty rows are in the table")
    func complete() {
        #expect(Self.rows.map(\.row) == Array(1...50))
    }

    @Test("A list in the options means the same as one in the environment, except that loopback is nothing special")
    func option() throws {
        let proxy = OutboundProxy(kind: .http, host: "proxy.corp", port: 3128, setting: "x")
        for row in Self.rows where !(35...38).contains(row.row) && row.row != 40 {
            let selection = OutboundProxySelection(
                .explicit(proxy, OutboundProxyConfiguration.Exemptions(entries: [row.list])),
                to: try #require(HTTPURL(written: row.url)).origin,
                environment: ["NO_PROXY": "*", "ALL_PROXY": "http://other"]
            )
            // Row 50 is an address of loopback that the list names.
            #expect((selection.proxy == nil) == row.isDirect, "row \(row.row)")
        }
    }

    @Test(
        "A target on this machine goes through a proxy of the environment only if that is on this machine, too",
        arguments: [
            "http://localhost:3000/", "http://127.0.0.1:3000/", "http://127.8.9.1/", "http://[::1]:3000/",
            "https://a.localhost/", "http://localhost./", "http://2130706433/", "http://0x7f.1/",
            "http://[::ffff:127.0.0.1]/",
        ]
    )
    func loopback(url: String) throws {
        for proxy in ["proxy.corp:3128", "10.0.0.1", "[2001:db8::1]:1", "socks5h://localhost.corp"] {
            let selection = try self.selection(url, ["ALL_PROXY": proxy])
            guard case .direct(.loopback(variable: "ALL_PROXY")) = selection.outcome else {
                Issue.record("\(proxy): \(selection.outcome)")
                continue
            }
        }
        for proxy in [
            "localhost:3128", "127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "socks5h://a.localhost", "0x7f000001:1",
        ] {
            #expect(try self.selection(url, ["ALL_PROXY": proxy]).proxy != nil, "\(proxy)")
            #expect(try self.selection(url, ["ALL_PROXY": proxy, "NO_PROXY": "*"]).proxy == nil)
        }
    }

    @Test("A proxy that the configuration names is used for a target on this machine")
    func explicitForLoopback() throws {
        let proxy = OutboundProxy(kind: .http, host: "proxy.corp", port: 3128, setting: "x")
        let selection = OutboundProxySelection(
            .explicit(proxy, OutboundProxyConfiguration.Exemptions()),
            to: try #require(HTTPURL("http://localhost:3000/")).origin,
            environment: ["NO_PROXY": "*"]
        )
        #expect(selection.proxy == proxy)
    }

    @Test("A target is matched by the first entry that means it, whose number and text are told")
    func rule() throws {
        let environment = ["https_proxy": "p:1", "no_proxy": " ,a.test,,\t10.0.0.0/8 b.test\n"]
        let selection = try self.selection("https://x.b.test/", environment)
        guard case .direct(let rule) = selection.outcome else {
            Issue.record("\(selection.outcome)")
            return
        }
        #expect(rule == .noProxy(.variable("no_proxy"), number: 3, text: "b.test"))
        #expect("\(rule)" == "no_proxy entry 3 (b.test)")
    }

    @Test(
        "An entry that cannot be used matches nothing, and is told as it is written",
        arguments: [
            "192.168.", "192.168.1", "192.168.0.0/33", "2001:db8::/129", "10.0.0.0/", "/8", "10.0.0.0/+8", "http://x",
            "*foo", "a*b", "*.", ".", "..", ":80", "x:", "x:0", "x:65536", "x:y", "[::1", "[::1]x", "[10.0.0.1]",
            "::1%eth0", ".1.2.3.4", "01.2.3.4", "1.2.3.4.5", "x_y!z", "*:80", "ｆull.test", "a..b",
        ]
    )
    func unusable(entry: String) throws {
        #expect(NoProxyList(entry).entries.map(\.pattern) == [nil])
        let selection = try self.selection("http://up.test/", ["ALL_PROXY": "p:1", "NO_PROXY": "a.test,\(entry)"])
        #expect(selection.proxy != nil)
        #expect(selection.notices == [.unusableEntry(.variable("NO_PROXY"), number: 2, text: entry)])
    }

    @Test("An entry is shown without a login that got into it, and without what would disturb a terminal")
    func shown() throws {
        let list = "http://u:CANARY@h,\u{1b}[31m,\(String(repeating: "!", count: 65))"
        let selection = try self.selection("http://up.test/", ["ALL_PROXY": "p:1", "NO_PROXY": list])
        #expect(
            selection.notices.map(\.description.first) == ["N", "N", "N"]
                && !"\(selection.notices)".contains("CANARY")
        )
        #expect(NoProxyList.shown("http://u:CANARY@h") == "•••@h")
        #expect(NoProxyList.shown("\u{1b}[31m") == "\\u{1b}[31m")
        #expect(NoProxyList.shown(String(repeating: "!", count: 65)) == String(repeating: "!", count: 64) + "…")
    }

    @Test(
        "Blocks of addresses match by their bits, whatever the spelling of the address",
        arguments: [
            ("10.0.0.0/8", "http://10.255.255.255/", true), ("10.0.0.0/8", "http://11.0.0.0/", false),
            ("10.0.0.1/32", "http://10.0.0.1/", true), ("10.0.0.1/32", "http://10.0.0.2/", false),
            ("10.0.0.1/31", "http://10.0.0.0/", true), ("0.0.0.0/0", "http://[2001:db8::1]/", false),
            ("::/0", "http://[2001:db8::1]/", true), ("::/0", "http://8.8.8.8/", false),
            ("2001:db8::1/128", "http://[2001:DB8:0::1]/", true), ("2001:db8::1/127", "http://[2001:db8::]/", true),
            ("2001:db8::1/127", "http://[2001:db8::2]/", false), ("::ffff:10.0.0.0/104", "http://10.1.2.3/", true),
            ("::ffff:10.0.0.0/104", "http://11.1.2.3/", false), ("::ffff:0:0/95", "http://10.1.2.3/", false),
            ("10.0.0.0/8", "http://[::ffff:10.1.2.3]/", true), ("10.0.0.0/8", "http://ten.test/", false),
            ("10.0.0.8", "http://012.8/", true), ("10.0.0.8", "http://0xa.0.8/", true),
            ("10.0.0.8", "http://10.0.0.8./", true),
        ]
    )
    func blocks(list: String, url: String, isDirect: Bool) throws {
        let environment = ["ALL_PROXY": "http://proxy.corp:3128", "NO_PROXY": list]
        #expect(try (self.selection(url, environment).proxy == nil) == isDirect)
    }

    @Test("Any bytes are a list and an environment, and select something")
    func randomBytes() throws {
        var generator = SystemRandomNumberGenerator()
        let targets = try [
            "http://a.test/", "https://10.0.0.1/", "https://[2001:db8::1]:8443/", "http://localhost/",
        ]
        .map { try #require(HTTPURL($0)).origin }
        // Half of the bytes are of those that mean something.
        let meaning = Array("*.:/[],@%#?- 0123456789abcdefxhtps".utf8)
        for _ in 0..<3_000 {
            let texts = (0..<3)
                .map { _ in
                    let bytes = (0..<Int.random(in: 0...24, using: &generator))
                        .map { _ in
                            Bool.random(using: &generator)
                                ? UInt8.random(in: 0...255, using: &generator)
                                : meaning.randomElement(using: &generator) ?? 0
                        }
                    return String(decoding: bytes, as: UTF8.self)
                }
            let list = NoProxyList(texts[0])
            if list.entries.map(\.number) != Array(1..<(list.entries.count + 1)) { Issue.record("\(texts[0])") }
            for target in targets {
                let environment = ["NO_PROXY": texts[0], "ALL_PROXY": texts[1], "http_proxy": texts[2]]
                let selection = OutboundProxySelection(.environment, to: target, environment: environment)
                let isOne =
                    switch selection.outcome {
                    case .proxy(let proxy, _): (1...65_535).contains(proxy.port) && !proxy.host.isEmpty
                    case .direct, .unusable: selection.proxy == nil
                    }
                if !isOne { Issue.record("\(environment)") }
            }
            _ = OutboundProxyURL.redacted(texts[1])
            _ = HTTPURL(written: "http://\(texts[2])/")
        }
    }
}
