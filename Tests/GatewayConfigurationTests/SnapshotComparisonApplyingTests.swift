// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayConfiguration
@testable import GatewayModel

@Suite("What of another configuration counts at once") struct SnapshotComparisonApplyingTests {
    /// Its own tokens keep those of the gateway away from the server.
    private static let server = #""url": "https://h/", "options": {"authTokens": ["s"]}"#

    private func snapshot(_ text: String) throws -> GatewaySnapshot {
        let result = load(text)
        return try #require(result.snapshot, "\(result.findings)")
    }

    /// Two configurations in which every key of `mcpProxy` has another value, and some limits.
    private func makeBoth() throws -> (old: GatewaySnapshot, new: GatewaySnapshot) {
        let new = document(
            server: Self.server,
            gateway: """
                , "type": "streamable-http", "startupGracePeriod": "1m", "drainTimeout": "1m",
                "allowedOrigins": ["https://a"], "allowedHosts": ["a"], "options": {"authTokens": ["t"]},
                "limits": {"connections": 7, "connectionsPerAddress": 7, "bodyBytes": 4096, "sessionIdle": "1m"}
                """
        )
        .replacing("http://localhost:9090", with: "https://a.example/p").replacing("127.0.0.1:9090", with: "[::1]:1")
        .replacing(#""name": "n", "version": "1""#, with: #""name": "m", "version": "2""#)
        return try (self.snapshot(document(server: Self.server)), self.snapshot(new))
    }

    @Test("A listener that is tuned has all that is new but what needs a restart, and so has its reverse")
    func tuned() throws {
        let both = try self.makeBoth()
        for (old, new) in [(both.old, both.new), (both.new, both.old)] {
            let whole = SnapshotComparison(from: old, to: new)
            // Every key of the table, so that none is forgotten here.
            let limits = ["bodyBytes", "connectionsPerAddress", "sessionIdle"].map { "limits.\($0)" }
            let tuned = ListenerConfiguration.keys.filter { $0.weight == .tuned }.map(\.name)
            #expect(whole.gatewayKeys == (tuned + limits).sorted())
            #expect(whole.restartKeys == ["addr", "baseURL", "limits.connections"])

            var running = old
            running.listener = old.listener.tuned(by: new.listener)
            let applied = SnapshotComparison(from: old, to: running)
            #expect(applied.gatewayKeys == whole.gatewayKeys && applied.restartKeys == [])
            let open = SnapshotComparison(from: running, to: new)
            #expect(open.gatewayKeys == [] && open.restartKeys == whole.restartKeys)
        }
    }

    @Test("What needs a restart stays as it was at the start, however often another configuration is applied")
    func tunedTwice() throws {
        let both = try self.makeBoth()
        let there = both.old.listener.tuned(by: both.new.listener)
        var back = both.old
        back.listener = there.tuned(by: both.old.listener)
        #expect(SnapshotComparison(from: both.old, to: back).isSame)
    }

    @Test(
        "Every limit counts at once but the one that is fitted to the process",
        arguments: KeyTable.limits.keys.map(\.name)
    )
    func limit(key: String) throws {
        let value =
            switch try #require(KeyTable.limits[key]).shape {
            case .size: #""128KiB""#
            case .duration: #""77s""#
            default: "77"
            }
        let old = try self.snapshot(document(server: Self.server))
        let new = try self.snapshot(document(server: Self.server, gateway: ", \"limits\": {\"\(key)\": \(value)}"))
        let comparison = SnapshotComparison(from: old, to: new)
        let isTuned = key != "connections"
        #expect(comparison.gatewayKeys == (isTuned ? ["limits.\(key)"] : []))
        #expect(comparison.restartKeys == (isTuned ? [] : ["limits.\(key)"]))
        let tuned = old.listener.tuned(by: new.listener).limits
        #expect(tuned == (isTuned ? new.listener.limits : old.listener.limits))
    }

    @Test(
        "There is something to apply if a server or a key of mcpProxy that can change is another, and not if a restart is needed",
        arguments: [
            (#""one": {"command": "c"}"#, "", "", false, true), (#""one": {"command": "c"}"#, "", ":2", false, false),
            (#""one": {"command": "c"}"#, #", "drainTimeout": "1m""#, "", true, false),
            (#""one": {"command": "c"}"#, #", "drainTimeout": "1m""#, ":2", true, false),
            (#""one": {"command": "c"}"#, #", "limits": {"connections": 7}"#, "", false, false),
            (#""one": {"command": "c"}"#, #", "limits": {"streams": 7}"#, "", true, false),
            (#""one": {"command": "c", "timeout": "1m"}"#, "", "", true, false),
            (#""one": {"command": "d"}"#, "", "", true, false), (#""one": {"command": "d"}"#, "", ":2", true, false),
            (#""one": {"command": "c"}, "two": {"command": "c"}"#, "", "", true, false), ("", "", "", true, false),
            (#""one": {"command": "c"}, "two": {"command": "c", "disabled": true}"#, "", "", false, true),
        ] as [(String, String, String, Bool, Bool)]
    )
    func changesAnything(servers: String, member: String, port: String, changes: Bool, isSame: Bool) throws {
        func text(_ servers: String, _ member: String, _ port: String) -> String {
            """
            {"mcpProxy": {"baseURL": "http://localhost", "addr": "127.0.0.1\(port)", "name": "n", "version": "1"\(member)},
            "mcpServers": {\(servers)}}
            """
        }
        let old = try self.snapshot(text(#""one": {"command": "c"}"#, "", ":1"))
        let new = try self.snapshot(text(servers, member, port.isEmpty ? ":1" : port))
        for comparison in [SnapshotComparison(from: old, to: new), SnapshotComparison(from: new, to: old)] {
            #expect(comparison.changesAnything == changes)
            #expect(comparison.isSame == isSame)
        }
    }

    @Test("A certificate with other contents is something to apply, if a server uses it")
    func files() throws {
        let tls = #""url": "https://h/", "tls": {"caFile": "/ca.pem"}"#
        for (server, changes) in [(tls, true), (Self.server, false)] {
            let snapshot = try self.snapshot(document(server: server))
            let comparison = SnapshotComparison(from: snapshot, to: snapshot, changedFiles: ["/ca.pem"])
            #expect(comparison.changesAnything == changes)
        }
    }
}
