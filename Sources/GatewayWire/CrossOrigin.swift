// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What lets a page of an admitted origin use the gateway: the field lines of CORS (Fetch, "HTTP CORS protocol";
/// contract U11).
///
/// The origin is always named, never `*`, and credentials of the browser (cookies, client certificates) are never asked
/// for: a token stands in `Authorization`, where a page has to put it itself.
package enum CrossOrigin {
    /// Field lines of every response to an admitted origin, beside the one that names it.
    package static let responseFields: StaticString =
        "Access-Control-Expose-Headers: mcp-session-id, www-authenticate\r\nVary: Origin\r\n"

    /// Field lines of the answer to a preflight, beside those and the allowed headers; valid for ten minutes.
    package static let preflightFields: StaticString =
        "Access-Control-Allow-Methods: POST, GET, DELETE\r\nAccess-Control-Max-Age: 600\r\n"

    /// The request headers that a page may send: those of MCP, and of `Mcp-Param-*` the ones that a preflight asks for.
    package struct AllowedHeaders: Sendable {
        /// The value of `Access-Control-Allow-Headers`.
        package private(set) var value = Array(
            "authorization, content-type, accept, last-event-id, mcp-session-id, mcp-protocol-version, mcp-method, mcp-name"
                .utf8
        )

        package init() {}

        /// Reads one value of `Access-Control-Request-Headers`; what is not the name of a header is passed over.
        package mutating func read(_ value: Span<UInt8>) {
            var start = 0
            for end in 0...value.count where end == value.count || value[end] == UInt8(ascii: ",") {
                let name = value.extracting(HTTP1Bytes.trimmed(start..<end, value))
                start = min(end &+ 1, value.count)
                guard HTTP1FieldName(name) == .mcpParam else { continue }
                self.value += ", ".utf8
                for index in name.indices { self.value.append(HTTP1Bytes.lowercased(name[index])) }
            }
        }
    }
}
