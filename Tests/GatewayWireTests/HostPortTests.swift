// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Host and port") struct HostPortTests {
    @Test(
        "A host with or without a port is split",
        arguments: [
            ("localhost", "localhost", nil, false), ("LocalHost:9090", "localhost", 9090, false),
            ("a-b_c.d1", "a-b_c.d1", nil, false),
            ("127.0.0.1:80", "127.0.0.1", 80, false), ("a:0", "a", 0, false), ("a:65535", "a", 65535, false),
            ("a:00080", "a", 80, false),
            ("a.", "a.", nil, false), ("[::1]", "::1", nil, true), ("[::1]:443", "::1", 443, true),
            ("[2001:DB8::A]", "2001:db8::a", nil, true),
            ("[0:0:0:0:0:0:0:1]", "::1", nil, true), ("[::]", "::", nil, true),
            ("[::ffff:127.0.0.1]:1", "::ffff:7f00:1", 1, true),
            ("[1:0:0:2:0:0:0:3]", "1:0:0:2::3", nil, true), ("[1:0:0:2:3:0:0:4]", "1::2:3:0:0:4", nil, true),
            ("[1::]", "1::", nil, true),
            ("[1:2:3:4:5:6:7:8]", "1:2:3:4:5:6:7:8", nil, true), ("[1:2:3:0:5:6:7:8]", "1:2:3:0:5:6:7:8", nil, true),
            ("[1:2:3:4:5:6:1.2.3.4]", "1:2:3:4:5:6:102:304", nil, true), ("[0001:002::]", "1:2::", nil, true),
        ] as [(String, String, Int?, Bool)]
    )
    func parses(text: String, host: String, port: Int?, isIPv6Literal: Bool) throws {
        let parsed = try #require(HostPort(text))
        #expect(parsed == HostPort(host: host, port: port, isIPv6Literal: isIPv6Literal))
        let again = HostPort(parsed.authority)
        #expect(again == parsed)
    }

    @Test(
        "Anything that others could read as another host is refused",
        arguments: [
            "", ":", ":80", "a:", "a:65536", "a:99999", "a:000080", "a:+1", "a:-1", "a:8x", "a:80:80", "a:٨", "user@a",
            "a@b:80", "a b",
            " a", "a ", "a/b", "a?b", "a#b", "a\\b", "a%20b", "%61", "a,b", "a;b", "a*b", "*", "é", "a\u{0}", "a\n",
            "a..b", ".a", ".", "..",
            "[", "]", "[]", "[::1", "::1", "::1]", "[::1]a", "[::1].evil", "[::1]:", "[::1]:x", "[::1]80", "[[::1]]",
            "[:]", "[:::]", "[1:2:3]",
            "[1:2:3:4:5:6:7]", "[1:2:3:4:5:6:7:8:9]", "[1::2::3]", "[::1:]", "[:1::]", "[12345::]", "[g::]",
            "[fe80::1%lo]", "[fe80::1%25lo]",
            "[1.2.3.4]", "[::1.2.3]", "[::1.2.3.4.5]", "[::256.1.1.1]", "[::1.2.3.4:5]", "[1:2:3:4:5:6:7:1.2.3.4]",
            "[::01.2.3.0004]",
            "[1:2:3:4:5:6:7:8::]", "[::1:2:3:4:5:6:7:8]", "[v1.x]", "[::1 ]", "[::.2.3.4]", "[::1..3.4]",
        ]
    )
    func refuses(text: String) {
        #expect(HostPort(text) == nil)
    }

    @Test("A name of 255 bytes is accepted, one of 256 is not", arguments: [(254, true), (255, true), (256, false)])
    func length(count: Int, isAccepted: Bool) {
        let name = String(repeating: "a", count: count)
        #expect((HostPort(name) != nil) == isAccepted)
        #expect((HostPort(name + ":80") != nil) == isAccepted)
    }

    @Test(
        "Loopback names are those that can only mean this machine",
        arguments: [
            ("localhost", true), ("LOCALHOST:1", true), ("a.localhost", true), ("a.b.LocalHost", true),
            ("127.0.0.1", true),
            ("127.255.255.255", true), ("127.000.000.001", true), ("[::1]", true), ("[0::0001]", true),
            ("[::0.0.0.1]", true),
            ("localhost.", false), ("localhost.evil", false), ("evillocalhost", false), ("127.0.0.1.evil", false),
            ("127.1", false),
            ("128.0.0.1", false), ("0.0.0.0", false), ("127.0.0.256", false), ("127.0.0.0001", false),
            ("127.0.0.1.", false), ("[::]", false),
            ("[::2]", false), ("[::ffff:127.0.0.1]", false), ("[1::1]", false), ("2130706433", false),
            ("0x7f.0.0.1", false), ("127", false),
        ]
    )
    func loopback(text: String, expected: Bool) throws {
        let parsed = try #require(HostPort(text))
        #expect(parsed.isLoopbackName == expected)
    }

    @Test(
        "A value that was not parsed is still only compared",
        arguments: ["", ".", ".localhost", "::1", "127...", "٣", "127.0.0.+1", "1.2.3.4.5.6.7.8.9"]
    )
    func unparsed(host: String) {
        for isIPv6Literal in [true, false] {
            let value = HostPort(host: host, port: nil, isIPv6Literal: isIPv6Literal)
            #expect(value.isLoopbackName == (host == "::1" && isIPv6Literal))
        }
    }

    @Test("The layout points into the bytes that were given")
    func layout() throws {
        let bytes = latin1("[::1]:80")
        let found = HostPort.Layout(bytes.span)
        let layout = try #require(found)
        #expect(layout.host == 1..<4)
        #expect(layout.port == 80)
        #expect(layout.isIPv6Literal)
    }
}
