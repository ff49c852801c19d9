// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayWire

/// Why an upstream connection or an exchange on it failed, with the facts that decide whether it may be repeated.
package struct TransportError: Error, Sendable {
    /// What happened, from a closed list.
    package enum Code: String, CaseIterable, Sendable {
        case resolve = "dns"
        case connectRefused = "connect_refused"
        case connectTimeout = "connect_timeout"
        case connectFailed = "connect_failed"
        /// This process, or the system, can open no more sockets: it says nothing of the upstream.
        case noDescriptors = "descriptors"
        case tlsVerification = "tls_verify"
        case tlsHandshake = "tls_handshake"
        /// The outbound proxy gave no way to the upstream, or answered in its place: `outboundProxy` says why.
        case outboundProxy = "outbound_proxy"
        /// The connection ended before any byte of an answer.
        case closedBeforeResponse = "closed_before_response"
        /// The same on a connection that had been kept alive: most likely the server closed it while the request was on its way.
        case staleConnection = "stale_connection"
        case truncatedHead = "truncated_head"
        case truncatedBody = "truncated_body"
        case badHTTP = "bad_http"
        /// The content of the answer cannot be decoded, or is a bomb.
        case badEncoding = "bad_encoding"
        /// There is no room for what it takes to decode the answer.
        case noRoom = "buffered_bytes"
        /// The caller of the transport gave up.
        case cancelled
    }

    /// How much of the request had left.
    package enum RequestProgress: Sendable {
        case nothing
        /// Fewer bytes than the announced length: the upstream cannot have had the whole message.
        case partly
        case fully
    }

    package var code: Code
    /// What the reader of a log needs besides the code; never bytes of a peer, never a secret.
    package var message: String
    package var progress: RequestProgress
    /// Whether a part of the answer's head or body was seen.
    package var answerBegan: Bool
    /// What the outbound proxy did; nil where it has no part in it.
    package var outboundProxy: OutboundProxyError?

    package init(_ code: Code, _ message: String, progress: RequestProgress, answerBegan: Bool = false) {
        self.code = code
        self.message = message
        self.progress = progress
        self.answerBegan = answerBegan
    }

    /// No more sockets can be opened.
    static let noDescriptors = TransportError(
        .noDescriptors,
        "no more connections can be opened: raise the limit of open files of the gateway (LimitNOFILE, ulimit -n)",
        progress: .nothing
    )

    /// A failure of the outbound proxy: nothing of the request reached the upstream.
    init(outboundProxy error: OutboundProxyError, _ message: String) {
        self.init(.outboundProxy, message, progress: .nothing)
        self.outboundProxy = error
    }
}
