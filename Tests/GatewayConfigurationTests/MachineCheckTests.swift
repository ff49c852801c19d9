// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

/// A machine of a few files; the values say what they are.
struct TestMachine: Machine {
    enum Kind {
        case directory
        case closedDirectory
        case text
        case program
        case script(String)
    }

    var files: [String: Kind] = [:]
    /// Paths of files of `tls` that cannot be used.
    var unusable: Set<String> = []

    func entry(at path: String) -> MachineEntry {
        switch self.files[path] {
        case nil: .nothing
        case .directory, .closedDirectory: .directory
        case .text: .file(isExecutable: false)
        case .program, .script: .file(isExecutable: true)
        }
    }

    func canEnter(_ path: String) -> Bool {
        guard case .closedDirectory = self.files[path] else { return true }
        return false
    }

    func interpreter(of path: String) -> String? {
        guard case .script(let line) = self.files[path] else { return nil }
        return line
    }

    func fault(in tls: TLSClientConfiguration) -> MachineFault? {
        for (key, file) in [("caFile", tls.caFile), ("certFile", tls.certFile), ("keyFile", tls.keyFile)] {
            if let file, self.unusable.contains(file) { return MachineFault(key: key, reason: "does not exist") }
        }
        return nil
    }
}

@Suite("What a machine lacks") struct MachineCheckTests {
    private static let environment = ["PATH": "/usr/bin:relative:/bin", "HOME": "/home/me"]

    private func check(
        _ server: String,
        _ files: [String: TestMachine.Kind] = [:],
        unusable: Set<String> = [],
        environment: [String: String] = Self.environment,
        gateway: String = ""
    ) -> LoadResult {
        load(document(server: server, gateway: gateway), environment: environment)
            .checked(on: TestMachine(files: files, unusable: unusable), environment: environment)
    }

    @Test(
        "A program is found where its own environment says",
        arguments: [
            (#""command": "uvx""#, ["/usr/bin/uvx": .program]), (#""command": "uvx""#, ["/bin/uvx": .program]),
            (#""command": "/opt/x""#, ["/opt/x": .program]), (#""command": "./x""#, ["./x": .program]),
            (#""command": "./x", "cwd": "/srv""#, ["/srv": .directory, "/srv/./x": .program]),
            (#""command": "uvx", "env": {"PATH": "/own"}"#, ["/own/uvx": .program]),
            (#""command": "x""#, ["/bin/x": .script("/bin/sh -e"), "/bin/sh": .program]),
            (
                #""command": "x""#,
                [
                    "/bin/x": .script(" /usr/bin/env -S python3 -u"), "/usr/bin/env": .program,
                    "/usr/bin/python3": .program,
                ]
            ),
        ] as [(String, [String: TestMachine.Kind])]
    )
    func found(server: String, files: [String: TestMachine.Kind]) {
        #expect(self.check(server, files).codes == [])
    }

    @Test(
        "A program that cannot be started is a warning at its command that says why",
        arguments: [
            (#""command": "uvx""#, [:], #""uvx" is not in the program's PATH (/usr/bin:/bin); install it"#),
            (
                #""command": "uvx""#, ["/home/me/.local/bin/uvx": .program],
                #"is not in the program's PATH (/usr/bin:/bin); write "/home/me/.local/bin/uvx", or"#
            ),
            (
                #""command": "uvx", "env": {"PATH": "/CANARY"}"#, ["/usr/bin/uvx": .program],
                #""uvx" is not in the PATH that env gives it; write "/usr/bin/uvx""#
            ),
            (#""command": "uvx""#, ["relative/uvx": .program], "is not in the program's PATH"),
            (#""command": "uvx""#, ["/usr/bin/uvx": .directory], "is not in the program's PATH"),
            (#""command": "uvx""#, ["/bin/uvx": .text], #""/bin/uvx" is not executable for this user; chmod +x"#),
            (#""command": "/opt/x""#, ["/opt/x": .text], #""/opt/x" is not executable"#),
            (#""command": "/opt/x""#, [:], #"there is no program "/opt/x""#),
            (#""command": "/opt""#, ["/opt": .directory], #""/opt" is a directory"#),
            (
                #""command": "~/bin/x""#, ["/home/me/bin/x": .program],
                "~ is not expanded, write the whole path or ${HOME}/"
            ),
            (
                #""command": "x""#, ["/bin/x": .script("/usr/bin/python3.13")],
                #"names "/usr/bin/python3.13", which is not there"#
            ),
            (
                #""command": "x""#, ["/bin/x": .script("/usr/bin/env node"), "/usr/bin/env": .program],
                #"wants "node", which is not in the program's PATH"#
            ),
        ] as [(String, [String: TestMachine.Kind], String)]
    )
    func notFound(server: String, files: [String: TestMachine.Kind], message: String) throws {
        let result = self.check(server, files)
        let finding = try #require(result.findings.first)
        #expect(result.codes == ["unusable-program"])
        #expect(result.snapshot != nil)
        #expect(finding.path == "mcpServers.one.command" && finding.line == 4)
        #expect(finding.message.contains(message), "\(finding.message)")
        #expect(!finding.message.contains("CANARY"))
    }

    @Test(
        "A directory that a program cannot be started in is a warning",
        arguments: [
            ("/srv", nil, "there is no directory"), ("~/x", nil, "~ is not expanded"),
            ("/srv", .text, "is no directory"),
            ("/srv", .closedDirectory, "may not enter"),
        ] as [(String, TestMachine.Kind?, String)]
    )
    func directories(path: String, kind: TestMachine.Kind?, message: String) {
        var files: [String: TestMachine.Kind] = ["/bin/c": .program]
        files[path] = kind
        let result = self.check(#""command": "c", "cwd": "\#(path)""#, files)
        #expect(result.codes == ["unusable-directory"])
        #expect(result.findings.first?.path == "mcpServers.one.cwd")
        #expect(result.findings.first?.message.contains(message) == true)
    }

    @Test("An argument that begins with ~/ is worth a line, since nobody expands it")
    func tilde() {
        let result = self.check(#""command": "c", "args": ["-d", "~/CANARY", "~", "a~/"]"#, ["/bin/c": .program])
        #expect(result.codes == ["tilde-not-expanded"])
        #expect(result.findings.first?.path == "mcpServers.one.args[1]")
        #expect(result.findings.first?.message.contains("CANARY") == false)
    }

    @Test(
        "A certificate file that cannot be used ends the start, at the key that names it",
        arguments: [
            (#""url": "https://h/", "tls": {"caFile": "/gone"}"#, "tls.caFile"),
            (#""url": "https://h/", "tls": {"certFile": "c", "keyFile": "/gone"}"#, "tls.keyFile"),
            (
                #""url": "https://h/", "options": {"proxy": {"url": "https://p", "tls": {"caFile": "/gone"}}}"#,
                "options.proxy.tls.caFile"
            ),
        ]
    )
    func certificates(server: String, path: String) {
        let result = self.check(server, unusable: ["/gone"])
        #expect(result.snapshot == nil)
        #expect(result.codes == ["unusable-file"])
        #expect(result.findings.first?.path == "mcpServers.one.\(path)")
        #expect(result.findings.first?.message == #""/gone" does not exist"#)
    }

    @Test("A file of a proxy that all servers inherit is said once, and only if one of them takes that proxy")
    func inherited() {
        let proxy = #", "options": {"proxy": {"url": "https://p", "noProxy": "h", "tls": {"caFile": "/gone"}}}"#
        let taken = self.check(
            #""url": "https://up.test/"}, "two": {"url": "https://up.test/""#,
            unusable: ["/gone"],
            gateway: proxy
        )
        #expect(taken.findings.map(\.path) == ["mcpProxy.options.proxy.tls.caFile"])
        #expect(self.check(#""url": "https://h/""#, unusable: ["/gone"], gateway: proxy).codes == [])
    }

    @Test(
        "What is not started, or speaks no TLS, needs nothing",
        arguments: [
            #""command": "gone", "options": {"disabled": true}"#, #""command": "gone", "disabled": true"#,
            #""url": "https://h/", "tls": {"caFile": "/gone"}, "options": {"disabled": true}"#,
            #""url": "https://h/", "tls": {"caFile": "/gone"}, "oauth": {}"#,
        ]
    )
    func notStarted(server: String) {
        let codes = self.check(server, unusable: ["/gone"]).codes
        #expect(!codes.contains { $0.hasPrefix("unusable") })
        #expect(
            self.check(#""url": "http://localhost/", "tls": {"caFile": "/gone"}"#, unusable: ["/gone"]).codes == [
                "no-effect"
            ]
        )
    }

    @Test(
        "Proxy variables that a program does not get are one line, with what passes them",
        arguments: [
            (["HTTPS_PROXY": "p", "NO_PROXY": "x"], "", ["HTTPS_PROXY", "NO_PROXY"]),
            (["https_proxy": "p"], "", ["https_proxy"]),
            (["ALL_PROXY": "p"], "", ["ALL_PROXY"]), (["NO_PROXY": "x"], "", ["NO_PROXY"]),
            (["HTTPS_PROXY": ""], "", []),
            (["HTTPS_PROXY": "p"], #", "env": {"https_proxy": "q"}"#, []),
            (["HTTPS_PROXY": "p"], #", "inheritEnv": true"#, []),
            (["HTTPS_PROXY": "p", "HTTP_PROXY": "p"], #", "inheritEnv": ["HTTPS_PROXY"]"#, ["HTTP_PROXY"]),
            ([:], "", []),
        ] as [([String: String], String, [String])]
    )
    func proxyVariables(variables: [String: String], members: String, missing: [String]) throws {
        let environment = Self.environment.merging(variables) { $1 }
        let result = self.check("\"command\": \"c\"\(members)", ["/bin/c": .program], environment: environment)
        guard !missing.isEmpty else {
            #expect(result.codes == [])
            return
        }
        let finding = try #require(result.findings.first)
        #expect(result.codes == ["proxy-not-passed"] && finding.severity == .info)
        #expect(finding.message.hasPrefix("\(missing.joined(separator: ", ")) "))
        let names = missing.map { "\"\($0)\"" }.joined(separator: ", ")
        #expect(finding.message.contains("\"inheritEnv\": [\(names)]"), "\(finding.message)")
    }

    @Test("Of twelve programs without them ten are named")
    func manyPrograms() {
        let more = (2...12).map { "}, \"s\($0)\": {\"command\": \"c\"" }.joined()
        let environment = Self.environment.merging(["HTTPS_PROXY": "p"]) { $1 }
        let result = self.check("\"command\": \"c\"\(more)", ["/bin/c": .program], environment: environment)
        #expect(result.codes == ["proxy-not-passed"])
        #expect(result.findings.first?.message.contains("one, s2, s3") == true)
        #expect(result.findings.first?.message.contains("s10 and 2 more") == true)
    }
}
