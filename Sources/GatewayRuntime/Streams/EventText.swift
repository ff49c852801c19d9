// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import NIOCore

/// Messages as events, written into buffers without a copy in between.
enum EventText {
    /// Appends the fields of the head of a stream that we make ourselves.
    static func appendFields(to head: inout ByteBuffer) {
        head.writeStaticString("Content-Type: text/event-stream\r\nCache-Control: no-store\r\n")
        head.writeStaticString("X-Accel-Buffering: no\r\n")
    }

    /// Appends a message as one event of the type `message`; `id` becomes its id.
    static func append(_ message: ByteBuffer, id: EventIDText? = nil, to buffer: inout ByteBuffer) {
        if let id { id.append(to: &buffer) }
        buffer.writeStaticString("event: message\n")
        let bytes = message.readableBytesView
        if bytes.contains(where: { $0 == 0x0a || $0 == 0x0d }) {
            // Pretty-printed JSON: each line is a field of its own (WHATWG HTML, Server-sent events).
            var text: [UInt8] = []
            SSEEncoder.append(data: message.readableBytesUInt8Span, to: &text)
            buffer.writeBytes(text)
        } else {
            buffer.writeStaticString("data: ")
            buffer.writeImmutableBuffer(message)
            buffer.writeStaticString("\n\n")
        }
    }

    /// Appends an event with an id and no data, by which a caller can take the stream up before anything came, and the
    /// pause in milliseconds that it makes before it does so (2025-11-25, Transports, Resumability).
    static func appendPriming(id: EventIDText, to buffer: inout ByteBuffer) {
        id.append(to: &buffer)
        buffer.writeStaticString("retry: 1000\ndata: \n\n")
    }
}

/// The `id` field of an event of ours.
struct EventIDText {
    let stream: Int
    let event: Int

    func append(to buffer: inout ByteBuffer) { buffer.writeString("id: \(self.stream)-\(self.event)\n") }
}
