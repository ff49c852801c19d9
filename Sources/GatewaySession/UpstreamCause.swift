// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Why an upstream is not usable, in the words that log, callers, `/_readyz` and `/_status` share (contract U3).
///
/// Pure.
package struct UpstreamCause: Hashable, Sendable {
    /// What was met, from a closed list; raw values are stable, and documented in docs/ERRORS.md.
    package enum Code: String, CaseIterable, Sendable {
        // No connection.
        case dns
        case connectRefused = "connect_refused"
        case connectTimeout = "connect_timeout"
        case connectFailed = "connect_failed"
        case tlsVerification = "tls_verify"
        case tlsHandshake = "tls_handshake"

        // The outbound proxy gave none (credentials §3.5).
        case proxyResolve = "proxy.resolve"
        case proxyConnectRefused = "proxy.connect.refused"
        case proxyConnectTimeout = "proxy.connect.timeout"
        case proxyConnectUnreachable = "proxy.connect.unreachable"
        case proxyTLS = "proxy.tls"
        case proxyAuthRequired = "proxy.auth.required"
        case proxyAuthRejected = "proxy.auth.rejected"
        case proxyAuthUnsupported = "proxy.auth.unsupported"
        case proxyTunnelDenied = "proxy.tunnel.denied"
        case proxyTunnelUpstreamUnreachable = "proxy.tunnel.upstreamUnreachable"
        case proxySOCKSGeneral = "proxy.socks.general"
        case proxySOCKSCommand = "proxy.socks.command"
        case proxySOCKSAddressType = "proxy.socks.addressType"
        case proxySOCKSUnassigned = "proxy.socks.unassigned"
        case proxyProtocol = "proxy.protocol"

        // A connection, and no answer.
        case closedBeforeResponse = "closed_before_response"
        case staleConnection = "stale_connection"
        case truncatedHead = "truncated_head"
        case truncatedBody = "truncated_body"
        case badHTTP = "bad_http"
        case responseTimeout = "response_timeout"
        case cancelled

        // An answer that is a refusal.
        case unauthorized = "auth_401"
        case forbidden = "auth_403"
        /// Every token of the pool was refused.
        case exhausted
        case credentialRejected = "credential_rejected"
        case rateLimited = "rate_limited"
        case clientError = "http_4xx"
        case serverError = "http_5xx"
        case redirect

        // An answer that is none of an MCP server.
        /// HTML: a login, or another path.
        case webPage = "web_page"
        case badContentType = "bad_content_type"
        case badEncoding = "bad_encoding"
        case badJSON = "bad_json"
        case noResponseBody = "no_response_body"
        case noHandshake = "no_handshake"
        case noEndpoint = "no_endpoint"
        case foreignEndpoint = "foreign_endpoint"
        /// It speaks HTTP+SSE, and the configuration says streamable HTTP.
        case otherTransport = "other_transport"
        case eventTooLarge = "event_too_large"
        case badStream = "upstream_protocol"

        // A stream that ended.
        case streamEnded = "stream_ended"
        case streamBroke = "stream_broke"
        case closed
        case sessionEnded = "session_ended"
        case upstreamClosed = "upstream_closed"

        // A child.
        case notStarted = "not_started"
        case exited
        case signalled
        case tooLarge = "too_large"
        case closedOutput = "closed_output"
        case stopped
        case notRunning = "not_running"
        case childExited = "child_exited"

        /// What has no name of its own; the detail says it.
        case other
    }

    package let code: Code
    /// What was met and what to do about it, in a sentence; never a secret.
    package let detail: String
    /// The HTTP status that was met, where there was one.
    package let status: Int?

    package init(_ code: Code, detail: String, status: Int? = nil) {
        self.code = code
        self.detail = detail
        self.status = status
    }
}
