// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewayWire
import Testing

@testable import GatewayConfiguration
@testable import GatewayModel

@Suite("Configurations compared by meaning") struct SnapshotComparisonTests {
    private static let environment = ["TOKEN": "t", "OTHER": "t"]
    private static let http = #""url": "https://up.example.com/mcp", "headers": {"A": "1", "B": "2"}"#
    private static let pool = #""auth": {"tokens": ["a", "b"], "rotationMode": "round-robin"}"#
    private static let stdio = #""command": "c", "args": ["x", "y"], "env": {"A": "1", "B": "2"}"#

    private func snapshot(_ text: String) throws -> GatewaySnapshot {
        let result = load(text, environment: Self.environment)
        return try #require(result.snapshot, "\(result.findings)")
    }

    private func compare(_ old: String, _ new: String) throws -> SnapshotComparison {
        try SnapshotComparison(from: self.snapshot(old), to: self.snapshot(new))
    }

    /// Compares two forms of the server named `one`.
    private func compare(servers old: String, _ new: String) throws -> ServerComparison {
        let comparison = try self.compare(document(server: old), document(server: new))
        #expect(comparison.gatewayKeys == [] && comparison.restartKeys == [])
        return try #require(comparison.servers.first)
    }

    // MARK: Every property

    private func properties(of value: Any) -> Set<String> {
        Set(Mirror(reflecting: value).children.compactMap(\.label))
    }

    @Test("Every stored property of a configuration is classified")
    func classified() throws {
        let http = try #require(
            self.snapshot(document(server: "\(Self.http), \"options\": {\(Self.pool)}")).upstreams.first
        )
        let stdio = try #require(self.snapshot(document(server: Self.stdio)).upstreams.first)
        // By these a server is found, and the two transports have tables of their own.
        let identity: Set = ["name", "route", "transport", "isDisabled", "isRefused"]
        #expect(self.properties(of: http) == identity.union(UpstreamConfiguration.keys.map(\.property)))
        guard case .http(let one) = http.transport, case .stdio(let other) = stdio.transport else { return }
        let pool = try #require(one.credentials)
        #expect(self.properties(of: pool) == Set(CredentialPoolConfiguration.keys.map(\.property)))
        #expect(self.properties(of: other) == Set(StdioUpstreamConfiguration.keys.map(\.property)))
        let listener = try self.snapshot(document(server: Self.http)).listener
        #expect(self.properties(of: listener) == Set(ListenerConfiguration.keys.map(\.property)).union(["limits"]))
        #expect(self.properties(of: listener.limits) == Set(KeyTable.limits.keys.map(\.name)))
    }

    @Test("Every stored property of a server with a url is classified")
    func classifiedHTTP() {
        // It shows less of itself than it has: its size tells of a property that is not in this list.
        typealias Properties = (
            kind: HTTPUpstreamConfiguration.Kind, url: HTTPURL, headers: [HTTPUpstreamConfiguration.Header],
            tls: TLSClientConfiguration, credentials: CredentialPoolConfiguration?, proxy: OutboundProxyConfiguration,
            outboundProxy: OutboundProxy?
        )
        #expect(MemoryLayout<HTTPUpstreamConfiguration>.size == MemoryLayout<Properties>.size)
        let compared = HTTPUpstreamConfiguration.keys.map(\.property)
        #expect(compared == ["kind", "url", "headers", "tls", "credentials", "outboundProxy"])
    }

    // MARK: Servers

    @Test(
        "What is written otherwise and means the same is the same",
        arguments: [
            (Self.http, #""headers": {"B": "2", "A": "1"}, // c"# + "\n" + #""url": "https://up.example.com/mcp","#),
            (Self.stdio, #""env": {"B": "2", "A": "1"}, "args": ["x", "y",], "command": "c""#),
            (#""url": "https://h/", "timeout": "1m""#, #""url": "https://h/", "timeout": 60000"#),
            (#""url": "https://h/""#, #""url": "https://h/", "timeout": "5m", "options": {"disabled": false}"#),
            (
                #""url": "https://h/", "headers": {"A": "${TOKEN}"}"#,
                #""url": "https://h/", "headers": {"A": "$OTHER"}"#
            ),
            (#""url": "https://h/", "headers": {"A": "${TOKEN}"}"#, #""url": "https://h/", "headers": {"A": "t"}"#),
            (
                #""url": "https://h/", "options": {"forwardHeaders": ["a", "b"]}"#,
                #""url": "https://h/", "options": {"forwardHeaders": ["B", "A", "a"]}"#
            ),
            (
                #""url": "https://h/", "options": {"toolFilter": {"mode": "block", "list": ["a", "b"]}}"#,
                #""url": "https://h/", "options": {"toolFilter": {"mode": "BLOCK", "list": "b,a,b"}}"#
            ),
            (
                #""url": "https://h/", "options": {"auth": {"tokens": ["a", "b"], "retryOn": [401, 403]}}"#,
                #""url": "https://h/", "options": {"auth": {"tokens": ["a", " b"], "rotationMode": "round-robin"}}"#
            ),
            (#""command": "c", "inheritEnv": ["A", "B"]"#, #""command": "c", "inheritEnv": ["B", "A"]"#),
        ]
    )
    func same(old: String, new: String) throws {
        let comparison = try self.compare(servers: old, new)
        #expect(comparison.verdict == .same && comparison.keys == [])
        #expect(try self.compare(document(server: old), document(server: new)).isSame)
    }

    /// A change of one key, made to a server with a `url` and a pool, or to one with a `command`.
    private static let changes: [(old: String, new: String, verdict: ServerComparison.Verdict, key: String)] = [
        (#""timeout": "1m""#, #""timeout": "2m""#, .tuned, "timeout"),
        (#""options": {"panicIfInvalid": true}"#, "", .tuned, "options.panicIfInvalid"),
        (#""options": {"logEnabled": true}"#, "", .tuned, "options.logEnabled"),
        (#""options": {"authTokens": ["a"]}"#, #""options": {"authTokens": ["b"]}"#, .tuned, "options.authTokens"),
        (
            #""options": {"authTokens": ["a", "b"]}"#, #""options": {"authTokens": ["b", "a"]}"#, .tuned,
            "options.authTokens"
        ),
        (#""options": {"authTokens": ["a"]}"#, "", .tuned, "options.authTokens"),
        (
            #""options": {"toolFilter": {"mode": "allow", "list": ["a"]}}"#,
            #""options": {"toolFilter": {"mode": "allow", "list": ["b"]}}"#, .tuned, "options.toolFilter"
        ),
        (#""options": {"toolFilter": {"mode": "block", "list": ["a"]}}"#, "", .tuned, "options.toolFilter"),
        (#""options": {"pingInterval": "1m"}"#, "", .tuned, "options.pingInterval"),
        (#""options": {"pingInterval": 0}"#, "", .tuned, "options.pingInterval"),
        (#""options": {"autoReconnect": false}"#, "", .tuned, "options.autoReconnect"),
        (#""options": {"reconnectInterval": "1m"}"#, "", .tuned, "options.reconnectInterval"),
        (#""protocol": "stateless""#, "", .replaced, "protocol"),
    ]

    private static let httpChanges: [(old: String, new: String, verdict: ServerComparison.Verdict, key: String)] = [
        (#""url": "https://a/""#, #""url": "https://b/""#, .replaced, "url"),
        (#""url": "https://a/x?k=1""#, #""url": "https://a/x?k=2""#, .replaced, "url"),
        (
            #""url": "https://a/", "headers": {"A": "1"}"#, #""url": "https://a/", "headers": {"A": "2"}"#, .replaced,
            "headers"
        ),
        (#""url": "https://a/", "headers": {"A": "1"}"#, #""url": "https://a/""#, .replaced, "headers"),
        (#""url": "https://a/""#, #""url": "https://a/", "transportType": "sse""#, .replaced, "transportType"),
        (#""url": "https://a/""#, #""url": "https://a/", "tls": {"caFile": "c"}"#, .replaced, "tls"),
        (#""url": "https://a/""#, #""url": "https://a/", "tls": {"insecure": true}"#, .replaced, "tls"),
        (
            #""url": "https://a/""#, #""url": "https://a/", "options": {"proxy": "http://p:1"}"#, .replaced,
            "options.proxy"
        ),
        (
            #""url": "https://a/", "options": {"proxy": "http://u:p@p:1"}"#,
            #""url": "https://a/", "options": {"proxy": "http://u:q@p:1"}"#, .replaced, "options.proxy"
        ),
        (
            #""url": "https://a/", "options": {"proxy": {"url": "http://p:1", "noProxy": "b"}}"#,
            #""url": "https://a/", "options": {"proxy": {"url": "http://p:1", "noProxy": "a"}}"#, .replaced,
            "options.proxy"
        ),
        (
            #""url": "https://a/", "options": {"forwardHeaders": ["a"]}"#, #""url": "https://a/""#, .replaced,
            "options.forwardHeaders"
        ),
        (
            #""url": "https://a/""#, #""url": "https://a/", "options": {"isolation": "shared"}"#, .replaced,
            "options.isolation"
        ),
        (
            #""url": "https://a/""#, #""url": "https://a/", "options": {"auth": {"tokens": ["a"]}}"#, .replaced,
            "options.auth"
        ),
        (#""url": "https://a/""#, #""command": "c", "options": {"isolation": "session"}"#, .replaced, "transportType"),
        (#""command": "a""#, #""command": "b""#, .replaced, "command"),
        (#""command": "a", "args": ["x", "y"]"#, #""command": "a", "args": ["y", "x"]"#, .replaced, "args"),
        (#""command": "a", "env": {"A": "1"}"#, #""command": "a", "env": {"A": "2"}"#, .replaced, "env"),
        (#""command": "a", "env": {"A": "1"}"#, #""command": "a", "env": {"B": "1"}"#, .replaced, "env"),
        (#""command": "a", "cwd": "/x""#, #""command": "a""#, .replaced, "cwd"),
        (#""command": "a", "inheritEnv": true"#, #""command": "a""#, .replaced, "inheritEnv"),
        (
            #""command": "a", "inheritEnv": ["A"]"#, #""command": "a", "inheritEnv": ["A", "B"]"#, .replaced,
            "inheritEnv"
        ),
        (#""command": "a", "options": {"isolation": "session"}"#, #""command": "a""#, .replaced, "options.isolation"),
    ]

    private static let poolChanges: [(old: String, new: String, key: String)] = [
        (#""tokens": ["a", "b"]"#, #""tokens": ["b", "a"]"#, "tokens"),
        (#""tokens": ["a", "b"]"#, #""tokens": ["a", "c"]"#, "tokens"),
        (#""tokens": ["a", "b"]"#, #""tokens": ["a", "b", "c"]"#, "tokens"),
        (
            #""tokens": ["a", "b"], "maxRetries": 2"#,
            #""tokens": ["a", "b"], "maxRetries": 2, "rotationMode": "on-first-failed""#, "rotationMode"
        ),
        (#""tokens": ["a", "b"], "maxRetries": 2"#, #""tokens": ["a", "b"]"#, "maxRetries"),
        (#""tokens": ["a", "b"], "retryOn": [401]"#, #""tokens": ["a", "b"]"#, "retryOn"),
        (#""tokens": ["a", "b"], "affinity": "session""#, #""tokens": ["a", "b"]"#, "affinity"),
    ]

    /// A change and its reverse have the same verdict and name the same key.
    private func expect(_ old: String, _ new: String, _ verdict: ServerComparison.Verdict, _ key: String) throws {
        for (old, new) in [(old, new), (new, old)] {
            let comparison = try self.compare(servers: old, new)
            #expect(comparison.verdict == verdict && comparison.keys == [key], "\(old) to \(new): \(comparison)")
        }
    }

    @Test("A change of one key of any server has its verdict and names the key", arguments: Self.changes.indices)
    func change(index: Int) throws {
        let change = Self.changes[index]
        for base in [#""url": "http://h.example/""#, #""command": "c""#] {
            let texts = [change.old, change.new].map { $0.isEmpty ? base : "\(base), \($0)" }
            try self.expect(texts[0], texts[1], change.verdict, change.key)
        }
    }

    @Test(
        "A change of one key of one kind of server has its verdict and names the key",
        arguments: Self.httpChanges.indices
    )
    func transport(index: Int) throws {
        let change = Self.httpChanges[index]
        try self.expect(change.old, change.new, change.verdict, change.key)
    }

    @Test("A change of one key of a pool tunes it", arguments: Self.poolChanges.indices)
    func pool(index: Int) throws {
        let change = Self.poolChanges[index]
        let texts = [change.old, change.new].map { #""url": "https://h/", "options": {"auth": {\#($0)}}"# }
        try self.expect(texts[0], texts[1], .tuned, "options.auth.\(change.key)")
    }

    @Test("Of several changes the strongest counts, and all are named")
    func strongest() throws {
        let old = #""url": "https://a/", "timeout": "1m", "options": {"logEnabled": true}"#
        let tuned = try self.compare(servers: old, #""url": "https://a/", "timeout": "2m""#)
        #expect(tuned.verdict == .tuned && tuned.keys == ["options.logEnabled", "timeout"])
        let replaced = try self.compare(servers: old, #""url": "https://b/", "timeout": "2m""#)
        #expect(replaced.verdict == .replaced && replaced.keys == ["options.logEnabled", "timeout", "url"])
    }

    @Test("A certificate whose file has other contents replaces the servers that use it, and no others")
    func files() throws {
        let tls = #""url": "https://a/", "tls": {"caFile": "/ca.pem", "certFile": "/c.pem", "keyFile": "/k.pem"}"#
        let proxy = #""url": "https://a/", "options": {"proxy": {"url": "https://p", "tls": {"caFile": "/p.pem"}}}"#
        for (server, file, verdict) in [
            (tls, "/ca.pem", .replaced), (tls, "/c.pem", .replaced), (tls, "/k.pem", .replaced), (tls, "/p.pem", .same),
            (proxy, "/p.pem", .replaced), (Self.stdio, "/ca.pem", .same),
        ] as [(String, String, ServerComparison.Verdict)] {
            let snapshot = try self.snapshot(document(server: server))
            let comparison = SnapshotComparison(from: snapshot, to: snapshot, changedFiles: [file])
            #expect(comparison.servers.first?.verdict == verdict)
            #expect(comparison.servers.first?.keys == (verdict == .same ? [] : ["tls"]))
        }
    }

    // MARK: The whole

    private static let listener =
        #""mcpProxy": {"baseURL": "http://localhost", "addr": ":1", "name": "n", "version": "1"}"#

    @Test(
        "Servers that come, go, are renamed, or are switched on and off are added and removed",
        arguments: [
            (#""a": {"command": "c"}"#, "", "removed a"), ("", #""a": {"command": "c"}"#, "added a"),
            (#""a": {"command": "c"}"#, #""b": {"command": "c"}"#, "added b, removed a"),
            (
                #""a": {"command": "c"}"#, #""a": {"command": "c", "options": {"disabled": true}}"#, "removed a"
            ),
            (#""a": {"command": "c", "disabled": true}"#, #""a": {"command": "c"}"#, "added a"),
            (#""a": {"command": "c", "disabled": true}"#, "", ""),
            (#""a": {"url": "https://h/"}"#, #""a": {"url": "https://h/", "oauth": {"clientId": "i"}}"#, "removed a"),
            (
                #""a": {"command": "c"}, "b": {"command": "c"}"#, #""b": {"command": "c"}, "a": {"command": "c"}"#,
                "same b, same a"
            ),
        ]
    )
    func membership(old: String, new: String, expected: String) throws {
        let texts = [old, new].map { "{\(Self.listener), \"mcpServers\": {\($0)}}" }
        let comparison = try self.compare(texts[0], texts[1])
        #expect(comparison.servers.map { "\($0.verdict.rawValue) \($0.name)" }.joined(separator: ", ") == expected)
        #expect(comparison.isSame == !(expected.contains("added") || expected.contains("removed")))
    }

    @Test(
        "A change of mcpProxy is applied at once, or says that it needs a restart",
        arguments: [
            (#""type": "streamable-http""#, ["type"], []), (#""startupGracePeriod": "1m""#, ["startupGracePeriod"], []),
            (#""drainTimeout": "1m""#, ["drainTimeout"], []),
            (#""allowedOrigins": ["https://a"]"#, ["allowedOrigins"], []),
            (#""allowedHosts": ["a"]"#, ["allowedHosts"], []),
            (#""options": {"authTokens": ["a"]}"#, ["options.authTokens"], []),
            (#""limits": {"bodyBytes": 4096, "sessionIdle": "1m"}"#, ["limits.bodyBytes", "limits.sessionIdle"], []),
            (#""limits": {"connectionsPerAddress": 7}"#, ["limits.connectionsPerAddress"], []),
            (#""limits": {"connections": 7, "streams": 7}"#, ["limits.streams"], ["limits.connections"]),
            (#""limits": {"connections": 10000}"#, [], []),
        ] as [(String, [String], [String])]
    )
    func gateway(member: String, applied: [String], restart: [String]) throws {
        // Its own tokens keep the inherited ones away from the server.
        let server = #""url": "https://h/", "options": {"authTokens": ["s"], "auth": {}}"#
        let texts = [document(server: server), document(server: server, gateway: ", \(member)")]
        for (old, new) in [(texts[0], texts[1]), (texts[1], texts[0])] {
            let comparison = try self.compare(old, new)
            #expect(comparison.gatewayKeys == applied && comparison.restartKeys == restart)
            #expect(comparison.names(.same) == ["one"])
            #expect(comparison.isSame == (applied.isEmpty && restart.isEmpty))
        }
    }

    @Test("Another address or base URL needs a restart, another name does not")
    func restart() throws {
        let old = document(server: Self.http)
        for (from, to, applied, restart) in [
            ("127.0.0.1:9090", "127.0.0.1:9091", [], ["addr"]), ("http://localhost:9090", "https://a", [], ["baseURL"]),
            ("http://localhost:9090", "http://localhost:9090/p", [], ["baseURL"]), (#""n""#, #""m""#, ["name"], []),
            (#""version": "1""#, #""version": "2""#, ["version"], []),
        ] as [(String, String, [String], [String])] {
            let comparison = try self.compare(old, old.replacing(from, with: to))
            #expect(comparison.gatewayKeys == applied && comparison.restartKeys == restart, "\(to)")
            #expect(comparison.names(.same) == ["one"])
        }
    }

    @Test("What a server inherits is what it has")
    func inherited() throws {
        let server = #""url": "https://h/""#
        let comparison = try self.compare(
            document(server: server, gateway: #", "options": {"logEnabled": true}"#),
            document(server: server, gateway: #", "options": {"pingInterval": "1m", "proxy": "http://p:1"}"#)
        )
        let one = try #require(comparison.servers.first)
        #expect(one.verdict == .replaced)
        #expect(one.keys == ["options.logEnabled", "options.pingInterval", "options.proxy"])
        #expect(comparison.gatewayKeys == [])
    }

    @Test("No value is in what a comparison says")
    func silence() throws {
        let old = CanaryTests.canaries
        let comparison = try self.compare(old, old.replacing("CANARY7f3a", with: "CANARY8f3a"))
        var text = "\(comparison)"
        dump(comparison, to: &text)
        #expect(comparison.servers.allSatisfy { $0.verdict != .same } && !text.contains("CANARY"))
    }
}
