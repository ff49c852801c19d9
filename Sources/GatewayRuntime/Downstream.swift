// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayWire
package import NIOCore

/// One request as the listener read it: head, body, who asks.
///
/// Reused for the next request of its connection.
package final class InboundRequest {
    /// The head's fields; their ranges count from the reader index of `head`.
    package var parser: HTTP1RequestParser
    package var head = ByteBuffer()
    package var body = ByteBuffer()
    /// The index of the inbound token that the caller presented; nil where none is asked for.
    package var token: Int?
    package var receivedAt = NIODeadline.uptimeNanoseconds(0)

    package init(parser: HTTP1RequestParser) {
        self.parser = parser
    }

    /// The value of a field as raw bytes, the first if there are several.
    package func value(_ name: HTTP1FieldName) -> ByteBufferView? {
        guard let index = self.parser.firstIndex(of: name) else { return nil }
        return self.bytes(self.parser.fields[index].valueRange)
    }

    /// Bytes of the head.
    package func bytes(_ range: Range<Int>) -> ByteBufferView? {
        let start = self.head.readerIndex
        return self.head.viewBytes(at: start + range.lowerBound, length: range.count)
    }
}

/// The answering side of one request: implemented by the listener's connection, called on its event loop.
///
/// A request gets either one `respond`, or `begin`, any number of `send` and then `finish` or `reset`.
package protocol DownstreamResponder: AnyObject {
    var loop: GatewayLoop { get }
    /// Whether bytes can be sent on without piling up.
    var isWritable: Bool { get }

    /// Sends a whole answer. `fields` appends field lines; length, date and connection are the responder's.
    func respond(status: Int, body: ByteBuffer?, fields: (inout ByteBuffer) -> Void)
    /// Starts an answer of `length` bytes, or of an unknown number.
    func begin(status: Int, length: Int?, fields: (inout ByteBuffer) -> Void)
    func send(_ bytes: ByteBuffer)
    func flush()
    /// Ends an answer that was begun.
    func finish()
    /// Breaks the connection, so that what was sent cannot be taken for a whole answer.
    func reset()
}

/// What a connection holds while the runtime works on its request; called on its event loop.
package protocol DownstreamExchange: AnyObject {
    /// The caller went away, or shut down its side; nothing of `responder` may be called afterwards if `isClosed`.
    func downstreamLeft(isClosed: Bool)
    /// The caller takes bytes again.
    func downstreamBecameWritable()
    /// A look at the deadlines, a few times a second.
    func sweep(now: NIODeadline)
    /// The process ends: streams without an end of their own end now.
    func drain()
}

extension DownstreamResponder {
    /// Answers with a JSON body.
    package func respond(status: Int, json: [UInt8], fields: (inout ByteBuffer) -> Void = { _ in }) {
        self.respond(status: status, body: ByteBuffer(bytes: json)) { buffer in
            buffer.writeStaticString("Content-Type: application/json\r\n")
            fields(&buffer)
        }
    }
}
