// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Writes event streams (WHATWG HTML, Server-sent events).
package enum SSEEncoder {
    /// Appends one event with the blank line that ends it.
    ///
    /// Data is split at LF, CR and CRLF into one field each. An id or type with a line end or a NUL cannot be written
    /// and is left out.
    ///
    /// - Parameters:
    ///   - type: the event's name; nil for `message`.
    ///   - id: the event's id; nil for none.
    ///   - data: what the reader gets.
    package static func append(
        type: String? = nil,
        id: String? = nil,
        data: Span<UInt8>,
        to output: inout [UInt8]
    ) {
    }

    /// Appends the reconnection time that a reader should use, as a block of its own.
    package static func append(retryMilliseconds: Int, to output: inout [UInt8]) {
    }

    /// Appends a comment, one line for each line of `text`; a reader ignores it.
    package static func append(comment text: String, to output: inout [UInt8]) {
    }
}
