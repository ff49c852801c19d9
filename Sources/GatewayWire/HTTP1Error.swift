// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Why a message is not HTTP/1.1 as this gateway accepts it.
///
/// Every one of them leaves the position in the byte stream in doubt, so the connection it came from is always closed
/// after it: ambiguous framing is refused, never repaired (RFC 9112 §2.2, §6.3, §11.2).
package struct HTTP1Error: Error, Hashable, Sendable {
    /// The rule that was broken.
    ///
    /// A closed list, so that it can be a metric label.
    package enum Reason: String, CaseIterable, Sendable {
        /// The request line is not `method SP target SP version`.
        case requestLine = "malformed request line"
        /// The status line is not `HTTP/1.x NNN[ reason]`.
        case statusLine = "malformed status line"
        case target = "malformed request target"
        case targetTooLong = "request target too long"
        case version = "unsupported HTTP version"
        case method = "method not implemented"
        case headTooLarge = "head too large"
        case tooManyFields = "too many header fields"
        /// A line feed without a carriage return before it.
        case bareLF = "bare line feed"
        /// A carriage return without a line feed after it.
        case bareCR = "bare carriage return"
        /// A field line that begins with white space (RFC 9112 §5.2).
        case obsFold = "folded header line"
        case spaceBeforeColon = "white space before the colon"
        case fieldName = "malformed header name"
        /// A control byte in a field value.
        case fieldValue = "control byte in a header value"
        case missingHost = "missing Host"
        case duplicateHost = "more than one Host"
        case host = "malformed Host"
        /// An absolute-form target names another authority than `Host` (RFC 9112 §3.2.2).
        case hostMismatch = "target and Host differ"
        case duplicateAuthorization = "more than one Authorization"
        case duplicateContentType = "more than one Content-Type"
        case contentLength = "malformed Content-Length"
        /// Also where the two are equal.
        case duplicateContentLength = "more than one Content-Length"
        case contentLengthAndTransferEncoding = "Content-Length with Transfer-Encoding"
        /// A transfer coding other than `chunked` alone.
        case transferEncoding = "unsupported Transfer-Encoding"
        case transferEncodingInHTTP10 = "Transfer-Encoding in HTTP/1.0"
        case expectation = "unsupported Expect"
        case chunkSize = "malformed chunk size"
        case chunkExtension = "malformed chunk extension"
        /// Size line, extensions and line ends out of proportion to the data.
        case chunkOverhead = "too much chunk overhead"
        /// No CRLF after the data of a chunk.
        case chunkEnd = "chunk longer than its size"
        case trailerTooLarge = "trailer section too large"
    }

    package let reason: Reason

    package init(_ reason: Reason) {
        self.reason = reason
    }

    /// The status of the answer to a request with this error (contract §4, Bad requests of callers).
    ///
    /// In a response it has no meaning: there every reason is a protocol error of the upstream.
    package var status: Int {
        switch self.reason {
        case .targetTooLong: 414
        case .expectation: 417
        case .headTooLarge, .tooManyFields, .trailerTooLarge: 431
        case .method: 501
        case .version: 505
        default: 400
        }
    }

    /// A constant text; nothing of what the peer sent is in it.
    package var text: String { self.reason.rawValue }

    /// Whether the connection must be closed: always.
    package var closesConnection: Bool { true }
}
