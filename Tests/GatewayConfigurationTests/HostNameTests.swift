// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire
import Testing

@testable import GatewayConfiguration

@Suite("Names of hosts outside ASCII") struct HostNameTests {
    @Test(
        "A label is encoded as in the samples of RFC 3492 §7.1",
        arguments: [
            (
                "(A) Arabic",
                "\u{644}\u{64a}\u{647}\u{645}\u{627}\u{628}\u{62a}\u{643}\u{644}\u{645}\u{648}\u{634}\u{639}\u{631}\u{628}\u{64a}\u{61f}",
                "egbpdaj6bu4bxfgehfvwxn"
            ),
            (
                "(B) Chinese, simplified",
                "\u{4ed6}\u{4eec}\u{4e3a}\u{4ec0}\u{4e48}\u{4e0d}\u{8bf4}\u{4e2d}\u{6587}",
                "ihqwcrb4cv8a8dqg056pqjye"
            ),
            (
                "(C) Chinese, traditional",
                "\u{4ed6}\u{5011}\u{7232}\u{4ec0}\u{9ebd}\u{4e0d}\u{8aaa}\u{4e2d}\u{6587}",
                "ihqwctvzc91f659drss3x8bo0yb"
            ),
            (
                "(D) Czech",
                "Pro\u{10d}prost\u{11b}nemluv\u{ed}\u{10d}esky",
                "Proprostnemluvesky-uyb24dma41a"
            ),
            (
                "(L) Japanese, with digits",
                "3\u{5e74}B\u{7d44}\u{91d1}\u{516b}\u{5148}\u{751f}",
                "3B-ww4c5e180e575a65lsy2b"
            ),
            (
                "(M) Japanese, with words",
                "\u{5b89}\u{5ba4}\u{5948}\u{7f8e}\u{6075}-with-SUPER-MONKEYS",
                "-with-SUPER-MONKEYS-pc58ag80a8qai00g7n9n"
            ),
            ("(R) Japanese", "\u{305d}\u{306e}\u{30b9}\u{30d4}\u{30fc}\u{30c9}\u{3067}", "d9juau41awczczp"),
            ("(S) ASCII", "-> $1.00 <-", "-> $1.00 <--"),
        ]
    )
    func punycode(name: String, label: String, encoded: String) {
        #expect(Punycode.encode(label) == encoded)
    }

    @Test(
        "A name becomes ASCII label by label, in lower case where a label is not ASCII",
        arguments: [
            ("example.com", "example.com"), ("Example.COM.", "Example.COM."), ("示例.com", "xn--fsq092h.com"),
            ("www.示例.com", "www.xn--fsq092h.com"), ("BÜCHER.example", "xn--bcher-kva.example"),
            ("bücher.Example", "xn--bcher-kva.Example"), ("straße.de", "xn--strae-oqa.de"),
            ("βόλος.com", "xn--nxasmm1c.com"), ("пример.испытание", "xn--e1afmkfd.xn--80akhbyknj4f"),
            ("उदाहरण.परीक्षा", "xn--p1b6ci4b4b3a.xn--11b5bs3a9aj6g"), ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
            ("\u{212a}.example", "k.example"),
        ]
    )
    func ascii(name: String, expected: String) {
        #expect(HostName.ascii(name) == expected)
    }

    @Test(
        "A label with what IDNA would map, or does not admit, is not guessed at",
        arguments: [
            "ｆull.example", "full。example", "fox🦊.example", "a\u{200d}b.example", "a\u{ad}ä.example", "ﬁne.example",
            "①.example",
            "ä\u{fe0f}.example", "¼.example", "ä\u{a0}.example", "ä\u{e000}.example",
            "ä" + String(repeating: "a", count: 60) + ".example",
        ]
    )
    func refused(name: String) {
        #expect(HostName.ascii(name) == nil)
        #expect(HTTPURL(written: "https://\(name)/") == nil)
        let result = load(document(server: "\"url\": \"https://\(name)/\""))
        #expect(result.codes == ["invalid-url"])
        #expect(result.findings.first?.message.contains("xn--") == true)
    }

    @Test(
        "A URL is read with such a host, and only the host may be such",
        arguments: [
            ("http://www.示例.com/", "http://www.xn--fsq092h.com"), ("https://示例:8443", "https://xn--fsq092h:8443"),
            ("https://u@示例/x?y#z", "https://xn--fsq092h"), ("HTTPS://ÜBER.example?q", "https://xn--ber-goa.example"),
            ("https://example.com/", "https://example.com"), ("https://[::1]:1/", "https://[::1]:1"),
            ("https://示例.com/示例", nil), ("https://例@h/", nil), ("示例.com", nil), ("https:示例.com", nil),
            ("https://示例:0/", nil),
            ("https://示 例/", nil), ("ftp://示例/", nil), ("https://[示]/", nil), ("http://示例:例/", nil), ("例://h", nil),
            ("示", nil),
        ] as [(String, String?)]
    )
    func urls(text: String, origin: String?) {
        #expect(HTTPURL(written: text)?.origin.description == origin)
    }

    @Test("A server's url has such a host, and is reached by the ASCII form of it")
    func server() {
        let result = load(document(server: #""url": "https://www.示例.com/mcp""#))
        #expect(result.codes == [])
        #expect(result.http?.url == HTTPURL("https://www.xn--fsq092h.com/mcp"))
    }
}
