// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayWire
package import NIOCore

/// One request as the listener read it: head, body, who asks.
///
/// Reused for the next request of its connection, unless somebody still works on this one.
package final class InboundRequest {
    // Unchecked: a parser calls nobody while it changes (decision 0014).
    /// The head's fields; their ranges count from the reader index of `head`.
    @exclusivity(unchecked) package var parser: HTTP1RequestParser
    package var head = ByteBuffer()
    package var body = ByteBuffer()
    /// Which inbound token the caller presented; nil where none is asked for.
    package var token: TokenDigest?
    /// Where its path leads by the table of endpoints that it goes by; nil before that was looked up, and for nowhere.
    package var destination: Endpoints.Destination?
    package var receivedAt = NIODeadline.uptimeNanoseconds(0)
    /// Whether it names an `Origin` that may use the gateway: a browser shows its page the answer only if that says so.
    package var isFromAdmittedOrigin = false
    /// The other side of the connection; nil where the system does not say.
    package var peer: SocketAddress?

    package init(parser: consuming HTTP1RequestParser) {
        self.parser = parser
    }

    /// Makes it ready for the next request of its connection.
    package func reset() {
        self.parser.reset()
        self.head = ByteBuffer()
        self.body = ByteBuffer()
        self.token = nil
        self.destination = nil
        self.isFromAdmittedOrigin = false
        self.knownAccept = nil
    }

    /// The media types that the caller takes; read once.
    package var accept: HTTP1Accept {
        if let knownAccept { return knownAccept }
        var accept = HTTP1Accept()
        let head = self.head
        for field in self.parser.fields where field.name == .accept {
            accept.read(head.readableBytesUInt8Span.extracting(field.valueRange))
        }
        self.knownAccept = accept
        return accept
    }
    private var knownAccept: HTTP1Accept?

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

/// The right to answer one request, given out by the listener's connection and used on its event loop.
///
/// A request gets either one `respond`, or `begin`, any number of `send` and then `finish` or `reset`. Behind that, and
/// once the caller is gone, the right is revoked: what is said by it goes nowhere.
package protocol DownstreamResponder: StreamOutlet {
    var loop: LoopResources { get }
    /// Where messages that come before the answer go, if not into the answer itself.
    var messages: (any MessageSink)? { get }

    /// Sends a whole answer. `fields` appends field lines; length, date and connection are the responder's.
    func respond(status: Int, body: ByteBuffer?, fields: (inout ByteBuffer) -> Void)
    /// Starts an answer of `length` bytes, or of an unknown number.
    func begin(status: Int, length: Int?, fields: (inout ByteBuffer) -> Void)
}

/// Takes messages one by one, where several calls of a caller share what leads back to it.
package protocol MessageSink: AnyObject {
    /// Whether messages can be sent on without piling up.
    var isWritable: Bool { get }
    /// Whether the caller takes messages before its answers: not where it takes JSON alone.
    var takesMessages: Bool { get }
    func send(_ message: ByteBuffer)
    /// How many bytes of answers may be held until they are complete, beside those that are; negative: too many are.
    var room: Int { get }
    /// So many more bytes of answers are held until they are complete; negative: fewer.
    func holds(_ change: Int)
}

extension MessageSink {
    package var takesMessages: Bool { true }
    package var room: Int { .max / 2 }
    package func holds(_ change: Int) {}
}

/// What a connection holds while the runtime works on its request; called on its event loop.
package protocol DownstreamExchange: AnyObject {
    /// The caller went away (`isClosed`), or shut down its side.
    func downstreamLeft(isClosed: Bool)
    /// The caller takes bytes again.
    func downstreamBecameWritable()
    /// The caller took next to nothing for too long, or too much is held for it: its connection is broken.
    func downstreamIsSlow()
    /// The process ends: streams without an end of their own end now.
    func drain()
}

extension DownstreamResponder {
    package var messages: (any MessageSink)? { nil }

    /// Answers with a JSON body.
    package func respond(status: Int, json: [UInt8], fields: (inout ByteBuffer) -> Void = { _ in }) {
        self.respond(status: status, body: ByteBuffer(bytes: json)) { buffer in
            buffer.writeStaticString("Content-Type: application/json\r\n")
            fields(&buffer)
        }
    }
}
