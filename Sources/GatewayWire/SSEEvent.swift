// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// One complete block of an event stream (WHATWG HTML, Server-sent events).
///
/// Every range is an offset into the bytes that ``SSEDecoder/next(in:)`` was given in the call that returned the event.
package struct SSEEvent: Hashable, Sendable {
    /// Where the lines of the `data` field stand.
    package enum Content: Hashable, Sendable {
        /// No `data` field: a browser dispatches nothing, but `id` and `retry` count.
        case none
        /// One line; empty in a priming event.
        case single(Range<Int>)
        /// Two lines and more, to be joined with a line feed.
        case lines([Range<Int>])
    }

    /// Bytes of the block with the blank line that ends it: what a relay forwards.
    package let length: Int
    package let data: Content
    /// The last `id` without a NUL; empty means that the stream has no id from here; nil if there was none.
    package let id: Range<Int>?
    /// The last `event`; nil if there was none, which means `message`, and so does an empty one.
    package let type: Range<Int>?
    /// The last `retry` that is all digits, in milliseconds; one that does not fit is the largest `Int`.
    package let retry: Int?

    package init(length: Int, data: Content, id: Range<Int>?, type: Range<Int>?, retry: Int?) {
        self.length = length
        self.data = data
        self.id = id
        self.type = type
        self.retry = retry
    }

    /// Whether the event is of the type `message`, explicitly or by default: what carries JSON-RPC.
    package func isMessage(in bytes: Span<UInt8>) -> Bool {
        guard let type = self.type, !type.isEmpty else { return true }
        return JSONString(content: type, isEscaped: false).equals("message", in: bytes)
    }

    /// Whether a reader of MCP looks at the event: it is of the type `message` and its data is more than white space.
    ///
    /// All others are skipped: `ping`, `keepalive`, a priming event, a `retry` line alone. Their `id` and `retry` count all
    /// the same, since a reader notes them before it looks at type and data (WHATWG HTML, Server-sent events).
    package func carriesMessage(in bytes: Span<UInt8>) -> Bool {
        guard self.isMessage(in: bytes) else { return false }
        return switch self.data {
        case .none: false
        case .single(let range): !Self.isBlank(range, in: bytes)
        case .lines(let lines): !lines.allSatisfy { Self.isBlank($0, in: bytes) }
        }
    }

    /// Whether there is nothing but what JSON calls white space.
    private static func isBlank(_ range: Range<Int>, in bytes: Span<UInt8>) -> Bool {
        for index in range {
            switch bytes[index] {
            case 0x20, 0x09, 0x0a, 0x0d: continue
            default: return false
            }
        }
        return true
    }

    /// Whether the event is that with which a stream of the transport of 2024-11-05 begins.
    package func isEndpoint(in bytes: Span<UInt8>) -> Bool {
        guard let type = self.type else { return false }
        return JSONString(content: type, isEscaped: false).equals("endpoint", in: bytes)
    }

    /// A copy of the data as the reader of the stream gets it, the lines joined; empty if there is none.
    package func joinedData(in bytes: Span<UInt8>) -> [UInt8] {
        var joined: [UInt8] = []
        switch self.data {
        case .none:
            break
        case .single(let range):
            JSONText.append(raw: range, of: bytes, to: &joined)
        case .lines(let lines):
            for (index, line) in lines.enumerated() {
                if index > 0 { joined.append(0x0a) }
                JSONText.append(raw: line, of: bytes, to: &joined)
            }
        }
        return joined
    }
}
