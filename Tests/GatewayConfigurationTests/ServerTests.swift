// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire
import Testing

@testable import GatewayConfiguration

@Suite("mcpServers") struct ServerTests {
    private static let gateway =
        #""mcpProxy": {"name": "n", "version": "1", "baseURL": "http://h", "addr": "localhost:1"}"#

    private func load(servers: String) -> LoadResult {
        GatewayConfigurationTests.load("{\(Self.gateway), \"mcpServers\": {\(servers)}}")
    }

    @Test(
        "A name is a route of clean segments, percent-encoded outside ASCII",
        arguments: [
            ("github", "github"), ("a/b", "a/b"), ("fetch/tok-1", "fetch/tok-1"),
            ("a.b~c!$&'()*+,=:@", "a.b~c!$&'()*+,=:@"), ("..a", "..a"),
            ("a_b", "a_b"), ("a/_b", "a/_b"), ("metrics2", "metrics2"), ("metrics/x", "metrics/x"),
            ("bücher", "b%C3%BCcher"),
            ("е", "%D0%B5"), ("工具", "%E5%B7%A5%E5%85%B7"), ("🦊", "%F0%9F%A6%8A"),
        ]
    )
    func routes(name: String, route: String) throws {
        let result = self.load(servers: "\"\(name)\": {\"url\": \"https://h/\"}")
        let upstream = try #require(result.snapshot?.upstreams.first)
        #expect(upstream.name == name)
        #expect(upstream.route == route)
    }

    @Test("A route is 512 bytes long and no more", arguments: [512, 513])
    func routeLength(count: Int) {
        let name = String(repeating: "a", count: count)
        #expect((try? ServerRoute.make(of: name)) == (count > 512 ? nil : name))
    }

    @Test(
        "Servers whose paths would meet are an error",
        arguments: [
            ("a", "a/mcp", true), ("a/sse", "a", true), ("a", "a/message", true), ("a", "a/mcp/mcp", false),
            ("a", "a/b", false),
            ("a", "A", false), ("a", "ab", false), ("x/a/mcp", "x/a", true), ("a", "a/mcp/sse", false),
        ]
    )
    func conflicts(one: String, other: String, conflict: Bool) {
        let result = self.load(servers: "\"\(one)\": {\"command\": \"c\"}, \"\(other)\": {\"command\": \"c\"}")
        #expect(result.codes == (conflict ? ["route-conflict"] : []))
    }

    @Test("A disabled server has no route to meet another's")
    func disabledConflict() {
        let result = self.load(
            servers: #""a": {"command": "c"}, "a/mcp": {"command": "c", "options": {"disabled": true}}"#
        )
        #expect(result.codes == [])
    }

    @Test(
        "The transport is what is written, or follows from command and url",
        arguments: [
            (#""command": "c""#, "stdio"), (#""command": "c", "transportType": "stdio""#, "stdio"),
            (#""url": "https://h/""#, "detect"),
            (#""url": "https://h/", "transportType": "sse""#, "sse"),
            (#""url": "https://h/", "transportType": "streamable-http""#, "streamable-http"),
        ]
    )
    func transports(members: String, expected: String) throws {
        let transport = try #require(self.load(servers: "\"one\": {\(members)}").one).transport
        switch transport {
        case .stdio: #expect(expected == "stdio")
        case .http(let http): #expect(http.kind.rawValue == expected)
        }
    }

    @Test("The order of the file is kept, disabled servers included")
    func order() throws {
        let result = self.load(
            servers:
                #""z": {"command": "c"}, "a": {"command": "c", "options": {"disabled": true}}, "m": {"url": "https://h/"}"#
        )
        let upstreams = try #require(result.snapshot).upstreams
        #expect(upstreams.map(\.name) == ["z", "a", "m"])
        #expect(upstreams.map(\.isDisabled) == [false, true, false])
    }

    @Test("A stdio server arrives whole")
    func stdio() throws {
        let result = self.load(
            servers: #"""
                "one": {"command": "/bin/x", "args": ["-y", "", "a b"], "env": {"K": "v", "a b": ""}, "cwd": "/srv",
                "inheritEnv": ["AWS_*", "PATH"], "timeout": "1m", "protocol": "handshake"}
                """#
        )
        #expect(result.codes == [])
        let one = try #require(result.one)
        #expect(one.timeout == .seconds(60))
        #expect(one.protocolPin == .handshake)
        #expect(one.isolation == .shared)
        guard case .stdio(let stdio) = one.transport else { return }
        #expect(stdio.command == "/bin/x")
        #expect(stdio.arguments == ["-y", "", "a b"])
        #expect(stdio.environment.map(\.name) == ["K", "a b"])
        #expect(stdio.environment.map { $0.value.reveal() } == ["v", ""])
        #expect(stdio.workingDirectory == "/srv")
        guard case .named(let names) = stdio.inherited else {
            Issue.record("inherits otherwise")
            return
        }
        #expect(names == ["AWS_*", "PATH"])
    }

    @Test(
        "What a child inherits is a fixed list, everything, or named",
        arguments: [("false", "list"), ("true", "all"), ("[]", "named"), ("null", "list")]
    )
    func inheritEnv(json: String, expected: String) throws {
        let result = self.load(servers: "\"one\": {\"command\": \"c\", \"inheritEnv\": \(json)}")
        guard case .stdio(let stdio) = try #require(result.one).transport else { return }
        switch stdio.inherited {
        case .allowList: #expect(expected == "list")
        case .all: #expect(expected == "all")
        case .named: #expect(expected == "named")
        }
    }

    @Test("A command with blanks and no arguments is probably a command line")
    func commandLine() {
        #expect(self.load(servers: #""one": {"command": "npx -y server"}"#).codes == ["command-line"])
        #expect(self.load(servers: #""one": {"command": "C:\\Program Files\\x", "args": []}"#).codes == [])
    }

    @Test("Keys of the other kind of server have no effect and say so")
    func misplaced() {
        let stdio = self.load(
            servers: #"""
                "one": {"command": "c", "headers": {}, "tls": {}, "oauth": {},
                "options": {"auth": {"tokens": ["t"]}, "proxy": "", "forwardHeaders": ["Cookie"]}}
                """#
        )
        #expect(stdio.codes == Array(repeating: "no-effect", count: 6))
        #expect(stdio.snapshot?.upstreams.first?.isDisabled == false)
        let http = self.load(
            servers: #""one": {"url": "https://h/", "args": [], "env": {}, "cwd": "/", "inheritEnv": true}"#
        )
        #expect(http.codes == Array(repeating: "no-effect", count: 4))
    }

    @Test("A server inherits what it does not say itself")
    func inheritance() throws {
        let inherited = #"""
            "panicIfInvalid": true, "logEnabled": true, "authTokens": ["g"], "pingInterval": "5s", "autoReconnect": false,
            "reconnectInterval": "6s", "proxy": "http://p:1"
            """#
        let one = try #require(GatewayConfigurationTests.load(document(options: "", gatewayOptions: inherited)).one)
        #expect(one.panicIfInvalid && one.isLogEnabled && !one.autoReconnect)
        #expect(one.inboundTokens == [Secret("g")])
        #expect(one.pingInterval == .seconds(5))
        #expect(one.reconnectInterval == .seconds(6))
        let own = #"""
            "panicIfInvalid": false, "logEnabled": false, "authTokens": ["o"], "pingInterval": 0, "autoReconnect": true,
            "reconnectInterval": "7s", "proxy": false
            """#
        let result = GatewayConfigurationTests.load(document(options: own, gatewayOptions: inherited))
        let other = try #require(result.one)
        #expect(!other.panicIfInvalid && !other.isLogEnabled && other.autoReconnect)
        #expect(other.inboundTokens == [Secret("o")])
        #expect(other.pingInterval == nil)
        #expect(other.reconnectInterval == .seconds(7))
        guard case .direct = try #require(result.http).proxy else {
            Issue.record("not direct")
            return
        }
    }

    @Test("A server with oauth is refused and the others run")
    func oauth() throws {
        let result = self.load(
            servers: #"""
                "n": {"url": "https://h/", "transportType": "streamable-http", "oauth": {"scopes": [], "clientSecret": "x"}},
                "m": {"url": "https://h/"}, "off": {"url": "https://h/", "oauth": {}, "options": {"disabled": true}}
                """#
        )
        #expect(result.codes == ["oauth-not-built"])
        #expect(result.findings.first?.path == "mcpServers.n.oauth")
        let upstreams = try #require(result.snapshot).upstreams
        #expect(upstreams.map(\.isDisabled) == [true, false, true])
        #expect(upstreams.map(\.isRefused) == [true, false, false])
    }

    @Test(
        "Link-local addresses are warned of",
        arguments: [
            ("169.254.169.254", true), ("[fe80::1]", true), ("[fd00:ec2::254]", true), ("169.253.1.1", false),
            ("10.0.0.1", false),
        ]
    )
    func linkLocal(host: String, isWarned: Bool) {
        let result = self.load(servers: "\"one\": {\"url\": \"http://\(host)/mcp\"}")
        #expect(result.codes == (isWarned ? ["metadata-address"] : []))
    }
}
