// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel

/// A place of a document, for what is found after it was read.
package struct DocumentPlace: Hashable, Sendable {
    /// As in ``Finding/path``.
    package let path: String
    /// The line, counted from 1.
    package let line: Int
    /// The column, counted from 1 in Unicode scalars.
    package let column: Int

    init(_ node: Node) {
        self.path = node.path.description
        self.line = node.position.line
        self.column = node.position.column
    }

    func finding(_ code: Finding.Code, _ message: String) -> Finding {
        Finding(code: code, path: self.path, line: self.line, column: self.column, message: message)
    }
}

/// What a configuration names of the machine that it is for: files, directories and programs of servers that are started.
struct Mentions: Sendable {
    /// The `tls` of a server or of its outbound proxy, where TLS is spoken.
    struct TLS: Sendable {
        var settings: TLSClientConfiguration
        /// By the name of the key.
        var places: [String: DocumentPlace]
        var place: DocumentPlace
    }

    struct Program: Sendable {
        var server: String
        var configuration: StdioUpstreamConfiguration
        var command: DocumentPlace
        var directory: DocumentPlace?
        /// As many as it has arguments, unless one of them is no text.
        var arguments: [DocumentPlace]
    }

    var tls: [TLS] = []
    var programs: [Program] = []
    /// The files that `envFile` names.
    var variableFiles: [String] = []

    mutating func add(_ settings: TLSClientConfiguration, at node: Node?) {
        guard let node, !self.tls.contains(where: { $0.place == DocumentPlace(node) }) else { return }
        let places = ["caFile", "certFile", "keyFile"].compactMap { key in node[key].map { (key, DocumentPlace($0)) } }
        guard !places.isEmpty else { return }
        self.tls.append(
            TLS(settings: settings, places: .init(places) { first, _ in first }, place: DocumentPlace(node))
        )
    }

    mutating func add(_ program: StdioUpstreamConfiguration, of server: String, at node: Node) {
        guard let command = node["command"], !program.command.isEmpty else { return }
        self.programs.append(
            Program(
                server: server,
                configuration: program,
                command: DocumentPlace(command),
                directory: node["cwd"].map { DocumentPlace($0) },
                arguments: (node["args"]?.elements ?? []).map { DocumentPlace($0) }
            )
        )
    }
}
