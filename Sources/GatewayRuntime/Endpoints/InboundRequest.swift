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
