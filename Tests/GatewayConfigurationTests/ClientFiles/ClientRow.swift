// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

/// A file without `mcpProxy`, and all that is said about it; where each of it is said is marked with `▶`, in order.
struct ClientRow: Sendable, CustomTestStringConvertible {
    var text: String
    /// Level and code, such as `info foreign-key`.
    var said: [String]
    var positions: [SourcePosition]

    init(_ marked: String, _ said: [String]) {
        let parts = marked.split(separator: "▶", omittingEmptySubsequences: false)
        var position = SourcePosition.start
        self.positions = parts.dropLast()
            .map { part in
                for scalar in part.unicodeScalars {
                    position = scalar == "\n" ? SourcePosition(line: position.line + 1, column: 1) : position
                    if scalar != "\n" { position.column += 1 }
                }
                return position
            }
        self.text = parts.joined()
        self.said = said
    }

    /// The same with one server, named `one`, whose members are given.
    static func server(_ members: String, _ said: [String] = []) -> ClientRow {
        ClientRow("{\"mcpServers\": {\"one\": {\n\(members)\n}}}", said)
    }

    /// The same, reached by an https url.
    static func http(_ members: String, _ said: [String] = []) -> ClientRow {
        .server("\"url\": \"https://h/mcp\",\n\(members)", said)
    }

    /// The same, a program.
    static func stdio(_ members: String, _ said: [String] = []) -> ClientRow {
        .server("\"command\": \"c\",\n\(members)", said)
    }

    var testDescription: String { "\(self.said): \(self.text.prefix(200))" }
}

extension LoadResult {
    /// All that is said, as ``ClientRow/said`` has it.
    var said: [String] { self.findings.map { "\($0.severity.rawValue) \($0.code.rawValue)" } }

    /// Where it is said.
    var positions: [SourcePosition] { self.findings.map { SourcePosition(line: $0.line, column: $0.column) } }

    /// The first program's part.
    var stdio: StdioUpstreamConfiguration? {
        guard case .stdio(let stdio) = self.understood?.upstreams.first?.transport else { return nil }
        return stdio
    }
}
