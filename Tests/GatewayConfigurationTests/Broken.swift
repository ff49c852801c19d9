// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayConfiguration

/// A configuration with one mistake, whose place is marked with `▶`.
struct Broken: Sendable, CustomTestStringConvertible {
    var text: String
    var position: SourcePosition
    var code: Finding.Code
    var path: String
    /// Whether the JSON Schema can see the mistake.
    var isSeenBySchema: Bool

    init(_ code: Finding.Code, _ path: String, schema: Bool = true, _ marked: String) {
        let parts = marked.split(separator: "▶", maxSplits: 1, omittingEmptySubsequences: false)
        var position = SourcePosition.start
        for scalar in parts[0].unicodeScalars {
            position = scalar == "\n" ? SourcePosition(line: position.line + 1, column: 1) : position
            if scalar != "\n" { position.column += 1 }
        }
        self.text = parts.joined()
        self.position = position
        self.code = code
        self.path = path
        self.isSeenBySchema = schema
    }

    /// A mistake in the members of `mcpProxy`, all of which are given.
    static func gateway(_ code: Finding.Code, _ path: String, schema: Bool = true, _ members: String) -> Broken {
        Broken(
            code,
            "mcpProxy.\(path)",
            schema: schema,
            """
            {"mcpServers": {"one": {"url": "https://up.example.com/mcp"}},
            "mcpProxy": {\(members)}}
            """
        )
    }

    /// A mistake in further members of a sound `mcpProxy`.
    static func extra(_ code: Finding.Code, _ path: String, schema: Bool = true, _ members: String) -> Broken {
        Self.gateway(
            code,
            path,
            schema: schema,
            #""baseURL": "http://localhost", "addr": "127.0.0.1:1", "name": "n", "version": "1","# + "\n" + members
        )
    }

    /// A mistake in the server `one`.
    static func server(_ code: Finding.Code, _ path: String, schema: Bool = true, _ members: String) -> Broken {
        Broken(
            code,
            path.isEmpty ? "mcpServers.one" : "mcpServers.one.\(path)",
            schema: schema,
            document(server: members)
        )
    }

    /// A mistake in the options of the server `one`.
    static func options(_ code: Finding.Code, _ path: String, schema: Bool = true, _ members: String) -> Broken {
        Broken(code, "mcpServers.one.options.\(path)", schema: schema, document(options: members))
    }

    var testDescription: String { "\(self.code.rawValue) at \(self.path): \(self.text.suffix(160))" }
}
