// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayConfiguration

@Suite("Secrets that a file spells out") struct LiteralSecretTests {
    @Test(
        "The first one is found, and named by its place",
        arguments: [
            (#""options": {"authTokens": ["${A}", "t"]}"#, "options.authTokens[1]"),
            (#""options": {"auth": {"tokens": ["t"]}}"#, "options.auth.tokens[0]"),
            (#""options": {"auth": {"tokens": ["${A:-t}"]}}"#, "options.auth.tokens[0]"),
            (#""headers": {"X-Plain": "yes", "Authorization": "Bearer abc"}"#, #"headers.Authorization"#),
            (#""headers": {"X-Other": "k3jf82hf9a8s7df6g5h4"}"#, "headers.X-Other"),
            (#""options": {"proxy": "http://user:pass@p:1"}"#, "options.proxy"),
            (
                #""options": {"proxy": {"url": "http://p:1", "auth": {"username": "u", "password": "p"}}}"#,
                "options.proxy.auth.password"
            ),
            (#""url": "https://h/?api_key=abc""#, "url"), (#""url": "https://h/k3jf82hf9a8s7df6g5h4/mcp""#, "url"),
            (#""env": {"API_KEY": "abc"}"#, "env.API_KEY"), (#""args": ["--token", "abc"]"#, "args[1]"),
            (#""args": ["--api-key=abc"]"#, "args[0]"), (#""oauth": {"clientSecret": "abc"}"#, "oauth.clientSecret"),
            (#""apiKey": "abc""#, "apiKey"),
        ]
    )
    func found(members: String, path: String) {
        #expect(load(document(server: members)).literalSecret?.path == "mcpServers.one.\(path)")
    }

    @Test(
        "Variables, and what is no secret, are none",
        arguments: [
            #""url": "https://h/mcp""#, #""url": "https://h/?version=2""#,
            #""url": "https://h/?k=${K}", "headers": {"Authorization": "Bearer ${T}", "X-A": "application/json"}"#,
            #""url": "https://h/", "options": {"authTokens": ["${A}", "$B"], "auth": {"tokens": ["${C}", ""]}}"#,
            #""url": "https://h/", "options": {"proxy": "http://p.test:3128"}"#,
            #""url": "https://h/", "options": {"proxy": "http://${U}:${P}@p.test:3128"}"#,
            #""url": "https://h/", "options": {"proxy": {"url": "p:1", "auth": {"username": "me", "password": "${P}"}}}"#,
            #""url": "https://h/", "options": {"toolFilter": {"mode": "block", "list": ["convert_mp3_to_wav_file_2"]}}"#,
            #""command": "npx", "args": ["-y", "@scope/server-name@1.2.3", "--verbose", "/srv/notes"]"#,
            #""command": "c", "env": {"LOG_LEVEL": "debug", "USE_AUTH": "true", "KEY_FILE": "/etc/x.key", "T": "${T}"}"#,
            #""url": "https://h/", "tls": {"caFile": "/etc/ca.pem", "keyFile": "/etc/key.pem", "certFile": "c"}"#,
        ]
    )
    func none(members: String) {
        let result = load(document(server: members))
        #expect(result.literalSecret == nil, "\(result.literalSecret?.path ?? "")")
    }
}
