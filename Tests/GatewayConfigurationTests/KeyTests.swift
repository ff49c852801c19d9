// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

@Suite("Keys") struct KeyTests {
    @Test(
        "An unknown key is a warning with the key that was meant",
        arguments: [
            ("transportTyp", "transportType"), ("header", "headers"), ("type", "transportType"), ("URI", "url"),
            ("uri", "url"), ("authTokens", "options.authTokens"), ("toolfilter", "options.toolFilter"),
            ("caFile", "tls.caFile"), ("something", nil), ("opitons", "options"),
        ] as [(String, String?)]
    )
    func unknown(key: String, meant: String?) throws {
        let result = load(document(server: "\"url\": \"https://h/\", \"\(key)\": null"))
        let finding = try #require(result.findings.first)
        #expect(result.snapshot != nil)
        #expect(finding.code == .unknownKey)
        #expect(finding.path == "mcpServers.one.\(key)")
        #expect(finding.suggestion == meant.map { "\"\($0)\"" })
    }

    @Test("A key in other letters is read, as the Go program does, with a warning")
    func letterCase() throws {
        let result = load(document(server: #""url": "https://h/", "options": {"Disabled": true, "AUTHTOKENS": ["t"]}"#))
        let one = try #require(result.snapshot?.upstreams.first)
        #expect(one.isDisabled)
        #expect(one.inboundTokens == [Secret("t")])
        #expect(result.codes == ["key-case", "key-case"])
    }

    @Test("A key in two cases is a duplicate")
    func letterCaseTwice() {
        let result = load(document(options: #""authTokens": ["t"], "AuthTokens": []"#))
        #expect(result.snapshot == nil)
        #expect(result.codes == ["authtokens-sent-upstream", "key-case", "duplicate-key"])
    }

    @Test("Null is as absent")
    func null() throws {
        let result = load(
            document(
                server: #"""
                    "url": "https://h/", "command": null, "headers": null, "timeout": null, "tls": null, "oauth": null,
                    "options": {"auth": null, "proxy": null, "authTokens": null, "isolation": null, "toolFilter": null}
                    """#,
                gateway: #", "options": {"authTokens": ["t"]}, "type": null, "limits": null"#
            )
        )
        #expect(result.codes == [])
        let one = try #require(result.snapshot?.upstreams.first)
        #expect(one.inboundTokens == [Secret("t")])
        #expect(one.toolFilter == nil)
    }

    @Test(
        "The distance of two words counts insertions, deletions, replacements and swaps",
        arguments: [
            ("", "", 0), ("a", "", 1), ("abc", "abc", 0), ("abc", "acb", 1), ("kitten", "sitting", 3), ("ab", "ba", 1),
        ]
    )
    func distance(one: String, other: String, expected: Int) {
        #expect(NearestText.distance(Array(one.utf8), Array(other.utf8)) == expected)
        #expect(NearestText.distance(Array(other.utf8), Array(one.utf8)) == expected)
    }

    @Test("A million mistakes give a thousand findings of a severity, and still no snapshot")
    func bounded() {
        let unknown = (0..<3_000).map { "\"k\($0)\": 1" }.joined(separator: ",")
        let result = load(document(server: "\"url\": 1, \(unknown)"))
        #expect(result.findings.count(where: { $0.severity == .warning }) == FindingList.limit)
        #expect(result.snapshot == nil)
    }

    @Test("Findings come in the order of the document")
    func order() {
        let result = load(document(server: #""b": 1, "url": 2, "a": 3"#))
        #expect(result.findings.map(\.column) == result.findings.map(\.column).sorted())
        #expect(result.codes == ["unknown-key", "wrong-type", "unknown-key"])
    }
}
