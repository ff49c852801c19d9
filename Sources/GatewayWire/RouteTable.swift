// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What a path of the gateway leads to (contract §3).
package enum Route: Hashable, Sendable {
    /// Streamable HTTP of the server with this index: `P/NAME/mcp`, `P/NAME`; each also with a slash behind it.
    case mcp(server: Int)
    /// The stream of the 2024-11-05 transport: `P/NAME/sse`, `P/NAME/sse/`.
    case sse(server: Int)
    /// The messages of the 2024-11-05 transport: `P/NAME/message`, `P/NAME/message/`.
    case message(server: Int)
    /// `/_healthz`
    case health
    /// `/_readyz`
    case readiness
    /// `/metrics`
    case metrics
    /// `/_status`
    case status
}

/// Finds the route of a path by its undecoded bytes, in a time that does not depend on the number of servers.
///
/// The match is exact: nothing is decoded, normalised or folded, so `/x/../a`, `//a` and `/%61` are not `/a`. A name with
/// bytes above 0x7f is registered percent-encoded with upper-case digits, as clients send it (RFC 3986 §2.1).
package struct RouteTable: Sendable {
    /// Two servers would have the same path.
    package struct Collision: Error, Hashable, Sendable {
        package let path: String
        package let first: Route
        package let second: Route
    }

    private struct Entry: Sendable {
        /// Where the path stands in `paths`.
        let start: Int
        let count: Int
        let route: Route
    }

    private var entries: [Entry] = []
    /// The bytes of every path, one after the other.
    private var paths: [UInt8] = []
    /// Indexes into `entries`, -1 where free; a power of two, at most half full.
    private var slots: [Int]
    private var longestPath = 0

    /// - Parameters:
    ///   - basePath: the path of `baseURL`, undecoded, without a slash at its end; empty at the root.
    ///   - servers: the index of each server and its route under `basePath`, without slashes at its ends.
    /// - Throws: ``Collision`` if two routes would have the same path.
    package init(basePath: String, servers: [(index: Int, route: String)]) throws(Collision) {
        var capacity = 16
        while capacity < 2 * (8 * servers.count + 8) { capacity *= 2 }
        self.slots = Array(repeating: -1, count: capacity)
        for (suffix, route) in [
            ("/_healthz", Route.health), ("/_readyz", .readiness), ("/metrics", .metrics), ("/_status", .status),
        ] {
            try self.insert(suffix, route)
            if !basePath.isEmpty { try self.insert(basePath + suffix, route) }
        }
        for (index, name) in servers {
            let path = "\(basePath)/\(name)"
            for (suffix, route) in [
                ("", Route.mcp(server: index)), ("/mcp", .mcp(server: index)), ("/sse", .sse(server: index)),
                ("/message", .message(server: index)),
            ] {
                try self.insert(path + suffix, route)
                try self.insert(path + suffix + "/", route)
            }
        }
    }

    /// The route of a path as it stands in a request target, without the query; nil if there is none.
    package func route(_ path: Span<UInt8>) -> Route? {
        guard path.count <= self.longestPath else { return nil }
        var slot = Self.hash(path) & (self.slots.count &- 1)
        while true {
            let index = self.slots[slot]
            guard index >= 0 else { return nil }
            if self.isPath(path, of: self.entries[index]) { return self.entries[index].route }
            slot = (slot &+ 1) & (self.slots.count &- 1)
        }
    }

    private mutating func insert(_ path: String, _ route: Route) throws(Collision) {
        let bytes = Self.percentEncoded(path)
        if let first = self.route(bytes.span) { throw Collision(path: path, first: first, second: route) }
        var slot = Self.hash(bytes.span) & (self.slots.count &- 1)
        while self.slots[slot] >= 0 { slot = (slot &+ 1) & (self.slots.count &- 1) }
        self.slots[slot] = self.entries.count
        self.entries.append(Entry(start: self.paths.count, count: bytes.count, route: route))
        self.paths += bytes
        self.longestPath = max(self.longestPath, bytes.count)
    }

    /// FNV-1a.
    ///
    /// It needs no seed: the keys come from the configuration, and a caller's path only looks one up.
    private static func hash(_ bytes: Span<UInt8>) -> Int {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for index in bytes.indices {
            hash = (hash ^ UInt64(bytes[index])) &* 0x0000_0100_0000_01b3
        }
        return Int(truncatingIfNeeded: hash ^ (hash >> 32))
    }

    private func isPath(_ path: Span<UInt8>, of entry: Entry) -> Bool {
        guard path.count == entry.count else { return false }
        for index in path.indices where path[index] != self.paths[entry.start &+ index] { return false }
        return true
    }

    private static func percentEncoded(_ path: String) -> [UInt8] {
        let digits = Array("0123456789ABCDEF".utf8)
        var bytes: [UInt8] = []
        for byte in path.utf8 {
            if byte < 0x80 {
                bytes.append(byte)
            } else {
                bytes += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 0xf)]]
            }
        }
        return bytes
    }
}
