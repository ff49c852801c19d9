// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The paths where clients look for OAuth at a server (RFC 8414, RFC 9728, OpenID Connect Discovery, and the default
/// endpoints of MCP 2025-03-26).
///
/// Their clients read a 404 there by the schema of OAuth, and stumble over any other body (contract U24).
package enum AuthorizationPath {
    /// Whether a path is one of them, at the root, below `baseURL` or below a server's route: one of its segments is
    /// `.well-known`, or the last is `register`, `authorize` or `token`.
    ///
    /// Asked only of a path that is no route.
    package static func matches(_ path: Span<UInt8>) -> Bool {
        var start = 0
        for end in 0...path.count where end == path.count || path[end] == UInt8(ascii: "/") {
            let segment = path.extracting(start..<end)
            start = min(end &+ 1, path.count)
            if HTTP1Bytes.equalsIgnoringCase(segment, ".well-known") { return true }
            guard end == path.count, end > segment.count else { continue }
            return HTTP1Bytes.equalsIgnoringCase(segment, "register")
                || HTTP1Bytes.equalsIgnoringCase(segment, "authorize")
                || HTTP1Bytes.equalsIgnoringCase(segment, "token")
        }
        return false
    }
}
