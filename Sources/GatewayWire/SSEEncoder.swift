// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Writes event streams (WHATWG HTML, Server-sent events).
package enum SSEEncoder {
    /// Appends one event with the blank line that ends it; without `type` the reader takes it for a `message`.
    ///
    /// Data is split at LF, CR and CRLF into one field each, which the reader joins with LF. A type or id with a line
    /// end or a NUL cannot be written and is left out.
    package static func append(
        type: String? = nil,
        id: String? = nil,
        data: Span<UInt8>,
        to output: inout [UInt8]
    ) {
        output.reserveCapacity(output.count + data.count + 64)
        if let type { self.append("event: ", type, to: &output) }
        if let id { self.append("id: ", id, to: &output) }
        self.append("data: ", linesOf: data, to: &output)
        output.append(0x0a)
    }

    /// Appends the time after which a reader should connect again, as a block of its own.
    package static func append(retryMilliseconds: Int, to output: inout [UInt8]) {
        self.append("retry: ", String(max(0, retryMilliseconds)), to: &output)
        output.append(0x0a)
    }

    /// Appends a comment, one line for each line of `text`; a reader ignores it.
    package static func append(comment text: String, to output: inout [UInt8]) {
        self.append(": ", linesOf: text.utf8.span, to: &output)
    }

    private static func append(_ prefix: String, _ value: String, to output: inout [UInt8]) {
        guard !value.utf8.contains(where: { $0 == 0x0a || $0 == 0x0d || $0 == 0 }) else { return }
        output.append(contentsOf: prefix.utf8)
        output.append(contentsOf: value.utf8)
        output.append(0x0a)
    }

    private static func append(_ prefix: String, linesOf text: Span<UInt8>, to output: inout [UInt8]) {
        var start = 0
        while true {
            let end = SSELine.end(from: start, in: text)
            output.append(contentsOf: prefix.utf8)
            JSONText.append(raw: start..<end, of: text, to: &output)
            output.append(0x0a)
            guard end < text.count else { return }
            let isCRLF = text[end] == 0x0d && end + 1 < text.count && text[end + 1] == 0x0a
            start = end + (isCRLF ? 2 : 1)
        }
    }
}
