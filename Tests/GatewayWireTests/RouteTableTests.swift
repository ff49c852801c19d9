// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Routes") struct RouteTableTests {
    static func route(_ path: String, in table: RouteTable) -> Route? {
        let bytes = latin1(path)
        return table.route(bytes.span)
    }

    static let paths: [(String, Route?)] = [
        ("/api/one", .mcp(server: 0)), ("/api/one/", .mcp(server: 0)), ("/api/one/mcp", .mcp(server: 0)),
        ("/api/one/sse", .sse(server: 0)), ("/api/one/message", .message(server: 0)),
        ("/api/team/two/mcp", .mcp(server: 3)),
        ("/api/team/two", .mcp(server: 3)), ("/api/%C3%BCber/mcp", .mcp(server: 7)), ("/_healthz", .health),
        ("/_readyz", .readiness), ("/metrics", .metrics), ("/_status", .status), ("/api/_healthz", .health),
        ("/api/_readyz", .readiness), ("/api/metrics", .metrics), ("/api/_status", .status),
        ("", nil), ("/", nil), ("/api", nil), ("/api/", nil), ("/one/mcp", nil), ("/api/one/mcp/", .mcp(server: 0)),
        ("/api/one/sse/", .sse(server: 0)), ("/api/one/message/", .message(server: 0)), ("/api/one/mcp//", nil),
        ("/api/team/two/sse/", .sse(server: 3)), ("/api/one/sse//", nil), ("/api/one/mcp/x", nil),
        ("/api/one//", nil),
        ("/api//one/mcp", nil), ("//api/one/mcp", nil), ("/api/ONE/mcp", nil), ("/api/one/MCP", nil),
        ("/api/%6fne/mcp", nil),
        ("/api/one%2fmcp", nil), ("/api/one/%6dcp", nil), ("/api/x/../one/mcp", nil), ("/api/./one", nil),
        ("/api/one/mcp;a", nil),
        ("/api/one/mcp%00", nil), ("/api/one/mc", nil), ("/api/one/mcpx", nil), ("/api/on", nil), ("/api/team", nil),
        ("/api/\u{c3}\u{bc}ber/mcp", nil), ("/api/%c3%bcber/mcp", nil), ("/_healthz/", nil), ("/metrics/", nil),
        ("/api\\one", nil),
        ("api/one", nil), ("/api/one?", nil), ("/api/two/mcp", nil),
    ]

    @Test("A path leads somewhere only if it is byte for byte one of the paths", arguments: Self.paths.map(\.0))
    func exact(path: String) throws {
        let expected = try #require(Self.paths.first { $0.0 == path }).1
        let table = try RouteTable(basePath: "/api", servers: [(0, "one"), (3, "team/two"), (7, "über")])
        #expect(Self.route(path, in: table) == expected)
    }

    @Test("Without a base path the routes are at the root")
    func root() throws {
        let table = try RouteTable(basePath: "", servers: [(0, "one")])
        #expect(Self.route("/one/mcp", in: table) == .mcp(server: 0))
        #expect(Self.route("/_healthz", in: table) == .health)
        #expect(Self.route("//one/mcp", in: table) == nil)
    }

    @Test("Without servers there are still the routes of the gateway itself")
    func empty() throws {
        let table = try RouteTable(basePath: "", servers: [])
        #expect(Self.route("/metrics", in: table) == .metrics)
        #expect(Self.route("/one", in: table) == nil)
    }

    @Test("All of a thousand servers are found, and their neighbours are not")
    func many() throws {
        let table = try RouteTable(basePath: "/p", servers: (0..<1000).map { ($0, "server-\($0)") })
        for index in 0..<1000 {
            #expect(Self.route("/p/server-\(index)/mcp", in: table) == .mcp(server: index))
            #expect(Self.route("/p/server-\(index)/message", in: table) == .message(server: index))
            #expect(Self.route("/p/server-\(index)/sse/", in: table) == .sse(server: index))
            #expect(Self.route("/p/server-\(index + 1000)/mcp", in: table) == nil)
        }
    }

    @Test(
        "Two routes with the same path are refused",
        arguments: [
            ("", ["a", "a"]), ("", ["a", "a/mcp"]), ("/p", ["a/sse", "a"]), ("", ["a/message", "a"]), ("", ["metrics"]),
            ("", ["_status"]),
        ]
    )
    func collisions(basePath: String, names: [String]) {
        #expect(throws: RouteTable.Collision.self) {
            try RouteTable(basePath: basePath, servers: names.enumerated().map { ($0.offset, $0.element) })
        }
    }

    @Test("A collision names the path and both routes")
    func collision() {
        do throws(RouteTable.Collision) {
            _ = try RouteTable(basePath: "/p", servers: [(1, "a"), (2, "a/mcp")])
            Issue.record("no collision")
        } catch {
            #expect(error.path == "/p/a/mcp")
            #expect(error.first == .mcp(server: 1))
            #expect(error.second == .mcp(server: 2))
        }
    }
}
