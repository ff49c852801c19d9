// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

/// The shape of every configuration that TBXark/mcp-proxy documents, with names and values of ours.
@Suite("Configurations of TBXark/mcp-proxy") struct TBXarkTests {
    static let environment = [
        "SEARCH_KEY": "k", "HOME": "/home/x", "NOTES_TOKEN": "n", "NOTES_TOOLS": "list_notes, read_note",
        "WIKI_SECRET": "s",
    ]

    /// A file, and all that is said about it.
    static let files: [(String, [String])] = [
        ("tbxark-2026-02-full", []), ("tbxark-2026-02-config", []), ("tbxark-2026-02-capital-disabled", ["key-case"]),
        ("tbxark-2026-02-token-route", []), ("tbxark-2026-02-nanoseconds", ["duration-unit"]),
        ("tbxark-2026-02-open-servers", ["open-gateway", "open-server", "open-server"]),
        ("tbxark-v1-readme", ["deprecated-v1"]),
        ("tbxark-v1-streamable", ["deprecated-v1", "duration-unit"]),
        ("tbxark-v1-mixed", ["ignored-v1", "deprecated-v1"]),
        ("tbxark-2026-09-full", ["oauth-not-built"]), ("tbxark-2026-09-oauth", ["oauth-not-built"]),
        ("tbxark-2026-09-filter-from-environment", []), ("tbxark-rotation", ["proxy-local-dns"]),
    ]

    private func load(_ name: String) throws -> LoadResult {
        try GatewayConfigurationTests.load(
            Repository.text(of: "Tests/GatewayConfigurationTests/Inputs/\(name).json"),
            environment: Self.environment
        )
    }

    @Test("Every documented configuration loads, with no more findings than it deserves", arguments: Self.files)
    func loads(name: String, codes: [String]) throws {
        let result = try self.load(name)
        #expect(result.snapshot != nil)
        #expect(result.codes == codes)
    }

    @Test("Every file of the table is there, and no other")
    func inputs() throws {
        let names = try Repository.files(in: "Tests/GatewayConfigurationTests/Inputs")
            .filter { $0.hasPrefix("tbxark-") }
        #expect(names.sorted() == Self.files.map { "\($0.0).json" }.sorted())
    }

    @Test("The full example means what it means to that program")
    func full() throws {
        let snapshot = try #require(self.load("tbxark-2026-02-full").snapshot)
        #expect(snapshot.listener.advertisedTransport == .streamableHTTP)
        #expect(snapshot.upstreams.map(\.name) == ["notes", "pages", "maps"])
        #expect(
            snapshot.upstreams.map(\.inboundTokens) == [
                [Secret("everyone")], [Secret("pages-only")], [Secret("everyone")],
            ]
        )
        #expect(snapshot.upstreams.map(\.panicIfInvalid) == [false, true, false])
        #expect(snapshot.upstreams.map(\.isLogEnabled) == [true, false, true])
        #expect(snapshot.upstreams.map(\.isDisabled) == [false, false, true])
        #expect(snapshot.upstreams[0].toolFilter == ToolFilter(mode: .block, names: ["delete_note"]))
    }

    @Test("The first version means what it meant, with a client's own flags kept")
    func firstVersion() throws {
        let snapshot = try #require(self.load("tbxark-v1-readme").snapshot)
        #expect(snapshot.listener.statusTokens == [Secret("everyone")])
        let pages = snapshot.upstreams[0]
        #expect(pages.panicIfInvalid && pages.isLogEnabled)
        #expect(pages.inboundTokens == [Secret("pages-only"), Secret("everyone")])
        guard case .http(let maps) = snapshot.upstreams[1].transport else { return }
        #expect(maps.kind == .sse)
        #expect(maps.credentials == nil)
        #expect(snapshot.upstreams[1].inboundTokens == [Secret("everyone")])
    }

    @Test("Where both versions stand in a file, the second one counts")
    func mixed() throws {
        let snapshot = try #require(self.load("tbxark-v1-mixed").snapshot)
        #expect(snapshot.listener.name == "Gate")
        #expect(snapshot.upstreams.map(\.inboundTokens) == [[Secret("pages-only")]])
    }

    @Test("Findings about the first version name the paths that the operator wrote")
    func pathsOfFirstVersion() {
        let result = GatewayConfigurationTests.load(
            #"""
            {"server": {"baseURL": "x", "addr": "y", "name": "n", "version": "1", "globalAuthTokens": [""], "more": 1},
            "clients": {"a": {"type": "http", "config": {"url": "z", "timeout": "1"}, "other": 1}, "b": {"config": {}}, "_c": {}}}
            """#
        )
        #expect(
            result.findings.map { "\($0.code.rawValue) \($0.path)" } == [
                "deprecated-v1 server", "invalid-url server.baseURL", "invalid-address server.addr",
                "empty-security-setting server.globalAuthTokens[0]", "unknown-key server.more",
                "invalid-value clients.a.type",
                "invalid-url clients.a.config.url", "invalid-duration clients.a.config.timeout",
                "unknown-key clients.a.other",
                "missing-key clients.b.url", "invalid-name clients._c", "missing-key clients._c.config",
                "missing-key clients._c.url",
            ]
        )
    }
}
