// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayModel
import GatewayPolicy
import GatewayTransport
import GatewayWire
import NIOCore

/// Where an upstream's stream can be taken up again (MCP 2025-03-26 and later, Transports, Resumability).
struct Resumption {
    /// Times that a stream is asked for again without an event in between (faults F20).
    static let limit = 3

    /// An upstream may not ask to be asked again without a pause.
    static let shortestDelay = TimeAmount.milliseconds(250)

    private(set) var lastEventID: ByteBuffer?
    /// What the upstream wants to be left alone for; nil if it said nothing.
    private(set) var lastRetry: TimeAmount?
    var delay: TimeAmount { self.lastRetry ?? Self.shortestDelay }
    var attempts = 0

    /// An event came.
    mutating func take(_ event: SSEEvent, in bytes: ByteBuffer) {
        self.attempts = 0
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

    var isPossible: Bool { self.lastEventID != nil && self.attempts < Self.limit }

    /// Appends `Last-Event-ID`.
    func appendField(to head: inout ByteBuffer) {
        guard let lastEventID else { return }
        head.writeStaticString("Last-Event-ID: ")
        head.writeImmutableBuffer(lastEventID)
        head.writeStaticString("\r\n")
    }
}

/// A handshake upstream whose stream broke off, or which ended it to be polled, is asked for the rest of it; the call
/// itself is never sent again (faults F20).
extension Exchange {
    /// The stream is over without the answer.
    func eventsBroke(cause: String) {
        self.forgetCollected()
        guard self.message.era == .handshake, self.resumption.isPossible else {
            return self.fail(
                GatewayError(.upstreamClosed, executed: .unknown, "the stream ended before the answer", cause: cause)
            )
        }
        self.phase = .resuming
        self.mayHaveRun = true
        self.resumeLater()
    }

    /// Asks for the rest when the upstream wants to be asked.
    func resumeLater() {
        guard self.resumption.isPossible else {
            return self.fail(
                GatewayError(
                    .upstreamClosed,
                    executed: .unknown,
                    "the stream broke before the answer and could not be taken up again",
                    cause: "sse_truncated"
                )
            )
        }
        self.resumption.attempts += 1
        self.wait(self.resumption.delay) { exchange in
            guard case .resuming = exchange.phase, !exchange.isGone else { return }
            exchange.loop.pool(of: exchange.upstream)?.connect(for: exchange, isFresh: true)
        }
    }

    func resume(on connection: UpstreamConnection) {
        var head = self.loop.buffer(capacity: 512)
        let credential = self.http.credential(of: self.credentials)
        guard self.http.begin(.get, target: self.redirection.target, with: credential, on: connection, into: &head)
        else {
            connection.release()
            return self.fail(.noSuchSlot)
        }
        self.connection = connection
        self.eventDecoder = SSEDecoder(maximumEventBytes: self.eventDecoder.maximumEventBytes)
        if let id = self.sentSessionID { head.writeString("Mcp-Session-Id: \(id)\r\n") }
        if let revision = self.session?.revision { head.writeString(revision.headerLine) }
        self.request.appendForwarded(self.upstream.forwardHeaders, to: &head)
        self.resumption.appendField(to: &head)
        head.writeStaticString("\r\n")
        connection.send(head: head, body: nil, receiver: self)
    }

    func resumed(_ answer: AnswerHead) {
        guard answer.status == 200, answer.mediaType == .eventStream else {
            self.abandonUpstream()
            self.resumption.attempts = Resumption.limit
            return self.resumeLater()
        }
        self.phase = .events
        if self.blockedSince != nil { self.pauseUpstream(true) }
    }
}
