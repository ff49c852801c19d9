// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What `/_status` of a running gateway says of its process and its configuration, for `mcp-proxy reload`.
package struct GatewayStatus: Hashable, Sendable {
    /// What became of the last attempt to read the configuration again.
    package struct Reload: Hashable, Sendable {
        /// `applied`, `unchanged` or `rejected`.
        package let result: String
        /// Names of servers by what became of them: `added`, `removed`, `replaced`, `tuned`; only those that there are.
        package let servers: [String: [String]]
        /// How many servers nothing changed for.
        package let same: Int
        /// Findings, as `check` prints them.
        package let problems: [String]
    }

    /// Bytes that a status may have: it says something of every server.
    package static let sizeLimit = 64 * 1024 * 1024

    package let processID: Int32
    /// Where the configuration of the gateway is from.
    package let source: String
    /// Counted from 1, one more for each configuration that was applied.
    package let generation: Int
    /// How often it was tried to read the configuration again.
    package let reloads: Int
    package let last: Reload?

    /// nil for what is no status of a gateway that can say so.
    package init?(_ bytes: [UInt8]) {
        var reader = JSONCReader(bytes: bytes, bounds: JSONCReader.Bounds(bytes: Self.sizeLimit))
        guard let status = try? reader.read(), let configuration = status["configuration"],
            let processID = status["pid"]?.number.flatMap({ Int32($0) }), processID > 0,
            let source = configuration["source"]?.string,
            let generation = configuration["generation"]?.number.flatMap({ Int($0) }),
            let reloads = configuration["reloads"]?.number.flatMap({ Int($0) })
        else { return nil }
        self.processID = processID
        self.source = source
        self.generation = generation
        self.reloads = reloads
        self.last = configuration["lastReload"].flatMap { Reload($0) }
    }

    /// What the last attempt came to, in a line.
    package var text: String {
        guard let last else { return "\(self.source) (generation \(self.generation)) was not read again yet" }
        if last.result == "rejected" {
            return "\(self.source) was refused; what ran goes on (generation \(self.generation))"
        }
        guard last.result == "applied" else {
            return "\(self.source) means the same as before (generation \(self.generation)): \(last.same) unchanged"
        }
        let parts = Reload.kinds.compactMap { kind in
            last.servers[kind].map { "\(kind) \($0.joined(separator: ", "))" }
        }
        return "reloaded \(self.source) (generation \(self.generation)): "
            + (parts + ["\(last.same) unchanged"]).joined(separator: " · ")
    }
}

extension GatewayStatus.Reload {
    fileprivate static let kinds = ["added", "removed", "replaced", "tuned"]

    fileprivate init?(_ node: Node) {
        guard let result = node["result"]?.string else { return nil }
        self.result = result
        self.same = node["same"]?.number.flatMap { Int($0) } ?? 0
        self.problems = (node["problems"]?.elements ?? []).compactMap(\.string)
        var servers: [String: [String]] = [:]
        for kind in Self.kinds {
            let names = (node[kind]?.elements ?? []).compactMap(\.string)
            if !names.isEmpty { servers[kind] = names }
        }
        self.servers = servers
    }
}
