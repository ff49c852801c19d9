// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayConfiguration

/// What holds for any bytes that are taken for a configuration file: nothing traps, whoever cannot start is told why, at
/// a place in the file, and what a reader does not see (blanks at the end, a byte order mark) changes nothing.
enum ConfigurationInvariants {
    /// Variables that inputs refer to.
    static let environment = [
        "TOKEN": "a-token-of-some-length", "EMPTY": "", "PORT": "9090", "LIST": #"["a","b"]"#, "QUOTE": "a\"b",
    ]

    /// What is violated by `bytes`; nil if nothing is.
    static func violation(of bytes: [UInt8]) -> String? {
        for expands in [true, false] {
            let result = self.load(bytes, expands: expands)
            if let violation = self.violation(of: result, lines: self.lines(bytes)) { return violation }
            guard self.load(bytes, expands: expands).findings == result.findings else {
                return "two readings of the same bytes differ"
            }
            if let snapshot = result.understood {
                let summary = ConfigurationSummary(snapshot, environment: self.environment).text
                if summary.isEmpty { return "nothing is said of what was understood" }
            }
            guard result.snapshot != nil else { continue }
            guard self.load(bytes + Array(" \r\n\t// a comment\n".utf8), expands: expands).findings == result.findings
            else { return "blanks at the end change what is found" }
            if !bytes.starts(with: [0xef, 0xbb, 0xbf]) {
                guard self.load([0xef, 0xbb, 0xbf] + bytes, expands: expands).snapshot != nil else {
                    return "a byte order mark makes it unreadable"
                }
            }
        }
        return nil
    }

    private static func load(_ bytes: [UInt8], expands: Bool) -> LoadResult {
        ConfigurationLoader.load(
            bytes: bytes,
            sourceName: "fuzz.json",
            environment: self.environment,
            options: LoadOptions(expandsEnvironment: expands)
        )
    }

    private static func violation(of result: LoadResult, lines: Int) -> String? {
        let hasError = result.findings.contains { $0.severity == .error }
        if (result.snapshot == nil) != hasError { return "it loads with an error, or not without one" }
        for finding in result.findings {
            guard (1...lines).contains(finding.line), finding.column >= 1 else {
                return "line \(finding.line) of \(lines) and column \(finding.column) are no place in the file"
            }
            if finding.message.isEmpty { return "a finding without words" }
            if finding.rendered(sourceName: "f").utf8.contains(where: { $0 < 0x20 }) {
                return "a finding with control characters"
            }
        }
        return nil
    }

    /// The number of lines as editors count them.
    private static func lines(_ bytes: [UInt8]) -> Int {
        var count = 1
        for index in bytes.indices {
            let isCarriageReturn = bytes[index] == UInt8(ascii: "\r")
            let isFollowed = index + 1 < bytes.count && bytes[index + 1] == UInt8(ascii: "\n")
            if bytes[index] == UInt8(ascii: "\n") || isCarriageReturn && !isFollowed { count += 1 }
        }
        return count
    }
}
