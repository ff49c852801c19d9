// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore

/// Fills the stream of a caller's GET from the upstream's: what that sends without being asked (protocol §1.1).
///
/// The caller's stream stays while the upstream's comes and goes: it is opened again behind it, from the last event on,
/// with growing pauses. Only a 405, which says that there is no such stream, is passed on. Confined to the event loop of
/// the stream.
final class ListenExchange: UpstreamReceiver, StreamSource {
    private enum Phase {
        /// The upstream has not answered the first time.
        case opening
        case streaming
        /// The upstream's stream is gone; it is asked again in a while.
        case interrupted
        /// Its caller is away: the upstream is asked again when that comes back, from the last event on.
        case suspended
        case done
    }

    private let http: HTTPAccess
    private let gateway: Gateway
    private let upstream: Upstream
    private let request: InboundRequest
    private let loop: GatewayLoop
    private let session: CallerSession?
    /// The connection that waits for the upstream's first word.
    private var waiting: StreamConnection?
    /// Where messages go; nil for a caller of the old transport, which has one for everything.
    private(set) var stream: CallerStream?
    private var phase = Phase.opening
    private var connection: UpstreamConnection?
    private var decoder: SSEDecoder
    private var pending = ByteBuffer()
    private var resumption = Resumption()
    private var failures = 0
    /// Which credentials the connection being opened tried; nil at an upstream without a pool.
    private var credentials: CredentialAttempts?
    /// The slot of the connection.
    private var slot = 0
    /// The slot that was refused last, since one was accepted.
    private var refusedSlot: Int?
    /// Tells a pause before the next attempt from that before another one.
    private var interruptions = 0
    /// How long the upstream's stream stays open for a caller that is away.
    private static let absenceTime = TimeAmount.seconds(10)
    /// A server may send the head with its first event: the caller need not wait for that.
    private static let openingTime = TimeAmount.seconds(15)

    init(
        gateway: Gateway,
        upstream: Upstream,
        http: HTTPAccess,
        request: InboundRequest,
        session: CallerSession?,
        loop: GatewayLoop
    ) {
        self.gateway = gateway
        self.upstream = upstream
        self.http = http
        self.request = InboundRequest(copying: request)
        self.session = session
        self.loop = loop
        self.decoder = SSEDecoder(maximumEventBytes: gateway.limits.eventBytes)
        guard session?.isLegacy != true else { return }
        self.stream = CallerStream(
            number: 0,
            loop: loop,
            isResumable: session != nil,
            isPrimed: session?.isPrimed == true,
            source: self
        )
    }

    /// Asks the upstream; `connection` gets the stream when there is one, or a refusal.
    func start(for connection: StreamConnection?) {
        self.waiting = connection
        let listen = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.session?.onNewHome { listen.execute { $0.moveHome() } }
        self.connect()
        self.loop.eventLoop.scheduleTask(in: Self.openingTime) {
            if case .opening = listen.value.phase { listen.value.open() }
        }
    }

    /// Opens the upstream's stream, with the credential whose turn it is now.
    private func connect() {
        self.endAttempt()
        self.credentials = self.http.credentials.map { $0.attempts(self.choice(in: $0)) }
        self.attempt()
    }

    private func choice(in pool: UpstreamCredentials) -> CredentialAttempts.Choice {
        if let home = self.session?.choiceOfHome(pool) { return home }
        // In turns nobody else moves on from what was refused here.
        guard let refusedSlot, pool.rules.mode == .roundRobin else { return .idle }
        return .session(slot: (refusedSlot + 1) % pool.count)
    }

    private func attempt() {
        if let pool = self.http.credentials {
            guard let slot = pool.begin(&self.credentials) else { return self.interrupted() }
            self.slot = slot
        }
        guard case .http(let sessions?)? = self.session?.binding, sessions.session(self.slot).id == nil else {
            return self.dial()
        }
        let listen = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        SessionOpening.enter(sessions.session(self.slot), self.http, of: self.upstream, on: self.loop) {
            opened,
            isFirst in
            let listen = listen.value
            if case .done = listen.phase { return }
            switch opened {
            case .open: listen.dial()
            case .refused(let status): listen.refused(with: status, isCounted: isFirst)
            case .failed: listen.interrupted()
            case .over: listen.end()
            }
        }
    }

    private func dial() { self.loop.pool(of: self.upstream)?.connect(for: self) }

    private func refused(with status: Int, isCounted: Bool) {
        guard let pool = self.http.credentials else { return self.interrupted() }
        self.refusedSlot = self.slot
        let refusal = pool.refused(&self.credentials, with: status, isCounted: isCounted)
        self.session?.withRouting { [slot] in $0.refused(slot) }
        if case .again = refusal.verdict { self.attempt() } else { self.interrupted() }
    }

    private func endAttempt() { self.http.credentials?.release(&self.credentials) }

    /// The session has a new home: its stream is opened there, from now on (credentials.md §2.9).
    private func moveHome() {
        guard let session, session.home != self.slot, self.connection != nil else { return }
        self.connection?.cancel()
        self.connection = nil
        self.resumption = Resumption()
        self.phase = .interrupted
        self.interruptions += 1
        self.connect()
    }

    /// Gives the waiting connection its stream.
    private func open() {
        guard let waiting, let stream else { return }
        self.waiting = nil
        waiting.attach(to: NIOLoopBound(stream, eventLoop: self.loop.eventLoop), after: nil)
    }

    // MARK: Upstream

    func upstreamConnected(_ connection: UpstreamConnection) {
        switch self.phase {
        case .done, .suspended: return connection.release()
        case .opening, .streaming, .interrupted: break
        }
        self.connection = connection
        self.decoder = SSEDecoder(maximumEventBytes: self.gateway.limits.eventBytes)
        self.pending = ByteBuffer()
        var head = self.loop.buffer(capacity: 512)
        self.http.begin(.get, slot: self.slot, on: connection, into: &head)
        if let revision = self.session?.revision {
            head.writeString(revision.headerLine)
        } else if let version = self.request.value(.mcpProtocolVersion) {
            head.writeStaticString("MCP-Protocol-Version: ")
            head.writeBytes(version)
            head.writeStaticString("\r\n")
        }
        self.request.appendForwarded(self.upstream.configuration.forwardHeaders, to: &head)
        if case .http(let sessions?)? = self.session?.binding, let id = sessions.session(self.slot).id {
            head.writeString("Mcp-Session-Id: \(id)\r\n")
        }
        self.resumption.appendField(to: &head)
        head.writeStaticString("\r\n")
        connection.send(head: head, body: nil, receiver: self)
    }

    func upstreamAnswered(_ connection: UpstreamConnection) {
        let answer = AnswerHead(connection)
        let isFirst = if case .opening = self.phase { self.failures == 0 } else { false }
        switch answer.status {
        case 200 where answer.mediaType == .eventStream:
            self.upstream.conclude(.usable)
            self.failures = 0
            self.phase = .streaming
            self.accepted()
            self.open()
        case 405 where isFirst:
            self.upstream.conclude(.usable)
            self.refuse()
        case 404 where self.session != nil, 405:
            // The session is over, or there is no stream any more: the next POST brings it to light.
            self.end()
        case 401, 403:
            self.connection?.cancel()
            self.connection = nil
            self.refused(with: answer.status, isCounted: true)
        default:
            self.connection?.cancel()
            self.interrupted()
        }
    }

    private func accepted() {
        guard let pool = self.http.credentials else { return }
        self.refusedSlot = nil
        pool.succeeded(&self.credentials)
        if let session { self.gateway.accepted(self.slot, by: session, self.http, on: self.loop) }
    }

    /// The upstream offers no such stream.
    private func refuse() {
        let waiting = self.waiting
        self.waiting = nil
        if let stream, let session { session.forgetListener(stream) }
        self.finish()
        waiting?
            .refuse(status: 405, code: -32_000, "this server offers no GET stream") {
                $0.writeStaticString("Allow: POST, DELETE\r\n")
            }
    }

    func upstreamSent(_ bytes: ByteBuffer) {
        guard case .streaming = self.phase else { return }
        if self.pending.readableBytes == 0 { self.pending = bytes } else { self.pending.writeImmutableBuffer(bytes) }
        while self.connection != nil {
            switch self.decoder.next(in: self.pending.readableBytesUInt8Span) {
            case .needsMore:
                if self.pending.readableBytes == 0 { self.pending = ByteBuffer() }
                return
            case .comment(let length), .ignored(let length):
                self.pending.moveReaderIndex(forwardBy: length)
            case .event(let event):
                self.resumption.take(event, in: self.pending)
                if let data = event.dataBytes(in: self.pending), data.readableBytes > 0 {
                    self.send(self.session?.heard(data, by: self.slot) ?? data)
                }
                self.pending.moveReaderIndex(forwardBy: event.length)
            case .tooLong:
                self.connection?.cancel()
                return self.interrupted()
            }
        }
    }

    private func send(_ message: ByteBuffer) {
        if let stream { stream.send(message) } else { self.session?.messages?.send(message) }
    }

    func upstreamPaused() {
        self.stream?.flush()
        self.connection?.isReadingPaused = self.stream?.isWritable == false
    }

    func upstreamEnded() { self.interrupted() }

    func upstreamFailed(_ error: TransportError) { self.interrupted() }

    private func interrupted() {
        self.connection = nil
        self.endAttempt()
        switch self.phase {
        case .done, .suspended: return
        case .opening, .streaming, .interrupted: self.phase = .interrupted
        }
        self.open()
        self.failures += 1
        let backoff = TimeAmount.milliseconds(500 << Int64(min(self.failures, 6)))
        let wanted = self.resumption.lastRetry ?? backoff
        let listen = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.interruptions += 1
        let interruption = self.interruptions
        self.loop.eventLoop.scheduleTask(in: max(wanted, self.failures > 3 ? backoff : .zero)) {
            guard case .interrupted = listen.value.phase, listen.value.interruptions == interruption else { return }
            listen.value.connect()
        }
    }

    // MARK: Stream

    func streamBecameWritable() {
        self.connection?.isReadingPaused = false
        guard case .suspended = self.phase, self.stream?.hasOutlet == true else { return }
        self.interruptions += 1
        self.phase = .interrupted
        self.connect()
    }

    func streamDetached() {
        self.connection?.isReadingPaused = false
        let listen = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.loop.eventLoop.scheduleTask(in: Self.absenceTime) { listen.value.suspend() }
    }

    private func suspend() {
        guard let stream, !stream.hasOutlet else { return }
        if case .done = self.phase { return }
        self.phase = .suspended
        self.connection?.cancel()
        self.connection = nil
    }

    func streamExpired() {
        if let stream, let session { session.forgetListener(stream) }
        self.finish()
    }

    /// Ends the caller's stream as a whole: its session ended, or the process stops.
    func end() {
        if case .done = self.phase { return }
        let (stream, waiting) = (self.stream, self.waiting)
        if let stream, let session { session.forgetListener(stream) }
        self.finish()
        stream?.finish()
        waiting?.finish()
    }

    private func finish() {
        self.endAttempt()
        self.phase = .done
        self.waiting = nil
        self.stream = nil
        self.connection?.cancel()
        self.connection = nil
    }
}
