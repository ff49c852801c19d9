// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

@Suite("URLs of outbound proxies") struct OutboundProxyURLTests {
    @Test(
        "A text for a proxy is shown without user and password, or not at all",
        arguments: [
            // The rows of credentials §3.5.
            ("http://u:p@h:1/x", "http://•••@h:1"), ("http://h:3128", "http://h:3128"),
            ("socks5h://user@h", "socks5h://•••@h"), ("u:p@h:1", "http://•••@h:1"),
            ("http://u:p@ss@h:1", "http://•••@h:1"), ("http://u:p/w@h:1", "http://•••@h:1"),
            ("http://u:p%40ss@h:1", "http://•••@h:1"), ("http://user:secret", "<invalid proxy URL>"),
            ("http://[::1", "<invalid proxy URL>"),
            ("http://u:p@[2001:db8::1]:3128", "http://•••@[2001:db8::1]:3128"),
            ("HTTP://U:P@H:8080", "http://•••@H:8080"), (" http://u:p@h:1 ", "http://•••@h:1"),
            ("http://u:p#x@h:1", "http://•••@h:1"), ("", "<invalid proxy URL>"),
            // What those rows do not say.
            ("h", "http://h"), ("https://h?x", "https://h"), ("http://u:p?x@h", "http://•••@h"),
            ("secret://h", "<invalid proxy URL>"), ("ftp://u:p@h", "<invalid proxy URL>"),
            ("http://u:p@h:0", "<invalid proxy URL>"), ("http://u:p@h:65536", "<invalid proxy URL>"),
            ("http://u:p@", "<invalid proxy URL>"), ("@", "<invalid proxy URL>"), ("http://", "<invalid proxy URL>"),
            ("http://u:p@h\u{1b}[1m", "<invalid proxy URL>"), ("http://u:p@ü", "<invalid proxy URL>"),
        ]
    )
    func redacted(text: String, expected: String) {
        #expect(OutboundProxyURL.redacted(text) == expected)
    }

    @Test("What is shown of a proxy that is understood is what is shown of its text, with its port")
    func agrees() throws {
        for text in ["http://u:p@h:1", "socks5h://user@h:2", "u:p@[2001:db8::1]:3", "https://h:4"] {
            #expect("\(try OutboundProxyURL(text))" == OutboundProxyURL.redacted(text))
            let result = load(document(options: "\"proxy\": \"\(text)\""))
            #expect(result.http?.outboundProxy?.description == OutboundProxyURL.redacted(text))
        }
    }

    @Test(
        "A finding that refuses a proxy names it without user and password",
        arguments: [
            ("http://u:CANARY/w@h:1", "http://•••@h:1: "), ("http://u:CANARY", "<invalid proxy URL>: "),
            ("http://CANARY%zz@h:1", "http://•••@h:1: "), ("CANARY://h", "<invalid proxy URL>: "),
        ]
    )
    func refused(text: String, beginning: String) throws {
        let result = load(document(options: "\"proxy\": \"\(text)\""))
        #expect(result.codes == ["invalid-proxy"])
        #expect(result.findings.first?.message.hasPrefix(beginning) == true)
        #expect(!"\(result)".contains("CANARY"))
    }

    @Test("Whatever prints the URL of a proxy shows neither user nor password")
    func secrets() throws {
        let url = try OutboundProxyURL("http://CANARY1:CANARY2@h:1")
        var text = "\(url) \(String(reflecting: url))"
        dump(url, to: &text)
        #expect(!text.contains("CANARY") && text.contains("http://•••@h:1"))
    }
}
