// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayTransport
import GatewayWire
import Logging
import NIOCore
import Synchronization

/// The session at a streamable-HTTP upstream that all its handshake callers share, one for each credential (contract §2,
/// `isolation`).
///
/// It is opened by us, when the first caller wants it. Ids are ours on the way up, so that callers that count alike do not
/// meet there. What comes on the answer of a call belongs to its caller; what comes unasked goes to whom the machine
/// names. Behind one short lock, since callers live on all event loops.
final class SharedSession: Sendable {
    typealias Waiter = @Sendable (Opened) -> Void

    /// What came of opening it; `isFirst` for the one that made us ask.
    enum Opened: Sendable {
        case open(InitializeResult, isFirst: Bool)
        /// The upstream refused the slot's credential with this status.
        case refused(Int, isFirst: Bool)
        case failed(GatewayError)
    }

    struct State: ~Copyable {
        var bridge = SessionBridge.StateMachine(sharing: .shared, carrier: .answersAndStream)
        var callers: [Int: any StreamSink] = [:]
        var nextCaller = 1
        fileprivate var opening = Opening.closed
        var isOver = false
    }

    fileprivate enum Opening: Sendable {
        case closed
        case opening([Waiter])
        case open(HTTPUpstreamSession?, InitializeResult)
    }

    let upstream: Upstream
    let http: HTTPAccess
    let slot: CredentialID
    /// Has the upstream session listened to before anything is sent in it.
    private let watch = OpeningWatch()
    /// Where the session is opened and its stream read.
    private let home: LoopResources
    let state = Mutex(State())
    /// Reads what comes unasked; touched on the home loop only.
    private let listening: NIOLoopBoundBox<SharedListening?>

    init(_ upstream: Upstream, _ http: HTTPAccess, slot: CredentialID, home: LoopResources) {
        self.upstream = upstream
        self.http = http
        self.slot = slot
        self.home = home
        self.listening = .makeBoxSendingValue(nil, eventLoop: home.eventLoop)
    }

    /// The upstream session; nil before it is open, and where the upstream issues none.
    var session: HTTPUpstreamSession? {
        self.state.withLock { state in
            if case .open(let session, _) = state.opening { session } else { nil }
        }
    }

    /// Whether messages can be sent in it.
    var isOpen: Bool {
        self.state.withLock { state in
            if case .open = state.opening { true } else { false }
        }
    }

    // MARK: Opening

    /// Tells `waiter` the upstream's answer to our `initialize`, now or when there is one, or that it is over; called on any
    /// event loop.
    func whenOpen(_ waiter: @escaping Waiter) {
        let (opened, isFirst): (Opened?, Bool) = self.state.withLock { state in
            switch state.opening {
            case .open(_, let result): return (.open(result, isFirst: false), false)
            case .opening(let waiters):
                state.opening = .opening(waiters + [waiter])
                return (nil, false)
            case .closed where state.isOver: return (.failed(.upstreamIsGone(executed: .no)), false)
            case .closed:
                state.opening = .opening([waiter])
                return (nil, true)
            }
        }
        if let opened { return waiter(opened) }
        if isFirst { self.home.eventLoop.execute { self.open() } }
    }

    private func open() {
        let message = ClientMessage.initialize(
            id: "0",
            self.upstream.identity,
            capabilities: ClientMessage.sharedCapabilities
        )
        UpstreamCall.send(
            self.http,
            of: self.upstream,
            slot: self.slot,
            on: self.home,
            body: message,
            timeout: .seconds(30)
        ) { result in
            switch result {
            case .failure(let error):
                self.opened(.failed(GatewayError(error).beforeTheCall))
            case .success(let answer) where answer.refusal != nil:
                self.opened(.refused(answer.status, isFirst: false))
            case .success(let answer) where answer.status >= 300:
                self.opened(.failed(GatewayError(refusedWith: answer.status, place: answer.place).beforeTheCall))
            case .success(let answer):
                guard let envelope = answer.envelope,
                    let initialized = InitializeResult(answer.body, envelope)
                else { return self.opened(.failed(Self.noHandshake)) }
                self.initialized(initialized, id: answer.sessionID, message)
            }
        }
    }

    private static let noHandshake = GatewayError(
        .upstreamProtocol,
        executed: .no,
        "the server does not answer initialize: is it an MCP server?",
        cause: "no_handshake"
    )

    private func initialized(_ result: InitializeResult, id: String?, _ message: ByteBuffer) {
        let origin = SessionOrigin(revision: result.revision, initialize: message, forwarded: [])
        self.watch.set(for: self) { [weak self] _, id, goOn in
            guard let self else { return goOn() }
            self.listen(in: id, fields: origin.fields, goOn)
        }
        let session = id.map {
            HTTPUpstreamSession(
                id: $0,
                slot: self.slot,
                origin: origin,
                watch: self.watch
            )
        }
        UpstreamCall.send(
            self.http,
            of: self.upstream,
            slot: self.slot,
            on: self.home,
            body: ClientMessage.initialized,
            session: id,
            fields: result.revision?.headerLine ?? "",
            timeout: .seconds(10)
        ) { _ in
            guard let id else { return self.opened(.open(result, isFirst: false), session) }
            // Before anybody uses it: what the upstream asks for the first call finds a stream.
            self.watch.opened(self.slot, id: id) { self.opened(.open(result, isFirst: false), session) }
        }
    }

    /// Reads what comes unasked in the upstream session `id`, which is open now.
    private func listen(in id: String, fields: String, _ goOn: @escaping @Sendable () -> Void) {
        self.home.run {
            guard !self.isOver else { return goOn() }
            let listening = self.listening.value ?? SharedListening(self, on: self.home)
            self.listening.value = listening
            listening.restart(in: id, fields: fields, goOn)
        }
    }

    private func opened(_ result: Opened, _ session: HTTPUpstreamSession? = nil) {
        let (waiters, isLate): ([Waiter], Bool) = self.state.withLock { state in
            guard case .opening(let waiters) = state.opening else { return ([], state.isOver) }
            guard case .open(let initialized, _) = result else {
                state.opening = .closed
                return (waiters, false)
            }
            state.opening = .open(session, initialized)
            state.bridge.renewed()
            return (waiters, false)
        }
        // It was closed while it opened, and nobody else knows what the upstream has opened.
        if isLate, let session { self.home.run { self.endUpstream(session) } }
        for (index, waiter) in waiters.enumerated() {
            switch result {
            case .open(let initialized, _): waiter(.open(initialized, isFirst: index == 0))
            case .refused(let status, _): waiter(.refused(status, isFirst: index == 0))
            case .failed: waiter(result)
            }
        }
    }

    /// The upstream session could not be kept: the next caller opens another.
    ///
    /// The upstream may know it all the same, so it is told of the end.
    func lost(_ lost: HTTPUpstreamSession?) {
        let session: HTTPUpstreamSession? = self.state.withLock { state in
            guard case .open(let session, _) = state.opening, session === lost else { return nil }
            state.opening = .closed
            return session
        }
        guard let session else { return }
        self.home.eventLoop.execute {
            self.listening.value?.end()
            self.listening.value = nil
            self.endUpstream(session)
        }
    }

    /// Tells the upstream that a session is over; on the home loop.
    private func endUpstream(_ session: HTTPUpstreamSession) {
        guard let id = session.close() else { return }
        SessionOpening.close(id, session, self.http, of: self.upstream, on: self.home)
    }

    /// Time passes for calls that were withdrawn and never answered.
    func grewOlder() { self.state.withLock { $0.bridge.grewOlder() } }

    /// Whether calls of callers are under way in it, or it is being opened for one.
    var isUsed: Bool {
        self.state.withLock { state in
            if case .opening = state.opening { true } else { state.bridge.callCount > 0 }
        }
    }

    var isOver: Bool { self.state.withLock { $0.isOver } }

    /// Ends it, and tells those that wait for it; returns the upstream session that is to be ended.
    ///
    /// If it opens just now, what the upstream opens is ended as soon as we know of it.
    func close() -> HTTPUpstreamSession? {
        self.home.eventLoop.execute {
            self.listening.value?.end()
            self.listening.value = nil
        }
        let (session, waiters): (HTTPUpstreamSession?, [Waiter]) = self.state.withLock { state in
            defer { state.opening = .closed }
            state.isOver = true
            switch state.opening {
            case .closed: return (nil, [])
            case .opening(let waiters): return (nil, waiters)
            case .open(let session, _): return (session, [])
            }
        }
        for waiter in waiters { waiter(.failed(.upstreamIsGone(executed: .no))) }
        return session
    }

    // MARK: Callers

    /// A caller's session uses it from now on; the number stands for it.
    func join(_ session: any StreamSink, capabilities: Set<SessionBridge.Capability>) -> Int {
        self.state.withLock { state in
            let number = state.nextCaller
            state.nextCaller += 1
            state.callers[number] = session
            state.bridge.joined(number, capabilities: capabilities)
            return number
        }
    }

    /// A caller's session is over: the upstream is told to stop what it left behind.
    func leave(_ caller: Int) {
        let departure = self.state.withLock { state in
            state.callers[caller] = nil
            return state.bridge.left(caller)
        }
        for call in departure.cancelled {
            self.send(ClientMessage.cancelled(Array("\(call)".utf8), reason: "session ended"))
        }
        for id in departure.unanswered { self.send(ClientMessage.methodNotFound(id)) }
        self.say(.resourcesUnsubscribe, of: departure.unsubscribed)
    }

    /// The upstream session was opened anew: what callers asked it for is asked for again.
    func renewed() { self.restoreSubscriptions() }

    private func restoreSubscriptions() {
        let (resources, severity) = self.state.withLock { state in
            state.bridge.renewed()
            return (state.bridge.resources, state.bridge.severity)
        }
        self.say(.resourcesSubscribe, of: Array(resources))
        if let severity { self.send(ClientMessage.setLevel(severity, id: #""gateway""#)) }
    }

    /// A caller's home is here from now on: what it asked for elsewhere is asked for here.
    func moved(_ caller: Int, subscriptions: [[UInt8]], severity: LogSeverity?) {
        let (taken, lowest) = self.state.withLock { state in
            // What is above the bounds here is lost; the caller was told of its own, and others may have used up theirs.
            let taken = subscriptions.filter { state.bridge.subscribed(caller, to: $0) }
            return (taken, severity.map { state.bridge.leveled(caller, $0) })
        }
        self.say(.resourcesSubscribe, of: taken)
        if let lowest { self.send(ClientMessage.setLevel(lowest, id: #""gateway""#)) }
    }

    /// The number that a call or a question got last.
    var lastNumber: Int64 { self.state.withLock { $0.bridge.lastNumber } }

    /// A caller comes from another unit, whose last number this was.
    func follows(_ number: Int64) { self.state.withLock { $0.bridge.follows(number) } }

    /// Another unit serves a caller from now on; returns what it asked of this one.
    func moved(_ caller: Int) -> SessionBridge.Wishes { self.state.withLock { $0.bridge.moved(caller) } }

    /// What a caller says to another unit; returns whether it was about something that is under way here, and is sent.
    func heard(_ message: CallerMessage, of caller: Int) -> Bool {
        guard case .oneWay(let body) = self.admit(message, of: caller) else { return false }
        self.send(body)
        return true
    }

    /// Asks the upstream for something of our own; nil if it does not answer in time.
    func ask(_ message: ByteBuffer, timeout: TimeAmount) async -> ByteBuffer? {
        await withCheckedContinuation { continuation in
            self.home.eventLoop.execute {
                self.send(now: message, timeout: timeout) { continuation.resume(returning: (try? $0.get())?.body) }
            }
        }
    }

    /// Subscribes to each of these, or unsubscribes from it, as long as callers want that.
    private func say(_ method: MCPMethod, of uris: [[UInt8]]) {
        guard !uris.isEmpty else { return }
        self.home.eventLoop.execute {
            PacedSending.run(uris, on: self.home) { uri, next in
                let isWanted = self.state.withLock { $0.bridge.isSubscribed(uri) }
                guard isWanted == (method == .resourcesSubscribe) else { return next() }
                self.send(now: ClientMessage.subscription(method, id: #""gateway""#, uri: uri)) { _ in next() }
            }
        }
    }

    /// Sends a message of the gateway whose fate changes nothing.
    func send(_ message: ByteBuffer) { self.home.eventLoop.execute { self.send(now: message) { _ in } } }

    /// The same on the home loop; `completion` hears what comes of it.
    private func send(
        now message: ByteBuffer,
        timeout: TimeAmount = .seconds(10),
        _ completion: @escaping UpstreamCall.Completion
    ) {
        let session = self.session
        UpstreamCall.send(
            self.http,
            of: self.upstream,
            slot: self.slot,
            on: self.home,
            body: message,
            session: session?.id,
            fields: session?.origin.revision?.headerLine ?? "",
            timeout: timeout,
            completion: completion
        )
    }
}
