// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What the gateway holds for its peers and has under way: everything but what it wants itself and what sessions keep is 0
/// when nobody wants anything.
package struct HeldState: Sendable {
    /// Bytes held for callers, upstreams and children, but for those of `sessionBytes`.
    package var bufferedBytes: Int
    /// Bytes that sessions keep for callers that lost a connection.
    package var sessionBytes: Int
    /// Calls, streams and requests that wait, as the event loops know them.
    package var exchanges: Int
    /// Requests in line for a place at an upstream.
    package var queued: Int
    /// Calls whose upstream is not read, since their caller takes no more.
    package var suspended: Int
    /// Connections to upstreams that are used or set up, but for those of `ownConnections`.
    package var upstreamConnections: Int
    /// Connections that the gateway itself wants: for HTTP+SSE channels, the GET streams of shared sessions and, for a moment,
    /// of callers that are away, and for messages of its own, which have short deadlines.
    package var ownConnections: Int
}
