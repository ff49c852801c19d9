// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore

/// The GET stream of a handshake caller: what its upstream sends without being asked (protocol §1.1).
///
/// The caller keeps its stream while the upstream's comes and goes: it is opened again behind it, from the last event
/// on, with growing pauses. Only a 405, which says that there is no such stream, is passed on.
final class ListenExchange: UpstreamReceiver, DownstreamExchange {
    private enum Phase {
        /// The upstream has not answered the first time.
        case opening
        case streaming
        /// The upstream's stream is gone; it is asked again at `retryAt`.
        case interrupted(retryAt: NIODeadline)
        case done
    }

    private let gateway: Gateway
    private let upstream: Upstream
    private let request: InboundRequest
    private let loop: GatewayLoop
    private let session: CallerSession?
    private var responder: (any DownstreamResponder)?
    private var phase = Phase.opening
    private var connection: UpstreamConnection?
    private var answer = AnswerHead()
    private var decoder: SSEDecoder
    private var pending = ByteBuffer()
    private var lastEventID: ByteBuffer?
    private var retryDelay: TimeAmount?
    private var failures = 0
    private var hasStarted = false
    private var lastSent: NIODeadline
    private var blockedSince: NIODeadline?
    private let openingDeadline: NIODeadline

    init(
        gateway: Gateway,
        upstream: Upstream,
        request: InboundRequest,
        session: CallerSession?,
        responder: any DownstreamResponder
    ) {
        self.gateway = gateway
        self.upstream = upstream
        self.request = request
        self.session = session
        self.responder = responder
        self.loop = responder.loop
        self.lastSent = request.receivedAt
        self.openingDeadline = request.receivedAt + .seconds(15)
        self.decoder = SSEDecoder(maximumEventBytes: gateway.limits.eventBytes)
        if let id = request.value(.lastEventID) { self.lastEventID = ByteBuffer(bytes: id) }
    }

    func start() {
        self.upstream.metrics.streams.add(1)
        if let session {
            let exchange = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
            session.replaceStream(
                CallerSession.Stream(owner: ObjectIdentifier(self)) { exchange.execute { $0.end() } }
            )
        }
        self.connect()
    }

    private func connect() {
        self.loop.pool(of: self.upstream).connect(for: self)
    }

    // MARK: Upstream

    func upstreamConnected(_ connection: UpstreamConnection) {
        if case .done = self.phase { return connection.release() }
        self.connection = connection
        self.decoder = SSEDecoder(maximumEventBytes: self.gateway.limits.eventBytes)
        self.pending = ByteBuffer()
        var head = self.loop.buffer(capacity: 512)
        self.upstream.heads.begin(.get, target: nil, into: &head)
        if let version = self.request.value(.mcpProtocolVersion) {
            head.writeStaticString("MCP-Protocol-Version: ")
            head.writeBytes(version)
            head.writeStaticString("\r\n")
        }
        self.request.appendForwarded(self.upstream.configuration.forwardHeaders, to: &head)
        if let id = self.session?.upstreamID { head.writeString("Mcp-Session-Id: \(id)\r\n") }
        if let lastEventID {
            head.writeStaticString("Last-Event-ID: ")
            head.writeImmutableBuffer(lastEventID)
            head.writeStaticString("\r\n")
        }
        head.writeStaticString("\r\n")
        connection.send(head: head, body: nil, receiver: self)
    }

    func upstreamAnswered(_ connection: UpstreamConnection) {
        self.answer = AnswerHead(connection)
        switch self.answer.status {
        case 200 where self.answer.mediaType == .eventStream:
            self.upstream.conclude(.usable)
            self.failures = 0
            self.phase = .streaming
            self.begin()
        case 405 where !self.hasStarted:
            self.upstream.conclude(.usable)
            self.respondNotAllowed()
        case 404 where self.session != nil, 405:
            // The session is over, or there is no stream any more: the next POST brings it to light.
            self.end()
        default:
            self.connection?.cancel()
            self.connection = nil
            self.interrupted()
        }
    }

    private func respondNotAllowed() {
        self.connection?.cancel()
        self.connection = nil
        self.responder?
            .respond(
                status: 405,
                json: ErrorAnswer.body(code: -32_000, message: "this server offers no GET stream")
            ) { $0.writeStaticString("Allow: POST, DELETE\r\n") }
        self.finish()
    }

    private func begin() {
        guard !self.hasStarted else { return }
        self.hasStarted = true
        self.responder?
            .begin(status: 200, length: nil) { head in
                head.writeStaticString("Content-Type: text/event-stream\r\nCache-Control: no-store\r\n")
                head.writeStaticString("X-Accel-Buffering: no\r\n")
            }
        self.responder?.flush()
    }

    func upstreamSent(_ bytes: ByteBuffer) {
        guard case .streaming = self.phase else { return }
        if self.pending.readableBytes == 0 { self.pending = bytes } else { self.pending.writeImmutableBuffer(bytes) }
        var passed = 0
        reading: while true {
            var rest = self.pending
            rest.moveReaderIndex(forwardBy: passed)
            switch self.decoder.next(in: rest.readableBytesUInt8Span) {
            case .needsMore:
                break reading
            case .comment(let length):
                passed += length
            case .ignored(let length):
                self.relay(&passed)
                self.pending.moveReaderIndex(forwardBy: length)
            case .event(let event):
                if let id = event.id { self.lastEventID = Self.slice(id, of: rest) }
                if let retry = event.retry { self.retryDelay = .milliseconds(Int64(min(retry, 30_000))) }
                passed += event.length
            case .tooLong:
                self.relay(&passed)
                self.connection?.cancel()
                self.connection = nil
                return self.interrupted()
            }
        }
        self.relay(&passed)
    }

    /// A copy, so that a short id does not keep a long read alive; none if the stream has no id from here.
    private static func slice(_ range: Range<Int>, of bytes: ByteBuffer) -> ByteBuffer? {
        guard !range.isEmpty, range.count <= 1024 else { return nil }
        return bytes.viewBytes(at: bytes.readerIndex + range.lowerBound, length: range.count)
            .map { ByteBuffer(bytes: $0) }
    }

    private func relay(_ count: inout Int) {
        defer { count = 0 }
        guard count > 0, let bytes = self.pending.readSlice(length: count) else { return }
        if self.pending.readableBytes == 0 { self.pending = ByteBuffer() }
        self.send(bytes)
    }

    private func send(_ bytes: ByteBuffer) {
        guard let responder else { return }
        responder.send(bytes)
        self.lastSent = .now()
        guard !responder.isWritable, self.blockedSince == nil else { return }
        self.blockedSince = self.lastSent
        self.connection?.isReadingPaused = true
    }

    func upstreamPaused() { self.responder?.flush() }

    func upstreamEnded() {
        self.connection = nil
        self.interrupted()
    }

    func upstreamFailed(_ error: TransportError) {
        self.connection = nil
        self.interrupted()
    }

    private func interrupted() {
        if case .done = self.phase { return }
        self.begin()
        self.failures += 1
        let backoff = TimeAmount.milliseconds(500 << Int64(min(self.failures, 6)))
        self.phase = .interrupted(
            retryAt: .now() + max(self.retryDelay ?? backoff, self.failures > 3 ? backoff : .zero)
        )
    }

    // MARK: Downstream

    func downstreamLeft(isClosed: Bool) {
        if isClosed { self.responder = nil }
        self.end()
    }

    func downstreamBecameWritable() {
        self.blockedSince = nil
        self.connection?.isReadingPaused = false
    }

    func drain() { self.end() }

    /// Ends the caller's stream as a whole: it was replaced, its session ended, or the process stops.
    private func end() {
        if case .done = self.phase { return }
        self.begin()
        self.responder?.finish()
        self.finish()
    }

    private func finish() {
        if case .done = self.phase { return }
        self.phase = .done
        self.responder = nil
        self.connection?.cancel()
        self.connection = nil
        self.upstream.metrics.streams.subtract(1)
        self.gateway.streamEnded()
        guard let session else { return }
        session.forgetStream(of: ObjectIdentifier(self))
        self.gateway.sessions.end(session)
    }

    func sweep(now: NIODeadline) {
        switch self.phase {
        case .done:
            return
        case .opening where now >= self.openingDeadline:
            // A server may send the head with its first event: the caller need not wait for that.
            self.begin()
        case .interrupted(let retryAt) where now >= retryAt:
            self.phase = .opening
            self.connect()
        default:
            break
        }
        if let blockedSince, now - blockedSince >= TimeAmount(self.gateway.limits.slowReader) {
            self.responder?.reset()
            return self.finish()
        }
        if self.hasStarted, self.blockedSince == nil, now - self.lastSent >= Exchange.keepAliveInterval {
            self.send(Exchange.keepAlive)
            self.responder?.flush()
        }
    }
}

extension NIOLoopBound {
    /// Runs on the value's event loop, from anywhere.
    func execute(_ body: @escaping @Sendable (Value) -> Void) {
        self.eventLoop.execute { body(self.value) }
    }
}
