// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayStdio
import Testing

@Suite("What a child is started with", .timeLimit(.minutes(1))) struct ChildSurroundingsTests {
    static let ours = [
        "PATH": "/usr/bin:/bin", "HOME": "/home/u", "USER": "u", "LANG": "C", "LC_ALL": "C", "LC_TIME": "de",
        "TZ": "UTC",
        "TMPDIR": "/tmp", "XDG_CONFIG_HOME": "/x", "SSL_CERT_FILE": "/c", "SSL_CERT_DIR": "/d",
        "NODE_EXTRA_CA_CERTS": "/n",
        "SECRET_TOKEN": "s", "HTTPS_PROXY": "http://p", "PATHS": "no", "LC": "no", "SWIFT_BACKTRACE": "enable=no",
        "MCP_PROXY_SET_UP": "1", "AWS_KEY": "a", "AWS_REGION": "r",
    ]
    static let allowed: Set<String> = [
        "PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_TIME", "TZ", "TMPDIR", "XDG_CONFIG_HOME", "SSL_CERT_FILE",
        "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
    ]

    static func configuration(
        _ inherited: StdioUpstreamConfiguration.InheritedEnvironment,
        _ environment: [(name: String, value: Secret)] = []
    ) -> StdioUpstreamConfiguration {
        StdioUpstreamConfiguration(
            command: "env",
            arguments: [],
            environment: environment,
            workingDirectory: nil,
            inherited: inherited
        )
    }

    @Test(
        "Of our variables a child gets the allowed ones, and those that the configuration names",
        arguments: [
            (.allowList, []), (.named(["AWS_*", "SECRET_TOKEN"]), ["AWS_KEY", "AWS_REGION", "SECRET_TOKEN"]),
            (.named(["AWS"]), []), (.named(["SWIFT_BACKTRACE", "MCP_PROXY_SET_UP", "NONE"]), []),
            (.all, ["SECRET_TOKEN", "HTTPS_PROXY", "PATHS", "LC", "AWS_KEY", "AWS_REGION"]),
            (.named(["*"]), ["SECRET_TOKEN", "HTTPS_PROXY", "PATHS", "LC", "AWS_KEY", "AWS_REGION"]),
        ] as [(StdioUpstreamConfiguration.InheritedEnvironment, Set<String>)]
    )
    func selects(_ inherited: StdioUpstreamConfiguration.InheritedEnvironment, _ more: Set<String>) {
        let variables = ChildEnvironment.variables(for: Self.configuration(inherited), from: Self.ours)
        #expect(Set(variables.keys) == Self.allowed.union(more))
        #expect(variables.allSatisfy { Self.ours[$0.key] == $0.value })
    }

    @Test("What the configuration sets wins, also over what a child never inherits")
    func configuredWins() {
        let configured = [("HOME", "/h"), ("A", "1"), ("SWIFT_BACKTRACE", "enable=yes")]
        let configuration = Self.configuration(.allowList, configured.map { ($0.0, Secret($0.1)) })
        let variables = ChildEnvironment.variables(for: configuration, from: Self.ours)
        #expect(variables["HOME"] == "/h")
        #expect(variables["A"] == "1")
        #expect(variables["SWIFT_BACKTRACE"] == "enable=yes")
    }

    @Test("The environment of the process is exactly the allowed variables and the configured ones")
    func environment() async throws {
        let child = try await TestChild(
            "env",
            environment: [("A", Secret("1")), ("B", Secret("x y=z"))],
            ours: Self.ours
        )
        try await child.start()
        let news = try await child.finish()
        let expected = Self.ours.filter { Self.allowed.contains($0.key) }.map { "\($0.key)=\($0.value)" }
        #expect(Set(news.texts) == Set(expected + ["A=1", "B=x y=z"]))
        #expect(news.lines.count == expected.count + 2)
    }

    @Test("Arguments arrive as they are: no shell reads them")
    func arguments() async throws {
        let arguments = ["a b", "$HOME", "`id`", "*", "'", "\"", ";", "", "größe"]
        let child = try await TestChild("printf", ["<%s>\\n"] + arguments)
        try await child.start()
        #expect(try await child.finish().texts == arguments.map { "<\($0)>" })
    }

    @Test("A child runs in its directory, in a session and a group of its own")
    func places() async throws {
        let child = try await TestChild("sh", ["-c", "pwd; exec cat"], workingDirectory: "/usr/lib")
        try await child.start()
        let processID = try await child.processID()
        #expect(try await child.lines() == ["/usr/lib"])
        #expect(SystemView.fields(of: processID).dropFirst(2).prefix(2) == ["\(processID)", "\(processID)"])
        try await child.stop()
        #expect(try await child.ending() == .stopped)
    }

    @Test("A child has the standard descriptors and no other")
    func descriptors() async throws {
        let news = try await TestChild.running("ls /proc/$$/fd; true").finish()
        #expect(news.texts == ["0", "1", "2"])
    }

    @Test("A child blocks and ignores no signal")
    func signals() async throws {
        let child = try await TestChild("grep", ["-E", "^Sig(Blk|Ign)", "/proc/self/status"])
        try await child.start()
        let news = try await child.finish()
        // Those above 31 are the C library's own.
        let masks = news.texts.compactMap { UInt64($0.suffix(16), radix: 16) }.map { $0 & 0x7fff_ffff }
        #expect(masks == [0, 0])
    }
}
