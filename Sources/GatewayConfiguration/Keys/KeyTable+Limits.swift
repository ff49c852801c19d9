// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

extension KeyTable {
    private static let bytes = 1...1024 * 1024 * 1024
    private static let count = 1...1_000_000_000

    /// `mcpProxy.limits` (contract §6).
    static let limits = KeyTable(
        title: "Limits",
        keys: [
            Key("headBytes", .size(256...1024 * 1024), fallback: #""16KiB""#, "Bytes of a request head."),
            Key("headFields", .integer(1...10_000), fallback: "100", "Header fields of a request."),
            Key("targetBytes", .size(64...1024 * 1024), fallback: #""2KiB""#, "Bytes of a request target."),
            Key("bodyBytes", .size(Self.bytes), fallback: #""4MiB""#, "Bytes of a request body."),
            Key("jsonDepth", .integer(4...1_000), fallback: "64", "Nesting of a JSON message."),
            Key(
                "responseBufferBytes",
                .size(Self.bytes),
                fallback: #""16MiB""#,
                "Bytes of an answer that has to be held; a relayed answer has no bound."
            ),
            Key(
                "bufferedBytes",
                .size(64 * 1024...1024 * 1024 * 1024 * 1024),
                fallback: #""512MiB""#,
                "Bytes held for callers, upstreams and children together; above it the largest holder has to let go."
            ),
            Key("eventBytes", .size(Self.bytes), fallback: #""16MiB""#, "Bytes of one server-sent event."),
            Key("lineBytes", .size(Self.bytes), fallback: #""16MiB""#, "Bytes of one line of a stdio server."),
            Key("headTimeout", .duration, fallback: #""10s""#, "Time for a whole request head."),
            Key("bodyTimeout", .duration, fallback: #""30s""#, "Time for a request body, extended by `bodyRate`."),
            Key("bodyRate", .size(Self.bytes), fallback: #""64KiB""#, "Bytes per second that buy a body more time."),
            Key(
                "idleTimeout",
                .duration,
                fallback: #""75s""#,
                "How long a kept-alive connection may be without a request."
            ),
            Key("requestsPerConnection", .integer(Self.count), fallback: "1000000", "Requests on one connection."),
            Key("connections", .integer(Self.count), fallback: "10000", "Connections of callers."),
            Key(
                "connectionsPerAddress",
                .integer(0...1_000_000_000),
                fallback: "0",
                "Connections from one address; 0 is no limit."
            ),
            Key("inFlight", .integer(Self.count), fallback: "10000", "Requests under way."),
            Key("inFlightPerUpstream", .integer(Self.count), fallback: "1024", "Requests under way at one upstream."),
            Key(
                "queuePerUpstream",
                .integer(0...1_000_000_000),
                fallback: "1024",
                "Requests that may wait for a place at one upstream."
            ),
            Key("queueWait", .duration, fallback: #""2s""#, "How long a request may wait for a place."),
            Key("streams", .integer(Self.count), fallback: "5000", "Event streams open to callers."),
            Key("sessions", .integer(Self.count), fallback: "10000", "Sessions of callers."),
            Key("sessionsPerToken", .integer(Self.count), fallback: "1000", "Sessions of one inbound token."),
            Key("sessionIdle", .duration, fallback: #""30m""#, "How long a session may be idle before it ends."),
            Key(
                "childrenPerServer",
                .integer(1...100_000),
                fallback: "32",
                "Children of one stdio server with `isolation: session`."
            ),
            Key("connectTimeout", .duration, fallback: #""10s""#, "Time for DNS, outbound proxy and TLS together."),
            Key(
                "slowReader",
                .duration,
                fallback: #""60s""#,
                "How long a caller may take less than 16 KiB while more waits for it."
            ),
            Key(
                "batchElements",
                .integer(1...100_000),
                fallback: "50",
                "Messages in one batch of a 2025-03-26 session."
            ),
        ]
    )
}
