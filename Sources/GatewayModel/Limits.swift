// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Every bound of the gateway, `mcpProxy.limits`; all on by default (contract §6).
package struct Limits: Hashable, Sendable {
    /// Bytes of a request head, and the fields in it.
    package var headBytes = 16 * 1024
    package var headFields = 100
    /// Bytes of a request target.
    package var targetBytes = 2 * 1024
    /// Bytes of a request body.
    package var bodyBytes = 4 * 1024 * 1024
    /// Nesting of a JSON message.
    package var jsonDepth = 64
    /// Bytes of an answer that has to be held; a relayed answer has no bound.
    package var responseBufferBytes = 16 * 1024 * 1024
    /// Bytes that are held for callers, upstreams and children together; above it the largest holder has to let go.
    package var bufferedBytes = 512 * 1024 * 1024
    /// Bytes of one server-sent event.
    package var eventBytes = 16 * 1024 * 1024
    /// Bytes of one line of a stdio child.
    package var lineBytes = 16 * 1024 * 1024
    /// From the first byte of a head to its end, not restarted by bytes.
    package var headTimeout = Duration.seconds(10)
    /// From the end of a head to the end of its body, extended by `bodyRate`.
    package var bodyTimeout = Duration.seconds(30)
    /// Bytes per second that buy a body more time than `bodyTimeout`.
    package var bodyRate = 64 * 1024
    /// A kept-alive connection without a request.
    package var idleTimeout = Duration.seconds(75)
    package var requestsPerConnection = 1_000_000
    package var connections = 10_000
    /// Connections from one address; nil: no limit.
    package var connectionsPerAddress: Int?
    package var inFlight = 10_000
    package var inFlightPerUpstream = 1_024
    /// Requests that may wait for a place at an upstream, and how long.
    package var queuePerUpstream = 1_024
    package var queueWait = Duration.seconds(2)
    package var streams = 5_000
    package var sessions = 10_000
    package var sessionsPerToken = 1_000
    package var sessionIdle = Duration.seconds(30 * 60)
    package var childrenPerServer = 32
    /// DNS, outbound proxy and TLS of one dial together.
    package var connectTimeout = Duration.seconds(10)
    /// How long a reader may take less than 16 KiB while more waits for it.
    package var slowReader = Duration.seconds(60)
    /// Messages in one batch of a 2025-03-26 session.
    package var batchElements = 50

    package init() {}
}
