// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayTransport
import GatewayWire
import NIOCore

/// Reads the GET stream of a session that callers share, for as long as that is open.
final class SharedListening: UpstreamReceiver {
    private let session: SharedSession
    private let loop: GatewayLoop
    private var connection: UpstreamConnection?
    private var decoder = SSEDecoder()
    private var bytes = ByteBuffer()
    private var resumption = Resumption()
    private var failures = 0

    init(_ session: SharedSession, on loop: GatewayLoop) {
        self.session = session
        self.loop = loop
    }

    func start() {
        guard !self.session.isOver, self.session.session != nil else { return }
        self.loop.pool(of: self.session.upstream)?.connect(for: self, isFresh: true)
    }

    func upstreamConnected(_ connection: UpstreamConnection) {
        guard !self.session.isOver, let session = self.session.session, let id = session.id else {
            return connection.release()
        }
        self.connection = connection
        self.decoder = SSEDecoder()
        self.bytes = ByteBuffer()
        var head = self.loop.buffer(capacity: 512)
        self.session.http.begin(.get, slot: session.slot, on: connection, into: &head)
        head.writeString("Mcp-Session-Id: \(id)\r\n\(session.origin.fields)")
        self.resumption.appendField(to: &head)
        head.writeStaticString("\r\n")
        connection.send(head: head, body: nil, receiver: self)
    }

    func upstreamAnswered(_ connection: UpstreamConnection) {
        let answer = AnswerHead(connection)
        switch answer.status {
        case 200 where answer.mediaType == .eventStream:
            self.failures = 0
        case 405, 404:
            // There is no such stream, or no such session: the next call brings that to light.
            self.connection?.cancel()
            self.connection = nil
        default:
            self.connection?.cancel()
            self.again()
        }
    }

    func upstreamSent(_ bytes: ByteBuffer) {
        if self.bytes.readableBytes == 0 { self.bytes = bytes } else { self.bytes.writeImmutableBuffer(bytes) }
        while self.connection != nil {
            switch self.decoder.next(in: self.bytes.readableBytesUInt8Span) {
            case .needsMore:
                return
            case .tooLong:
                self.connection?.cancel()
                return self.again()
            case .comment(let length), .ignored(let length):
                self.bytes.moveReaderIndex(forwardBy: length)
            case .event(let event):
                self.resumption.take(event, in: self.bytes)
                if let data = event.dataBytes(in: self.bytes), let envelope = AnswerReader.read(data, depth: 64) {
                    _ = self.session.route(data, envelope, during: nil)
                }
                self.bytes.moveReaderIndex(forwardBy: event.length)
            }
        }
    }

    func upstreamPaused() {}

    func upstreamEnded() { self.again() }

    func upstreamFailed(_ error: TransportError) { self.again() }

    private func again() {
        self.connection = nil
        guard !self.session.isOver else { return }
        self.failures += 1
        let delay = max(self.resumption.delay, .milliseconds(500 << Int64(min(self.failures, 6))))
        let listening = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.loop.eventLoop.scheduleTask(in: delay) { listening.value.start() }
    }
}
