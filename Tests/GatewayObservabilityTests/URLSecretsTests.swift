// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayObservability

@Suite("Secrets in URLs") struct URLSecretsTests {
    @Test(
        "User information and query values of a URL are masked, the rest is kept",
        arguments: [
            ("http://host/path", "http://host/path"),
            ("http://user:pass@host/path", "http://•••@host/path"),
            ("dial http://user@host failed", "dial http://•••@host failed"),
            ("socks5h://u:p@127.0.0.1:1080", "socks5h://•••@127.0.0.1:1080"),
            ("http://a@b:c@host", "http://•••@host"),
            ("http://@host", "http://@host"),
            ("http://host/a@b", "http://host/a@b"),
            ("https://h/?a=1&b=2", "https://h/?a=•••&b=•••"),
            ("https://h/?a=1;b=2#x", "https://h/?a=•••;b=•••#x"),
            ("https://h/?a=&b=2", "https://h/?a=&b=•••"),
            ("https://h/?a=b=c", "https://h/?a=•••"),
            ("https://h?bare", "https://h?•••"),
            ("https://h/?", "https://h/?"),
            ("https://h/#access_token=1&state=2", "https://h/#access_token=•••&state=2"),
            ("https://h/?a=1#id_token=2", "https://h/?a=•••#id_token=•••"),
            ("https://h/?u=http://x:y@z/", "https://h/?u=•••"),
            ("\"https://h/?a=1\", next", "\"https://h/?a=•••\", next"),
            ("<https://h/?a=1>", "<https://h/?a=•••>"),
            ("two http://a:b@c and http://d:e@f", "two http://•••@c and http://•••@f"),
            ("://a:b@c", "://a:b@c"),
            ("no url: //a@b", "no url: //a@b"),
        ]
    )
    func absolute(text: String, expected: String) {
        #expect(Redactor([]).redacted(text) == expected)
    }

    @Test(
        "In a relative reference a value is masked if its name looks secret",
        arguments: [
            ("GET /x?access_token=abc&page=2 HTTP/1.1", "GET /x?access_token=•••&page=2 HTTP/1.1"),
            ("/x?API-KEY=abc", "/x?API-KEY=•••"), ("/x?sig=abc", "/x?sig=•••"), ("/x?code=abc", "/x?code=•••"),
            ("/x?client_secret=a&Password=b", "/x?client_secret=•••&Password=•••"),
            ("/message?sessionId=0123", "/message?sessionId=•••"), ("/x?page=2", "/x?page=2"),
            ("what? key=value", "what? key=value"), ("a=1&token=2", "a=1&token=•••"), ("really?", "really?"),
            ("tokens & keys", "tokens & keys"),
        ]
    )
    func relative(text: String, expected: String) {
        #expect(Redactor([]).redacted(text) == expected)
    }
}
