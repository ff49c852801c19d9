// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A request method (RFC 9110 §9.3, RFC 5789); case-sensitive.
package enum HTTP1Method: String, CaseIterable, Sendable {
    case get = "GET"
    case head = "HEAD"
    case post = "POST"
    case put = "PUT"
    case delete = "DELETE"
    case options = "OPTIONS"
    case patch = "PATCH"
    case trace = "TRACE"
    case connect = "CONNECT"
    /// Any other token; the request parser refuses it.
    case other = ""

    /// The method that these bytes spell.
    init(_ bytes: Span<UInt8>) {
        self =
            switch HTTP1Bytes.word(bytes) {
            case HTTP1Bytes.word("GET"): .get
            case HTTP1Bytes.word("HEAD"): .head
            case HTTP1Bytes.word("POST"): .post
            case HTTP1Bytes.word("PUT"): .put
            case HTTP1Bytes.word("DELETE"): .delete
            case HTTP1Bytes.word("OPTIONS"): .options
            case HTTP1Bytes.word("PATCH"): .patch
            case HTTP1Bytes.word("TRACE"): .trace
            case HTTP1Bytes.word("CONNECT"): .connect
            default: .other
            }
    }
}
