// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayTransport
import GatewayWire
import NIOCore

/// Reads the GET stream of a session that callers share, for as long as that is open.
///
/// There is one at a time for a session: it moves to the upstream session that takes the place of a lost one. Confined to
/// the home loop of the session.
final class SharedListening: UpstreamReceiver {
    private let session: SharedSession
    private let loop: GatewayLoop
    private var connection: UpstreamConnection? {
        didSet { self.own.isWanted = self.isConnecting || self.connection != nil }
    }
    /// Whether a connection is on its way.
    private var isConnecting = false {
        didSet { self.own.isWanted = self.isConnecting || self.connection != nil }
    }
    private var own: OwnConnection
    private var reader: EventReader
    private var resumption = Resumption()
    private var failures = 0
    private var timer: Scheduled<Void>?
    private var isOver = false

    init(_ session: SharedSession, on loop: GatewayLoop) {
        self.session = session
        self.own = OwnConnection(of: session.upstream)
        self.loop = loop
        self.reader = EventReader(eventBytes: session.upstream.eventBytes, in: session.upstream.buffers)
        let listening = NIOLoopBound(self, eventLoop: loop.eventLoop)
        self.reader = EventReader(eventBytes: session.upstream.eventBytes, in: session.upstream.buffers) {
            listening.eventLoop.execute { listening.value.giveUpEvent() }
        }
    }

    /// Listens to the upstream session that is open now, from its beginning.
    func restart() {
        guard !self.isOver else { return }
        self.dropConnection()
        self.resumption = Resumption()
        self.failures = 0
        self.connect()
    }

    /// Listens no more.
    func end() {
        self.isOver = true
        self.dropConnection()
        // The reader knows whom to tell, and so would keep this object.
        self.reader = EventReader(eventBytes: 0, in: self.session.upstream.buffers)
    }

    private func dropConnection() {
        self.timer?.cancel()
        self.connection?.cancel()
        self.connection = nil
        self.reader.reset()
    }

    private func connect() {
        guard !self.isOver, !self.isConnecting, self.session.session != nil else { return }
        self.isConnecting = true
        self.loop.pool(of: self.session.upstream)?.connect(for: self, isFresh: true)
    }

    func upstreamConnected(_ connection: UpstreamConnection) {
        self.isConnecting = false
        guard !self.isOver, self.connection == nil, let session = self.session.session, let id = session.id else {
            return connection.release()
        }
        var head = self.loop.buffer(capacity: 512)
        guard self.session.http.begin(.get, slot: session.slot, on: connection, into: &head) else {
            return connection.release()
        }
        self.connection = connection
        self.reader.reset()
        head.writeString("Mcp-Session-Id: \(id)\r\n\(session.origin.fields)")
        self.resumption.appendField(to: &head)
        head.writeStaticString("\r\n")
        connection.send(head: head, body: nil, receiver: self)
    }

    func upstreamAnswered(_ connection: UpstreamConnection) {
        let answer = AnswerHead(connection)
        switch answer.status {
        case 200 where answer.mediaType == .eventStream:
            break
        case 405, 404:
            // There is no such stream, or no such session: the next call brings that to light, and `restart` follows.
            self.dropConnection()
        default:
            self.again()
        }
    }

    func upstreamSent(_ bytes: ByteBuffer) {
        self.reader.append(bytes)
        while self.connection != nil {
            switch self.reader.next() {
            case .needsMore:
                return
            case .tooLarge:
                self.giveUpEvent()
            case .event(let event, let bytes):
                self.failures = 0
                self.resumption.take(event, in: bytes)
                if let data = event.dataBytes(in: bytes), let envelope = AnswerReader.read(data, depth: 64) {
                    _ = self.session.route(data, envelope, during: nil)
                }
            }
        }
    }

    /// An event is larger than the bound, or than there is room for.
    private func giveUpEvent() { if self.connection != nil { self.again() } }

    func upstreamPaused() {}

    func upstreamEnded() {
        self.connection = nil
        self.again()
    }

    func upstreamFailed(_ error: TransportError) {
        self.isConnecting = false
        self.connection = nil
        self.again()
    }

    private func again() {
        self.dropConnection()
        guard !self.isOver else { return }
        self.failures += 1
        let delay = max(self.resumption.delay, .milliseconds(500 << Int64(min(self.failures, 6))))
        let listening = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.timer = self.loop.eventLoop.scheduleTask(in: delay) { listening.value.connect() }
    }
}
