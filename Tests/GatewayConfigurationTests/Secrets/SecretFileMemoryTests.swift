// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

@Suite("The last good values of secret files") struct SecretFileMemoryTests {
    private static let faults: [SecretFileReading] = [
        .fault(.missing), .fault(.unreadable("Input/output error")), .fault(.directory), .fault(.noRegularFile),
        .bytes([], isReadableByOthers: false), .bytes([0x0a], isReadableByOthers: false),
        .bytes(Array(repeating: 0x61, count: 65 * 1024), isReadableByOthers: false),
        .bytes([0xff], isReadableByOthers: false), .bytes([0], isReadableByOthers: false),
    ]

    private func load(
        _ readings: [String: SecretFileReading],
        references: [String] = ["/s"],
        memory: SecretFileMemory = SecretFileMemory()
    ) -> LoadResult {
        var files = TestFiles()
        files.readings = readings
        let tokens = references.map { "\"${file:\($0)}\"" }.joined(separator: ", ")
        let options = "\"auth\": {\"tokens\": [\(tokens)], \"rotationMode\": \"round-robin\"}"
        return ConfigurationLoader.load(
            bytes: Array(document(options: options).utf8),
            sourceName: "config.json",
            environment: [:],
            options: LoadOptions(secretFiles: SecretFiles(directory: "", reader: files, memory: memory))
        )
    }

    private func good(_ text: String) -> SecretFileReading { .bytes(Array(text.utf8), isReadableByOthers: false) }

    @Test(
        "A file that cannot be used any more keeps its last value, with a warning that says why",
        arguments: Self.faults.indices
    )
    func kept(index: Int) throws {
        let first = self.load(["/s": self.good("one")])
        let second = self.load(["/s": Self.faults[index]], memory: first.secretFiles)
        #expect(try #require(second.snapshot).upstreams.count == 1)
        #expect(second.pool?.tokens == [Secret("one")])
        #expect(second.codes == ["secret-file-kept"])
        #expect(try #require(second.findings.first).message.contains("until then its last value stays"))
        #expect(second.secretFiles.faultCount == 1)
        // And again, however often it is asked for.
        let third = self.load(["/s": Self.faults[index]], memory: second.secretFiles)
        #expect(third.pool?.tokens == [Secret("one")])
        #expect(third.findings == second.findings)
        let fourth = self.load(["/s": self.good("two\n")], memory: third.secretFiles)
        #expect(fourth.pool?.tokens == [Secret("two")])
        #expect(fourth.codes == [] && fourth.secretFiles.faultCount == 0)
    }

    @Test("A new reference to a file that cannot be used is an error, also where others keep their values")
    func newReference() {
        let first = self.load(["/s": self.good("one")])
        let second = self.load([:], references: ["/s", "/t"], memory: first.secretFiles)
        #expect(second.snapshot == nil)
        #expect(second.codes == ["secret-file-kept", "unusable-secret-file"])
    }

    @Test("A file that the running configuration no longer names is forgotten")
    func forgotten() {
        let first = self.load(["/s": self.good("one"), "/t": self.good("two")], references: ["/s", "/t"])
        #expect(first.secretFiles.paths == ["/s", "/t"])
        let second = self.load(["/s": self.good("one")], memory: first.secretFiles)
        #expect(second.secretFiles.paths == ["/s"])
        let third = self.load(["/s": self.good("one")], references: ["/s", "/t"], memory: second.secretFiles)
        #expect(third.snapshot == nil && third.codes == ["unusable-secret-file"])
    }

    @Test("The reason of a fault that changes is another finding")
    func reasons() {
        let first = self.load(["/s": self.good("one")])
        let missing = self.load([:], memory: first.secretFiles)
        let empty = self.load(["/s": self.good("")], memory: missing.secretFiles)
        #expect(missing.findings != empty.findings)
        #expect(empty.pool?.tokens == [Secret("one")])
    }
}
