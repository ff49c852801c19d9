// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

/// Files by their paths.
struct TestFiles: SecretFileReader {
    var readings: [String: SecretFileReading] = [:]

    init(_ texts: [String: String] = [:]) {
        self.readings = texts.mapValues { .bytes(Array($0.utf8), isReadableByOthers: false) }
    }

    func read(_ path: String) -> SecretFileReading { self.readings[path] ?? .fault(.missing) }
}

@Suite("Secrets from files") struct SecretFileTests {
    private static let environment = [
        "DIR": "/d", "CREDENTIALS_DIRECTORY": "/run/credentials/x", "EMPTY": "", "file": "v",
    ]

    /// A document with a program whose one argument is this text.
    private func load(
        argument text: String,
        _ files: TestFiles,
        directory: String? = "etc",
        memory: SecretFileMemory = SecretFileMemory(),
        expandsEnvironment: Bool = true
    ) -> LoadResult {
        ConfigurationLoader.load(
            bytes: Array(document(server: "\"command\": \"c\", \"args\": [\(text)]").utf8),
            sourceName: "config.json",
            environment: Self.environment,
            options: LoadOptions(
                expandsEnvironment: expandsEnvironment,
                secretFiles: SecretFiles(directory: directory, reader: files, memory: memory)
            )
        )
    }

    private func argument(of result: LoadResult) -> String? {
        guard case .stdio(let stdio) = result.one?.transport else { return nil }
        return stdio.arguments.first
    }

    @Test(
        "A reference stands for the text of its file without the white space at its end",
        arguments: [
            ("${file:/a}", "secret"), ("Bearer ${file:/a}!", "Bearer secret!"), ("${file:/blank}", "  two words"),
            ("${file:/dollar}", "${DIR} $DIR $$ ${file:/a}"), ("${file:a}", "relative"), ("${file:../a}", "above"),
            ("${file:${DIR}/a}", "nested"), ("${file:${CREDENTIALS_DIRECTORY}/token}", "credential"),
            ("${file:/c$$t}", "dollar"), ("${file:/a}${file:/a}${DIR}", "secretsecret/d"), ("${file:-x}", "v"),
            ("${file}", "v"), ("$${file:/a}", "${file:/a}"), ("${DIR:-${file:/a}}", nil),
        ] as [(String, String?)]
    )
    func references(text: String, expected: String?) {
        let files = TestFiles([
            "/a": "secret\n", "/blank": "  two words \t\r\n\n", "/dollar": "${DIR} $DIR $$ ${file:/a}",
            "etc/a": "relative", "etc/../a": "above", "/d/a": "nested", "/run/credentials/x/token": "credential\n",
            "/c$t": "dollar",
        ])
        let result = self.load(argument: "\"\(text)\"", files)
        #expect(self.argument(of: result) == expected)
        #expect(result.codes == (expected == nil ? ["bad-expansion"] : []))
    }

    @Test(
        "What is no reference is an error at its line and column that says what is accepted",
        arguments: [
            ("${file:", "has no end"), ("${file:/a", "has no end"), ("${file:${DIR}", "has no end"),
            ("${file:}", "names no file"), ("${file:/a\\u0000}", "names no file"), ("${file:/a:-b}", "has no default"),
            ("${file:/a:-}", "has no default"), ("${file:$DIR/a}", "only ${VAR} is replaced"),
            ("${file:${DIR:-/d}/a}", "has no default"), ("${file:${file:/a}}", "only ${VAR} is replaced"),
            ("${file:/a$}", "only ${VAR} is replaced"), ("${file:${9}}", "only ${VAR} is replaced"),
        ]
    )
    func malformed(text: String, reason: String) throws {
        let result = self.load(argument: "\"\(text)\"", TestFiles(["/a": "secret", "b": "b"]))
        let finding = try #require(result.findings.first)
        #expect(result.codes == ["bad-expansion"] && result.snapshot == nil)
        #expect((finding.line, finding.column) == (4, 26))
        #expect(finding.message.contains(reason), "\(finding.message)")
    }

    @Test(
        "A file that gives no secret ends the start, and the message says what to do",
        arguments: [
            (.fault(.missing), "create it, or correct the path"),
            (.fault(.unreadable("Permission denied")), "(Permission denied); let the user of the gateway read it"),
            (.fault(.directory), "name the file in it"), (.fault(.noRegularFile), "is no regular file"),
            (.bytes([], isReadableByOthers: false), "write the secret into it"),
            (.bytes(Array(" \r\n\t\u{0b}\u{0c}".utf8), isReadableByOthers: false), "write the secret into it"),
            (.bytes(Array(repeating: 0x61, count: 64 * 1024 + 1), isReadableByOthers: false), "more than 64 KiB"),
            (.bytes(Array(repeating: 0x61, count: 65 * 1024), isReadableByOthers: false), "more than 64 KiB"),
            (.bytes([0x61, 0xff], isReadableByOthers: false), "is not UTF-8 text"),
            (.bytes([0x61, 0, 0x62], isReadableByOthers: false), "has a NUL byte"),
        ] as [(SecretFileReading, String)]
    )
    func faults(reading: SecretFileReading, reason: String) throws {
        var files = TestFiles()
        files.readings["/s"] = reading
        let result = self.load(argument: #""${file:/s}""#, files)
        let finding = try #require(result.findings.first)
        #expect(result.snapshot == nil && result.codes == ["unusable-secret-file"])
        #expect(finding.path == "mcpServers.one.args[0]")
        #expect((finding.line, finding.column) == (4, 26))
        #expect(finding.message.contains(reason) && finding.message.contains("\"/s\""), "\(finding.message)")
    }

    @Test("64 KiB are a secret")
    func largest() {
        let text = String(repeating: "x", count: 64 * 1024)
        let result = self.load(argument: #""${file:/s}""#, TestFiles(["/s": text]))
        #expect(self.argument(of: result) == text)
    }

    @Test(
        "A path that cannot be known is an error",
        arguments: [
            ("${file:${UNSET}/a}", "etc", "UNSET is not set"), ("${file:${EMPTY}/a}", "etc", "EMPTY is not set"),
            ("${file:a}", nil, "came from a URL"), ("${file:~/a}", nil, "came from a URL"),
            ("${file:a}", "etc", "relative paths count from the directory of the configuration"),
            ("${file:~/a}", "etc", "~ is not expanded"),
        ] as [(String, String?, String)]
    )
    func unknownPaths(text: String, directory: String?, reason: String) throws {
        let result = self.load(argument: "\"\(text)\"", TestFiles(["/a": "x"]), directory: directory)
        #expect(result.codes == ["unusable-secret-file"])
        #expect(try #require(result.findings.first).message.contains(reason))
    }

    @Test("A configuration from a URL may name files by whole paths")
    func fromURL() {
        let result = self.load(argument: #""${file:/a}""#, TestFiles(["/a": "x"]), directory: nil)
        #expect(self.argument(of: result) == "x")
    }

    @Test("Without quotes it is an error, and with expansion switched off it stays as it is")
    func places() {
        let files = TestFiles(["/a": "x"])
        #expect(self.load(argument: "${file:/a}", files).codes == ["bad-expansion"])
        let off = self.load(argument: #""${file:/a}""#, files, expandsEnvironment: false)
        #expect(self.argument(of: off) == "${file:/a}")
        let keys = self.load(argument: #""x"], "env": {"${file:/a}": "1"}, "args": ["#, files)
        #expect(keys.codes.contains("key-not-expanded"))
    }

    @Test("An empty secret is never a weaker setting: a list of tokens from missing files opens nothing")
    func neverWeaker() {
        for options in [#""authTokens": ["${file:/gone}"]"#, #""auth": {"tokens": ["${file:/gone}"]}"#] {
            let result = GatewayConfigurationTests.load(document(options: options))
            #expect(result.snapshot == nil && result.codes.contains("unusable-secret-file"))
        }
    }

    @Test(
        "A secret file that everybody can read is a warning, but where the system keeps secrets",
        arguments: [
            ("/etc/token", true), ("/run/secrets/token", false), ("/var/run/secrets/a/token", false),
            ("/run/credentials/x/token", false), ("/run/secrets/../../etc/token", true), ("/run/secretsx/token", true),
            ("/run/credentials/xy/token", true),
        ]
    )
    func readable(path: String, isWarning: Bool) {
        var files = TestFiles()
        files.readings[path] = .bytes(Array("secret".utf8), isReadableByOthers: true)
        let result = self.load(argument: "\"${file:\(path)}\", \"${file:\(path)}\"", files)
        #expect(result.snapshot != nil)
        #expect(result.codes == (isWarning ? ["secret-file-readable-by-others"] : []))
    }

    @Test("A document names 1,000 files and no more")
    func bounded() {
        for (count, loads) in [(1_000, true), (1_001, false)] {
            let names = (0..<count).map { "/f\($0)" }
            let files = TestFiles(Dictionary(uniqueKeysWithValues: names.map { ($0, "x") }))
            let result = self.load(argument: names.map { "\"${file:\($0)}\"" }.joined(separator: ","), files)
            #expect((result.snapshot != nil) == loads)
            #expect(result.codes == (loads ? [] : ["too-large"]))
        }
    }

    @Test("The snapshot tells the redactor what came from files, and nothing shows it")
    func silence() throws {
        let files = TestFiles(["/a": "CANARY-file\n"])
        let result = self.load(argument: #""--token=${file:/a}""#, files)
        #expect(try #require(result.snapshot).secretsFromFiles == [Secret("CANARY-file")])
        var text = ""
        dump(result.secretFiles, to: &text)
        #expect(!text.contains("CANARY") && !"\(result.findings)".contains("CANARY"))
    }

    @Test("What a file gives is no secret that the document spells out")
    func notLiteral() {
        for value in ["Bearer ${file:/a}", "Bearer ${file:${DIR}/a}", "${file:/run/k3jf82hf9a8s7df6g5h4}"] {
            let text = document(server: #""url": "https://h/", "headers": {"Authorization": "\#(value)"}"#)
            #expect(GatewayConfigurationTests.load(text).literalSecret == nil)
        }
        let text = document(server: #""url": "https://h/", "headers": {"Authorization": "${file:${DIR}/a}abc"}"#)
        #expect(GatewayConfigurationTests.load(text).literalSecret != nil)
    }
}
