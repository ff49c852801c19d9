// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore

/// Who wants what one of the gateway's GET streams brings; told on its event loop.
protocol ListeningOwner: AnyObject {
    /// The stream stands.
    func listeningBegan(_ listening: UpstreamListening)
    /// A message came on it.
    func listening(_ listening: UpstreamListening, heard message: ByteBuffer)
    /// No more bytes at this moment.
    func listeningPaused(_ listening: UpstreamListening)
    /// The stream does not stand.
    func listening(_ listening: UpstreamListening, stopped stop: UpstreamListening.Stop)
}

/// One GET stream at a streamable-HTTP upstream, in one session of it: asked for, read, and asked for again where it
/// broke off, as the machine of its rules says.
///
/// There is never more than one connection of it. It ends when its owner ends it; a session that takes the place of this
/// one gets a stream of its own. Confined to its event loop.
final class UpstreamListening: UpstreamReceiver {
    /// Why the stream does not stand.
    enum Stop {
        /// It broke off or was not to be had, and is asked for again in a while.
        case interrupted
        /// The upstream has no such stream; it rests until its owner wants it asked for again.
        case unavailable(status: Int)
        /// The upstream refuses the credential; it rests.
        case refused(status: Int)
        /// The upstream has forgotten the session; it rests.
        case lost
        /// The credential of its slot is no longer configured; it rests.
        case gone
    }

    /// Where a stream can be taken up again.
    struct Position {
        fileprivate let session: String?
        fileprivate let resumption: Resumption?
        fileprivate let rules: StandingStream.StateMachine
    }

    let slot: CredentialID
    /// The upstream's id of the session; nil where it issues none.
    let session: String?
    /// Whether the stream stands.
    private(set) var isReading = false
    /// Whether it stood since it was made.
    private(set) var hasStood = false
    private(set) var isOver = false
    /// Whether nobody but the gateway wants its connection.
    var isOwn: Bool { didSet { self.countConnection() } }

    private let http: HTTPAccess
    private let upstream: Upstream
    private let loop: LoopResources
    /// The field lines of its GET, beside the session and what all requests carry.
    private let fields: String
    private weak var owner: (any ListeningOwner)?
    private var rules: StandingStream.StateMachine
    private var connection: UpstreamConnection? { didSet { self.countConnection() } }
    /// Whether a connection is on its way.
    private var isConnecting = false { didSet { self.countConnection() } }
    private var own: OwnConnection
    private var reader: MessageReader
    private var timer: Scheduled<Void>?
    private var check: UpstreamCall?
    /// Whoever waits for the first answer.
    private var waiters: [@Sendable () -> Void] = []
    private var hasAnswer = false
    private let origin = NIODeadline.now()
    /// How long anybody waits for the first answer: by then the upstream has the request, and may keep its answer back.
    private static let patience = TimeAmount.milliseconds(500)
    private static let checkTime = TimeAmount.seconds(10)

    /// `position` is where an earlier stream of this slot came to; of one in another session only its pace counts.
    init(
        _ http: HTTPAccess,
        of upstream: Upstream,
        slot: CredentialID,
        session: String?,
        fields: String,
        after position: Position?,
        isOwn: Bool,
        owner: any ListeningOwner,
        on loop: LoopResources
    ) {
        self.http = http
        self.upstream = upstream
        self.slot = slot
        self.session = session
        self.fields = fields
        self.rules = position?.rules ?? StandingStream.StateMachine()
        self.isOwn = isOwn
        self.owner = owner
        self.loop = loop
        self.own = OwnConnection(of: upstream)
        self.reader = MessageReader(.init(event: 0), in: upstream.buffers)
        let listening = NIOLoopBound(self, eventLoop: loop.eventLoop)
        let before = position?.session == session ? position?.resumption : nil
        self.reader = MessageReader(
            .init(event: upstream.eventBytes),
            in: upstream.buffers,
            after: before ?? Resumption()
        ) { listening.eventLoop.execute { listening.value.giveUpEvent() } }
    }

    var position: Position { Position(session: self.session, resumption: self.reader.resumption, rules: self.rules) }

    var isReadingPaused: Bool {
        get { self.connection?.isReadingPaused == true }
        set { self.connection?.isReadingPaused = newValue }
    }

    func start() { self.connect() }

    /// The owner wants the stream although it rests: it is asked for again, not at once.
    func askAgain() {
        guard !self.isOver else { return }
        self.ask(in: self.rules.pauseAfterRefusal())
    }

    func end() {
        guard !self.isOver else { return }
        self.isOver = true
        self.timer?.cancel()
        self.check?.cancel()
        self.check = nil
        self.drop()
        // The reader knows whom to tell, and so would keep this object.
        self.reader = MessageReader(.init(event: 0), in: self.upstream.buffers, after: self.reader.resumption)
        self.tellWaiters()
    }

    /// Calls `body` when the upstream has answered the GET, or has had the time to.
    func whenAnswered(_ body: @escaping @Sendable () -> Void) {
        guard !self.hasAnswer else { return body() }
        self.waiters.append(body)
        guard self.waiters.count == 1 else { return }
        let listening = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.loop.eventLoop.scheduleTask(in: Self.patience) { listening.value.tellWaiters() }
    }

    private func tellWaiters() {
        self.hasAnswer = true
        let waiters = self.waiters
        self.waiters = []
        for waiter in waiters { waiter() }
    }

    private func countConnection() {
        self.own.isWanted = self.isOwn && (self.isConnecting || self.connection != nil)
    }

    private var now: Duration { Duration(NIODeadline.now() - self.origin) }

    private func ask(in pause: Duration) {
        let listening = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.timer?.cancel()
        self.timer = self.loop.eventLoop.scheduleTask(in: TimeAmount(pause)) { listening.value.connect() }
    }

    private func connect() {
        guard !self.isOver, !self.isConnecting, self.connection == nil else { return }
        self.isConnecting = true
        self.loop.pool(of: self.upstream)?.connect(for: self)
    }

    private func drop() {
        self.isReading = false
        self.connection?.cancel()
        self.connection = nil
        self.reader.begin(.events, eventBytes: self.loop.limits.eventBytes)
    }

    private func obey(_ action: StandingStream.Action) {
        switch action {
        case .read:
            self.upstream.conclude(.usable)
            self.isReading = true
            self.hasStood = true
            self.owner?.listeningBegan(self)
        case .check:
            self.drop()
            self.sendCheck()
        case .again(let pause):
            self.drop()
            self.ask(in: pause)
            self.owner?.listening(self, stopped: .interrupted)
        case .unavailable(let status):
            self.drop()
            self.upstream.conclude(.usable)
            self.owner?.listening(self, stopped: .unavailable(status: status))
        case .refused(let status):
            self.drop()
            self.owner?.listening(self, stopped: .refused(status: status))
        case .reopen:
            self.drop()
            self.owner?.listening(self, stopped: .lost)
        }
    }

    /// A message in the same session tells whether that and the credential are good.
    private func sendCheck() {
        let listening = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.check = UpstreamCall.send(
            self.http,
            of: self.upstream,
            slot: self.slot,
            on: self.loop,
            body: ClientMessage.ping(id: #""\#(Self.checkID)""#),
            session: self.session,
            fields: self.fields,
            timeout: Self.checkTime
        ) { result in
            let listening = listening.value
            listening.check = nil
            guard !listening.isOver else { return }
            let check = (try? result.get())
                .map {
                    StandingStream.Check($0, hadSession: listening.session != nil, depth: listening.upstream.jsonDepth)
                }
            listening.obey(listening.rules.checked(check ?? .unknown, now: listening.now))
        }
    }

    /// What no caller takes for an id of its own.
    fileprivate static let checkID = "mcp-proxy-check"

    // MARK: Upstream

    func upstreamConnected(_ connection: UpstreamConnection) {
        self.isConnecting = false
        guard !self.isOver, self.connection == nil else { return connection.release() }
        var head = self.loop.buffer(capacity: 512)
        let credential = self.http.credential(self.slot)
        guard self.http.begin(.get, with: credential, on: connection, into: &head) else {
            connection.release()
            self.tellWaiters()
            self.owner?.listening(self, stopped: .gone)
            return
        }
        self.connection = connection
        self.reader.begin(.events, eventBytes: self.loop.limits.eventBytes)
        if let session { head.writeString("Mcp-Session-Id: \(session)\r\n") }
        head.writeString(self.fields)
        self.reader.resumption?.appendField(to: &head)
        head.writeStaticString("\r\n")
        connection.send(head: head, body: nil, receiver: self)
    }

    func upstreamAnswered(_ connection: UpstreamConnection) {
        let answer = AnswerHead(connection)
        self.tellWaiters()
        let isEventStream = answer.mediaType == .eventStream && answer.unsupportedCoding == nil
        let said = StandingStream.Answer(status: answer.status, isEventStream: isEventStream)
        self.obey(self.rules.answered(said, now: self.now))
    }

    func upstreamSent(_ bytes: ByteBuffer) {
        guard self.isReading else { return }
        self.reader.append(bytes)
        while self.isReading {
            switch self.reader.next() {
            case .needsMore:
                return
            case .tooLarge:
                self.giveUpEvent()
            case .skipped, .endpoint:
                self.rules.heard()
            case .message(let message):
                self.rules.heard()
                self.owner?.listening(self, heard: message)
            }
        }
    }

    func upstreamPaused() { self.owner?.listeningPaused(self) }

    func upstreamEnded() { self.broke() }

    func upstreamFailed(_ error: TransportError) { self.broke() }

    /// An event is larger than the bound, or than there is room for: the stream is asked for again behind it.
    private func giveUpEvent() { if self.connection != nil { self.broke() } }

    private func broke() {
        self.isConnecting = false
        self.tellWaiters()
        guard !self.isOver else { return }
        self.drop()
        let retry = self.reader.resumption?.lastRetry
        self.obey(self.rules.ended(retry: retry.map { Duration($0) }, now: self.now))
    }
}

extension StandingStream.Check {
    init(_ answer: UpstreamCall.Answer, hadSession: Bool, depth: Int) {
        let envelope = AnswerReader.read(answer.body, depth: depth)
        let id = envelope?.isResponse == true ? envelope?.idValue(in: answer.body) : nil
        // All that can be wrong with a ping itself is that the server has none.
        let isKnown = envelope?.kind == .result || envelope?.errorCode == -32_601
        self.init(
            status: answer.status,
            isAnswered: id == .string(Array(UpstreamListening.checkID.utf8)) && isKnown,
            hadSession: hadSession
        )
    }
}
