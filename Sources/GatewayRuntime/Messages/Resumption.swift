// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import NIOCore

/// Where an upstream's stream can be taken up again (MCP 2025-03-26 and later, Transports, Resumability).
struct Resumption {
    /// An upstream may not ask to be asked again without a pause.
    static let shortestDelay = TimeAmount.milliseconds(250)

    private(set) var lastEventID: ByteBuffer?
    /// What the upstream wants to be left alone for; nil if it said nothing.
    private(set) var lastRetry: TimeAmount?

    /// An event came.
    mutating func take(_ event: SSEEvent, in bytes: ByteBuffer) {
        if let retry = event.retry {
            self.lastRetry = max(.milliseconds(Int64(min(retry, 30_000))), Self.shortestDelay)
        }
        guard let id = event.id else { return }
        guard !id.isEmpty, id.count <= 1024 else {
            self.lastEventID = nil
            return
        }
        // A copy, so that a short id does not keep a long read alive.
        let view = bytes.viewBytes(at: bytes.readerIndex + id.lowerBound, length: id.count)
        self.lastEventID = view.map { ByteBuffer(bytes: $0) }
    }

    /// The pause before the stream is taken up again here; nil: it cannot be.
    var pause: Duration? { self.lastEventID == nil ? nil : Duration(self.lastRetry ?? Self.shortestDelay) }

    /// Appends `Last-Event-ID`.
    func appendField(to head: inout ByteBuffer) {
        guard let lastEventID else { return }
        head.writeStaticString("Last-Event-ID: ")
        head.writeImmutableBuffer(lastEventID)
        head.writeStaticString("\r\n")
    }
}
