// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@Suite("Fuzz corpus of the configuration") struct CorpusTests {
    private static let folder = "Fuzz/Corpus/configuration"

    @Test("No committed input breaks an invariant of the reader", arguments: try Repository.files(in: Self.folder))
    func replays(_ file: String) throws {
        #expect(ConfigurationInvariants.violation(of: try Repository.bytes(of: "\(Self.folder)/\(file)")) == nil)
    }

    @Test("The corpus is there")
    func hasFiles() throws {
        #expect(try Repository.files(in: Self.folder).count >= 25)
    }
}
