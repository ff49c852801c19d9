// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Recognises configurations of other programs that are no JSON: TOML as Codex has it, and YAML.
enum ForeignText {
    /// What is wrong with a text that cannot be read as JSON, if it is of another kind; its first line that says something shows it.
    static func failure(of bytes: [UInt8]) -> JSONCReader.Failure? {
        var number = 0
        for line in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            number += 1
            let blanks = line.prefix { Self.isBlank($0) }
            var text = line.dropFirst(blanks.count)
            while let last = text.last, Self.isBlank(last) { text.removeLast() }
            if text.isEmpty || text.first == UInt8(ascii: "#") { continue }
            guard let kind = Self.kind(of: text) else { return nil }
            return JSONCReader.Failure(
                code: .foreignFile,
                position: SourcePosition(line: number, column: blanks.count + 1),
                path: .root,
                message: DocumentKind.advice(of: kind)
            )
        }
        return nil
    }

    private static func kind(of line: ArraySlice<UInt8>) -> String? {
        if line.elementsEqual("---".utf8) { return Self.yaml }
        if line.first == UInt8(ascii: "[") {
            // A table: `[mcp_servers.name]`, `[[projects]]`.
            let name = line.drop { $0 == UInt8(ascii: "[") }.prefix { $0 != UInt8(ascii: "]") }
            let isName = name.first.map { Self.isWord($0) && !JSONCReader.isDigit($0) } == true
            let isTable = line.contains(UInt8(ascii: "]")) && !name.contains(UInt8(ascii: ","))
            return isName && isTable ? Self.toml : nil
        }
        let name = line.prefix { Self.isWord($0) || $0 == UInt8(ascii: ".") }
        guard !name.isEmpty else { return nil }
        let rest = line.dropFirst(name.count)
        if rest.drop(while: Self.isBlank).first == UInt8(ascii: "=") { return Self.toml }
        guard rest.first == UInt8(ascii: ":") else { return nil }
        return rest.count == 1 || rest.dropFirst().first.map(Self.isBlank) == true ? Self.yaml : nil
    }

    private static let toml = "of TOML, as Codex has it"
    private static let yaml = "of YAML"

    private static func isBlank(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") || byte == UInt8(ascii: "\r")
    }

    private static func isWord(_ byte: UInt8) -> Bool { JSONCReader.isWordByte(byte) || byte == UInt8(ascii: "-") }
}
