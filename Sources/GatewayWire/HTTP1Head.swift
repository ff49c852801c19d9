// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Bounds of one message head; a head of exactly these sizes is accepted.
package struct HTTP1HeadLimits: Hashable, Sendable {
    /// Bytes from the first of the start line to the end of the empty line, an empty line before it included.
    package let headBytes: Int
    /// Field lines.
    package let fields: Int
    /// Bytes of a request target; not used for responses.
    package let targetBytes: Int

    /// Bounds above 1 GiB are lowered to it, those below one are raised to one.
    package init(headBytes: Int, fields: Int, targetBytes: Int) {
        self.headBytes = min(max(headBytes, 1), 1 << 30)
        self.fields = min(max(fields, 1), 1 << 30)
        self.targetBytes = min(max(targetBytes, 1), 1 << 30)
    }

    /// The defaults for callers: 16 KiB, 100 fields, 2 KiB of target (contract §6).
    package static let request = HTTP1HeadLimits(headBytes: 16 * 1024, fields: 100, targetBytes: 2 * 1024)
    /// The bounds for upstreams: 64 KiB, 256 fields (faults S5.9).
    package static let response = HTTP1HeadLimits(headBytes: 64 * 1024, fields: 256, targetBytes: 1)
}

/// One field line of a head, as offsets into the bytes that were parsed.
package struct HTTP1Field: Hashable, Sendable {
    package let nameStart: Int32
    package let nameEnd: Int32
    package let valueStart: Int32
    package let valueEnd: Int32
    /// Which of the names the gateway looks at this is.
    package let name: HTTP1FieldName

    /// Where the name stands, as written.
    package var nameRange: Range<Int> { Int(self.nameStart)..<max(Int(self.nameStart), Int(self.nameEnd)) }

    /// Where the value stands, without white space around it; may be empty.
    package var valueRange: Range<Int> { Int(self.valueStart)..<max(Int(self.valueStart), Int(self.valueEnd)) }
}

/// How the end of a body is found (RFC 9112 §6.3).
package enum HTTP1BodyFraming: Hashable, Sendable {
    /// There is no body: the next message begins after the head.
    case none
    /// So many bytes, 0 included.
    case length(Int)
    /// Chunks: see ``HTTP1ChunkedDecoder``.
    case chunked
    /// Everything until the connection ends; only in responses.
    case untilClose
}

/// The forms of a request target (RFC 9112 §3.2).
package enum HTTP1TargetForm: Sendable {
    /// `/path?query`
    case origin
    /// `http://host/path?query`
    case absolute
    /// `host:port`, which only CONNECT has: never in an accepted request.
    case authority
    /// `*`, only with OPTIONS.
    case asterisk
}
