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
    private var connection: UpstreamConnection? { didSet { self.countConnection() } }
    /// Whether its caller is away, so that nobody but the gateway wants the connection, for a while.
    private var isCallerAway = false { didSet { self.countConnection() } }
    private var own: OwnConnection
    private var reader: EventReader
    private var resumption = Resumption()
    private var failures = 0
    /// Which credentials the connection being opened tried; nil at an upstream without a pool.
    private var credentials: CredentialAttempts?
    /// The slot of the connection.
    private var slot = 0
    /// The slot that was refused last, since one was accepted.
    private var refusedSlot: Int?
    /// The next attempt, or the end of the patience with the first one.
    private var timer: Scheduled<Void>?
    /// The end of the patience with a caller that is away.
    private var absence: Scheduled<Void>?
    /// When the upstream's stream began.
    private var began = NIODeadline.now()
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
        self.request = request
        self.session = session
        self.loop = loop
        self.own = OwnConnection(of: upstream)
        self.reader = EventReader(eventBytes: gateway.limits.eventBytes, in: gateway.buffers)
        guard session?.isLegacy != true else { return }
        self.stream = CallerStream(
            number: 0,
            loop: loop,
            isResumable: session != nil,
            isPrimed: session?.isPrimed == true,
            source: self,
            share: session?.share,
            overdueLimit: CallerStream.overdueLimit(gateway.limits)
        )
        let listen = NIOLoopBound(self, eventLoop: loop.eventLoop)
        self.reader = EventReader(eventBytes: gateway.limits.eventBytes, in: gateway.buffers) {
            listen.eventLoop.execute { listen.value.giveUpEvent() }
        }
    }

    /// Asks the upstream; `connection` gets the stream when there is one, or a refusal.
    func start(for connection: StreamConnection?) {
        self.waiting = connection
        connection?.waits { [weak self] in self?.callerLeft() }
        let listen = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.session?.onNewHome { listen.execute { $0.moveHome() } }
        self.timer = self.loop.eventLoop.scheduleTask(in: Self.openingTime) {
            if case .opening = listen.value.phase { listen.value.open() }
        }
        self.connect()
    }

    /// The caller left before it had its stream: unless another connection took that up, nobody wants it.
    private func callerLeft() {
        self.waiting = nil
        if self.stream?.hasOutlet != true { self.end() }
    }

    /// Opens the upstream's stream, with the credential whose turn it is now.
    private func connect() {
        self.endAttempt()
        self.credentials = self.http.credentials.map { $0.attempts(self.choice(in: $0)) }
        self.attempt()
    }

    private func countConnection() { self.own.isWanted = self.isCallerAway && self.connection != nil }

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
        guard case .http(let sessions?)? = self.session?.binding else { return self.dial() }
        guard let session = sessions.session(self.slot) else { return self.interrupted() }
        if session.id != nil { return self.dial() }
        let listen = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        SessionOpening.enter(session, self.http, of: self.upstream, on: self.loop) {
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
        self.timer?.cancel()
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
        var head = self.loop.buffer(capacity: 512)
        guard self.http.begin(.get, slot: self.slot, on: connection, into: &head) else {
            connection.release()
            return self.interrupted()
        }
        self.connection = connection
        self.reader.reset()
        if let revision = self.session?.revision {
            head.writeString(revision.headerLine)
        } else if let version = self.request.value(.mcpProtocolVersion) {
            head.writeStaticString("MCP-Protocol-Version: ")
            head.writeBytes(version)
            head.writeStaticString("\r\n")
        }
        self.request.appendForwarded(self.upstream.configuration.forwardHeaders, to: &head)
        if case .http(let sessions?)? = self.session?.binding, let id = sessions.session(self.slot)?.id {
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
            self.began = .now()
            self.phase = .streaming
            self.timer?.cancel()
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
        let (stream, waiting) = (self.stream, self.waiting)
        if let stream, let session { session.forgetListener(stream) }
        self.finish()
        // Another connection of the session may have it already.
        stream?.finish()
        waiting?
            .refuse(status: 405, code: -32_000, "this server offers no GET stream") {
                $0.writeStaticString("Allow: POST, DELETE\r\n")
            }
    }

    func upstreamSent(_ bytes: ByteBuffer) {
        guard case .streaming = self.phase else { return }
        self.reader.append(bytes)
        while self.connection != nil {
            switch self.reader.next() {
            case .needsMore:
                return
            case .event(let event, let bytes):
                self.failures = 0
                self.resumption.take(event, in: bytes)
                if let data = event.dataBytes(in: bytes), data.readableBytes > 0 {
                    self.send(self.session?.heard(data, by: self.slot) ?? data)
                }
            case .tooLarge:
                self.giveUpEvent()
            }
        }
    }

    /// An event is larger than the bound, or than there is room for: the stream is asked for again behind it.
    private func giveUpEvent() {
        guard let connection else { return }
        connection.cancel()
        self.interrupted()
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
        self.reader.reset()
        self.endAttempt()
        switch self.phase {
        case .done, .suspended: return
        case .streaming where .now() - self.began >= Self.goodTime: self.failures = 0
        case .opening, .streaming, .interrupted: break
        }
        self.phase = .interrupted
        self.open()
        self.failures += 1
        let backoff = TimeAmount.milliseconds(500 << Int64(min(self.failures, 6)))
        let wanted = self.resumption.lastRetry ?? backoff
        let listen = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.timer?.cancel()
        self.timer = self.loop.eventLoop.scheduleTask(in: max(wanted, self.failures > 3 ? backoff : .zero)) {
            if case .interrupted = listen.value.phase { listen.value.connect() }
        }
    }

    /// A stream that stood so long was no failure.
    private static let goodTime = TimeAmount.seconds(5)

    // MARK: Stream

    func streamBecameWritable() {
        self.connection?.isReadingPaused = false
        if self.stream?.hasOutlet == true { self.isCallerAway = false }
        guard case .suspended = self.phase, self.stream?.hasOutlet == true else { return }
        self.phase = .interrupted
        self.connect()
    }

    func streamDetached() {
        self.connection?.isReadingPaused = false
        self.isCallerAway = true
        let listen = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.absence?.cancel()
        self.absence = self.loop.eventLoop.scheduleTask(in: Self.absenceTime) { listen.value.suspend() }
    }

    private func suspend() {
        guard let stream, !stream.hasOutlet else { return }
        if case .done = self.phase { return }
        self.phase = .suspended
        self.timer?.cancel()
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
        self.timer?.cancel()
        self.absence?.cancel()
        // The reader knows whom to tell, and so would keep this object.
        self.reader = EventReader(eventBytes: 0, in: self.gateway.buffers)
        self.waiting = nil
        self.stream = nil
        self.connection?.cancel()
        self.connection = nil
    }
}
