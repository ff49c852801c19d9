// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

@Suite("No secret leaves the reader") struct CanaryTests {
    /// A configuration with a canary in every place that holds a secret.
    static let canaries = #"""
        {
          "mcpProxy": {"baseURL": "http://localhost", "addr": ":1", "name": "n", "version": "1",
            "options": {"authTokens": ["CANARY7f3a-inherited", "CANARY7f3a-inherited"], "proxy": "http://CANARY7f3a-user1:CANARY7f3a-pass1@p:1"}},
          "mcpServers": {
            "a": {"url": "https://h/x?key=CANARY7f3a-query&q=CANARY7f3a%2Dcoded", "headers": {"X-A": "CANARY7f3a-header", "Authorization": "Bearer CANARY7f3a-bearer"},
              "options": {"authTokens": ["CANARY7f3a-own", " CANARY7f3a-own2\n"]}},
            "b": {"url": "https://h/", "options": {"auth": {"tokens": ["CANARY7f3a-token0", "", "Bearer CANARY7f3a-token1", "CANARY7f3a-token0"]},
              "proxy": {"url": "socks5://CANARY7f3a-user2:CANARY7f3a-pass2@p:1", "auth": {"username": "CANARY7f3a-user3", "password": "CANARY7f3a-pass3"}}}},
            "c": {"command": "x", "args": ["https://CANARY7f3a-user4:CANARY7f3a-pass4@h/?t=CANARY7f3a-arg"], "env": {"K": "CANARY7f3a-env", "U": "postgres://CANARY7f3a-user5:CANARY7f3a-pass5@h/db"}}
          }
        }
        """#

    /// Everything that a load gives to be shown, in every way that Swift can show it.
    private func shown(_ result: LoadResult) -> String {
        var text = result.findings.map { $0.rendered(sourceName: result.sourceName) }.joined(separator: "\n")
        if let snapshot = result.understood {
            text += ConfigurationSummary(snapshot, environment: [:]).text
            dump(snapshot, to: &text)
            text += "\(snapshot)" + String(reflecting: snapshot)
            for upstream in snapshot.upstreams {
                if case .http(let http) = upstream.transport { text += "\(http)" + String(reflecting: http) }
            }
        }
        text += "\(result)"
        return text
    }

    @Test("A configuration full of canaries shows none of them in findings, summary or description")
    func sound() {
        // Arguments of a child are no secrets to the model: they are on its command line.
        let text = Self.canaries.replacing(
            #""args": ["https://CANARY7f3a-user4:CANARY7f3a-pass4@h/?t=CANARY7f3a-arg"], "#,
            with: ""
        )
        let result = load(text)
        #expect(result.understood?.upstreams.count == 3)
        #expect(!self.shown(result).contains("CANARY"))
    }

    @Test("Arguments of a child are not in the summary")
    func arguments() throws {
        let snapshot = try #require(load(Self.canaries).snapshot)
        #expect(!ConfigurationSummary(snapshot, environment: [:]).text.contains("CANARY"))
    }

    @Test(
        "A secret that makes a mistake is not shown by the finding about it",
        arguments: [
            #""url": "https://CANARY-u:CANARY-p@h/""#, #""url": "CANARY-url""#,
            #""url": "https://h/", "headers": {"X": "CANARY\n1"}"#,
            #""url": "https://h/", "headers": {"X": ["CANARY"]}"#, #""url": "https://h/", "headers": "CANARY""#,
            #""url": "https://h/", "timeout": "CANARY""#, #""url": "https://h/", "protocol": "CANARY-1""#,
            #""url": "https://h/", "transportType": "CANARY-1""#, #""url": "https://h/", "tls": "CANARY""#,
            #""url": "https://h/", "options": {"authTokens": "CANARY"}"#,
            #""url": "https://h/", "options": {"authTokens": ["CANARY\u0001"]}"#,
            #""url": "https://h/", "options": {"authTokens": ["CANARY\r\nX: y", " CANARY"]}"#,
            #""url": "https://h/", "options": {"auth": {"tokens": ["CANARYä", "Bearer CANARY", " CANARY", "CANARY", "CANARY"]}}"#,
            #""url": "https://h/", "options": {"auth": {"tokens": "CANARY"}}"#,
            #""url": "https://h/", "options": {"auth": {"rotationMode": "CANARY-1"}}"#,
            #""url": "https://h/", "options": {"proxy": "CANARY-u:CANARY-p"}"#,
            #""url": "https://h/", "options": {"proxy": "CANARY://h"}"#,
            #""url": "https://h/", "options": {"proxy": "http://CANARY:1/CANARY@h"}"#,
            #""url": "https://h/", "options": {"proxy": {"url": "http://CANARY%zz@h"}}"#,
            #""url": "https://h/", "options": {"proxy": {"url": "http://h:1", "auth": {"username": "CANARY:x", "password": "CANARY"}}}"#,
            #""url": "https://h/", "options": {"proxy": {"url": "http://h:1", "type": "CANARY-1"}}"#,
            #""url": "https://h/", "options": {"proxy": ["CANARY"]}"#,
            #""url": "https://h/", "options": {"toolFilter": {"mode": "CANARY-1"}}"#,
            #""command": "c", "env": {"A": "CANARY\u0000"}"#,
            #""command": "c", "env": ["CANARY"]"#, #""command": "c", "args": ["CANARY\u0000"]"#,
            #""command": "c", "inheritEnv": ["CANARY*x"]"#,
            #""url": "${CANARY x}""#, #""url": "${A:-${CANARY}}""#,
        ]
    )
    func broken(server: String) {
        let result = load(document(server: server))
        #expect(!result.findings.isEmpty)
        let findings = result.findings.map { $0.rendered(sourceName: "c") }.joined()
        #expect(!findings.contains("CANARY"))
    }

    @Test("The same configuration, cut off anywhere, shows nothing of what is in it")
    func cut() {
        let bytes = Array(Self.canaries.utf8)
        for count in stride(from: 0, to: bytes.count, by: 7) {
            let result = ConfigurationLoader.load(bytes: Array(bytes.prefix(count)), sourceName: "c", environment: [:])
            #expect(result.snapshot == nil)
            #expect(!"\(result.findings)".contains("CANARY"))
        }
    }
}
