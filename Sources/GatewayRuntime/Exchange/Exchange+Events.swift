// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewayTransport
import GatewayWire
import NIOCore

/// Answers that come as a stream of events: whole events are passed on as the bytes that arrived (faults F20 to F28).
extension Exchange {
    /// Sends the head of the stream.
    func startEvents(sessionID: String? = nil) {
        self.beginReply(status: 200, length: nil) { [fields = self.answer.fields] head in
            head.writeImmutableBuffer(fields)
            if let sessionID { head.writeString("Mcp-Session-Id: \(sessionID)\r\n") }
        }
    }

    func receiveEvents(_ bytes: ByteBuffer) {
        if self.held.readableBytes == 0 { self.held = bytes } else { self.held.writeImmutableBuffer(bytes) }
        // Whole events that may go out, from the reader index on.
        var passed = 0
        reading: while case .events = self.phase {
            var rest = self.held
            rest.moveReaderIndex(forwardBy: passed)
            switch self.eventDecoder.next(in: rest.readableBytesUInt8Span) {
            case .needsMore:
                break reading
            case .comment(let length):
                passed += length
            case .ignored(let length):
                self.pass(&passed)
                self.held.moveReaderIndex(forwardBy: length)
            case .event(let event):
                switch self.judge(event, in: rest) {
                case .pass:
                    passed += event.length
                case .drop:
                    self.pass(&passed)
                    self.held.moveReaderIndex(forwardBy: event.length)
                case .replaced:
                    self.held.moveReaderIndex(forwardBy: passed + event.length)
                    passed = 0
                    return
                case .last:
                    passed += event.length
                    self.pass(&passed)
                    self.responder?.finish()
                    return self.finish(.ok)
                }
            case .tooLong:
                self.pass(&passed)
                self.fail(
                    self.protocolFailure("an event is larger than limits.eventBytes", "event_too_large", executed: .yes)
                )
            }
        }
        self.pass(&passed)
    }

    private func pass(_ count: inout Int) {
        if count > 0, let bytes = self.held.readSlice(length: count), self.hasStarted { self.relay(bytes) }
        count = 0
        // What is left is the beginning of an event: it must not keep a whole read alive.
        if self.held.readableBytes == 0 { self.held = ByteBuffer() }
    }

    private enum Verdict {
        case pass
        /// It belongs to nobody here.
        case drop
        /// Something else was sent, or the exchange ended.
        case replaced
        /// The answer: the stream ends behind it.
        case last
    }

    private func judge(_ event: SSEEvent, in bytes: ByteBuffer) -> Verdict {
        if event.id != nil { self.hasEventID = true }
        guard let data = event.dataBytes(in: bytes), data.readableBytes > 0 else { return .pass }
        guard let envelope = AnswerReader.read(data, depth: self.gateway.limits.jsonDepth) else {
            self.fail(self.protocolFailure("an event is no JSON-RPC message", "bad_json", executed: .yes))
            return .replaced
        }
        switch envelope.kind {
        case .notification:
            if envelope.method == .progressNotification { self.progressed() }
            return .pass
        case .request:
            // The stateless era has no requests of servers (protocol §2 S11).
            return self.message.era == .stateless ? .drop : .pass
        case .result, .error:
            guard self.message.isAnswered(by: envelope, in: data) else { return .drop }
            self.isAnswered = true
            if self.message.method == .initialize {
                self.initialized(data, envelope)
                return .replaced
            }
            guard self.filtersTools else { return .last }
            guard let filtered = self.filtered(data, envelope) else {
                self.fail(self.protocolFailure("the list of tools cannot be read", "bad_json", executed: .yes))
                return .replaced
            }
            self.sendEvent(Array(filtered.readableBytesView))
            self.responder?.finish()
            self.finish(.ok)
            return .replaced
        }
    }

    /// A sign of life of this call: the clock starts again, up to a point (contract §2, `timeout`).
    private func progressed() {
        guard !self.message.isListening else { return }
        self.deadline = min(.now() + TimeAmount(self.upstream.configuration.timeout), self.lastDeadline)
    }

    func sendEvent(_ data: [UInt8]) {
        var event: [UInt8] = []
        SSEEncoder.append(type: "message", data: data.span, to: &event)
        self.relay(ByteBuffer(bytes: event))
    }

    func eventsFailed(_ error: TransportError) {
        if self.message.era == .handshake, self.hasEventID, self.hasStarted {
            // Its caller can ask for the rest by `Last-Event-ID`: the answer is not lost (protocol §1.1).
            self.responder?.finish()
            return self.finish(.resumable)
        }
        let executed: GatewayError.Executed = .unknown
        self.fail(
            GatewayError(
                .upstreamClosed,
                executed: executed,
                "the stream broke before the answer",
                cause: "sse_truncated"
            )
        )
    }

    func eventsEnded() {
        if self.message.era == .handshake, self.hasEventID, self.hasStarted {
            self.responder?.finish()
            return self.finish(.resumable)
        }
        self.fail(
            GatewayError(
                .upstreamClosed,
                executed: .unknown,
                "the stream ended before the answer",
                cause: "sse_no_response"
            )
        )
    }

    /// The gateway stops: a stream without an end of its own ends as its era says (protocol §1.2, listen).
    func finishListening() {
        guard case .events = self.phase, self.hasStarted, let id = self.message.idBytes else {
            self.connection?.cancel()
            self.connection = nil
            return self.fail(GatewayError(.overloaded, executed: .no, "the gateway stops", cause: "draining"))
        }
        self.connection?.cancel()
        self.connection = nil
        var body = Array(#"{"jsonrpc":"2.0","id":"#.utf8)
        body += id
        body += #","result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":"#.utf8
        body += id
        body += "}}}".utf8
        self.sendEvent(body)
        self.responder?.finish()
        self.finish(.ok)
    }
}
