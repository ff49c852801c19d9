// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

/// A setting, the feature it needs, and the path that the finding names.
struct NotBuiltYetRow: Sendable, CustomTestStringConvertible {
    var feature: NotBuiltYet
    var server: String
    var path: String

    var testDescription: String { self.path }
}

@Suite("What is not built yet") struct NotBuiltYetTests {
    static let rows: [NotBuiltYetRow] = [
        NotBuiltYetRow(
            feature: .outboundProxies,
            server: #""url": "https://h/", "options": {DISABLED"proxy": "http://p:1"}"#,
            path: "options.proxy"
        ),
        NotBuiltYetRow(
            feature: .outboundProxies,
            server: #""url": "https://h/", "options": {DISABLED"proxy": {"url": "http://p:1"}}"#,
            path: "options.proxy"
        ),
        NotBuiltYetRow(
            feature: .outboundProxies,
            server: #""url": "https://h/", "options": {DISABLED"proxy": {"useEnv": true}}"#,
            path: "options.proxy.useEnv"
        ),
    ]

    private func load(_ row: NotBuiltYetRow, isDisabled: Bool = false, notBuiltYet: Set<NotBuiltYet>) -> LoadResult {
        let server = row.server.replacing("DISABLED", with: isDisabled ? #""disabled": true, "# : "")
        return GatewayConfigurationTests.load(document(server: server), notBuiltYet: notBuiltYet)
    }

    @Test("A valid setting that nothing carries out is a start-up error that names its path", arguments: Self.rows)
    func refused(row: NotBuiltYetRow) throws {
        let result = self.load(row, notBuiltYet: NotBuiltYet.current)
        #expect(result.snapshot == nil)
        #expect(result.understood?.upstreams.count == 1)
        let error = try #require(result.findings.first { $0.severity == .error })
        #expect(error.code == .notBuiltYet)
        #expect(error.path == "mcpServers.one.\(row.path)")
        #expect(result.codes.count { $0 == "not-built-yet" } == 1)
    }

    @Test("It is accepted on a disabled server", arguments: Self.rows)
    func disabled(row: NotBuiltYetRow) {
        let result = self.load(row, isDisabled: true, notBuiltYet: NotBuiltYet.current)
        #expect(result.snapshot?.upstreams.first?.isDisabled == true)
        #expect(!result.codes.contains("not-built-yet"))
    }

    @Test("It is accepted once its line in the table is gone", arguments: Self.rows)
    func built(row: NotBuiltYetRow) {
        let result = self.load(row, notBuiltYet: NotBuiltYet.current.subtracting([row.feature]))
        #expect(!result.codes.contains("not-built-yet"))
        #expect(result.snapshot != nil)
    }

    @Test("An inherited proxy is reported once, where it is written, and only if a server would take it")
    func inheritedProxy() {
        func document(_ servers: String) -> String {
            """
            {"mcpProxy": {"baseURL": "http://h", "addr": "localhost:1", "name": "n", "version": "1",
            "options": {"proxy": "http://p:1"}}, "mcpServers": {\(servers)}}
            """
        }
        let used = GatewayConfigurationTests.load(
            document(#""a": {"url": "https://h/"}, "b": {"url": "https://h/"}"#),
            notBuiltYet: NotBuiltYet.current
        )
        #expect(used.codes == ["not-built-yet"])
        #expect(used.findings.first?.path == "mcpProxy.options.proxy")
        let unused = GatewayConfigurationTests.load(
            document(
                #""a": {"url": "https://h/", "options": {"proxy": false}}, "b": {"url": "https://h/", "options": {"disabled": true}}"#
            ),
            notBuiltYet: NotBuiltYet.current
        )
        #expect(unused.codes == [])
    }

    @Test(
        "What is built runs: every transport and isolation, with inbound tokens and without a proxy",
        arguments: [
            #""url": "https://h/""#, #""url": "https://h/", "transportType": "streamable-http""#,
            #""url": "https://h/", "options": {"proxy": false, "isolation": "session"}"#,
            #""url": "https://h/", "options": {"isolation": "shared"}"#,
            #""url": "https://h/", "transportType": "sse""#,
            #""command": "c""#, #""command": "c", "args": ["-v"], "options": {"isolation": "session"}"#,
            #""url": "https://h/", "options": {"proxy": {"useEnv": false}}"#,
            #""url": "https://h/", "options": {"auth": {}, "authTokens": ["t"]}"#,
            #""url": "https://h/", "options": {"auth": {"tokens": ["A"]}}"#,
            #""url": "https://h/", "headers": {"Authorization": "Bearer x"}, "options": {"authTokens": ["t"]}"#,
        ]
    )
    func runs(server: String) {
        let result = GatewayConfigurationTests.load(document(server: server), notBuiltYet: NotBuiltYet.current)
        #expect(result.snapshot != nil)
        #expect(result.codes == [])
    }

    @Test("Everything in the table is refused by this version, until its issue deletes the line")
    func table() {
        #expect(Set(Self.rows.map(\.feature)) == Set(NotBuiltYet.allCases))
        #expect(NotBuiltYet.current.isSubset(of: Set(NotBuiltYet.allCases)))
    }
}
