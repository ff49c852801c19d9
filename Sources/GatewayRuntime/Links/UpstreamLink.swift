// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayStdio
import GatewayTransport
import GatewayWire
import Logging
import NIOCore

/// An upstream session over a stream of messages, a child process or an HTTP+SSE stream, and everybody who uses it: one
/// caller's session, or all callers of an era.
///
/// Opened when it is wanted, and again when it was lost; which caller a message is for is decided by the machine in
/// `bridge`. Confined to its event loop; callers on other event loops reach it through a `LinkHandle`.
final class UpstreamLink {
    /// Told whether the link is open, once.
    typealias Waiter = (GatewayError?) -> Void

    enum State {
        /// Not wanted yet, or waiting to be opened again.
        case idle
        case opening
        case open
        /// Its channel serves the calls that it has; the next ones wait for another channel.
        case draining
        /// Its channel was told to end, and has not yet.
        case ending
        case over
    }

    let upstream: Upstream
    let loop: GatewayLoop
    let settings: LinkSettings
    /// Whose link it is; a link for all learns its era when it opens.
    private(set) var sharing: SessionBridge.Sharing?
    private let scope: EraProbe.Scope
    /// The caller's own `initialize` and header fields, for a link of its own.
    let owner: LinkOwner?
    private(set) var state = State.idle
    /// What the upstream answered to our own `initialize`.
    private(set) var initializeResult: InitializeResult?

    var bridge: SessionBridge.StateMachine
    var callers: [Int: CallerSession] = [:]
    private var nextCaller = 1
    private var nextStatelessCaller = -1
    var calls: [Int64: NIOLoopBound<LinkExchange>] = [:]
    private var ownCalls: [Int64: OwnCall] = [:]
    /// What is on its way to callers on other event loops.
    private(set) lazy var transit = LinkTransit {
        [link = NIOLoopBound(Unowned(self), eventLoop: self.loop.eventLoop)] in
        link.execute { $0.link?.resumeReading() }
    }

    /// The link for those whom it holds itself.
    private final class Unowned {
        weak var link: UpstreamLink?

        init(_ link: UpstreamLink) {
            self.link = link
        }
    }
    /// When the machine was told last that time passed.
    private var lastAged = NIODeadline.now()
    var written: Set<Int64> = []
    /// Calls to which messages went since the channel last paused.
    var unflushed: Set<Int64> = []

    private(set) var channel: (any LinkChannel)?
    /// That of the last channel.
    private var lastCredential: LinkCredential?
    private var opening: LinkOpening.StateMachine?
    private var supervisor = ProcessSupervisor.StateMachine(generator: SystemRandomNumberGenerator())
    private var waiters: [Waiter] = []
    private var closing: [() -> Void] = []
    private var reopening: Scheduled<Void>?
    private var draining: Scheduled<Void>?
    private var starts = 0
    private var lastStart = Duration.seconds(-1)
    /// Failures to open it since it was open.
    private var failures = 0
    /// Whether the last channel got as far as to be used, and how it ended.
    private var wasOpen = false
    private var lastFailure: GatewayError?
    /// What was to be done when the channel ended and nobody wanted it.
    private var postponed: ProcessSupervisor.Action?
    private let origin = NIODeadline.now()
    var lastReceived = NIODeadline.now()
    var slowCallers = SlowCallers()
    var badLines = RateWindow(limit: 1_000, interval: .minutes(1))
    var timeoutsInARow = 0
    var sweepIndex = -1
    var isPinging = false
    /// Called when the link is closed for good and its upstream gone.
    var onClosed: (() -> Void)?

    init(
        _ upstream: Upstream,
        settings: LinkSettings,
        scope: EraProbe.Scope,
        owner: LinkOwner? = nil,
        on loop: GatewayLoop
    ) {
        self.upstream = upstream
        self.settings = settings
        self.scope = scope
        self.owner = owner
        self.loop = loop
        self.sharing = owner == nil ? nil : .exclusive
        self.bridge = SessionBridge.StateMachine(sharing: owner == nil ? .shared : .exclusive)
    }

    var handle: LinkHandle { LinkHandle(self, eventLoop: self.loop.eventLoop) }
    private var now: Duration { Duration(NIODeadline.now() - self.origin) }

    // MARK: Opening

    /// Tells `waiter` when the link is open, or why it is not.
    func whenOpen(_ waiter: @escaping Waiter) {
        switch self.state {
        case .open: return waiter(nil)
        case .over: return waiter(self.settings.gone)
        case .opening, .draining, .ending: self.waiters.append(waiter)
        case .idle:
            self.waiters.append(waiter)
            guard self.settings.isProcess else { return self.openAgain() }
            let postponed = self.postponed
            self.postponed = nil
            self.obey(postponed ?? self.supervisor.demanded(now: self.now))
            // It may be too early for another start.
            if case .idle = self.state { self.failWaitersUnlessSoon() }
        }
    }

    /// Opens a stream at once when it is wanted, but not all the time: a server may be back at any moment, and looking costs
    /// little.
    private func openAgain() {
        self.reopen(after: max(Self.shortestPause - (self.now - self.lastStart), .zero))
    }

    private func reopen(after delay: Duration) {
        self.reopening?.cancel()
        guard delay > .zero else { return self.openChannel() }
        let link = self.handle
        self.reopening = self.loop.eventLoop.scheduleTask(in: TimeAmount(delay)) { link.value.openChannel() }
    }

    private static let shortestPause = Duration.milliseconds(200)

    /// What ran will run again in a moment; what never came up is not waited for.
    private func failWaitersUnlessSoon() {
        let delay = self.supervisor.nextStart.map { $0 - self.now }
        if let delay, self.wasOpen, delay <= .seconds(2) { return }
        self.failWaiters(self.failure(retryAfter: delay))
    }

    private func obey(_ action: ProcessSupervisor.Action) {
        switch action {
        case .spawn:
            self.openChannel()
        case .wait(let until):
            let delay = until - self.now
            self.failWaitersUnlessSoon()
            self.reopening?.cancel()
            let link = self.handle
            self.reopening = self.loop.eventLoop.scheduleTask(in: TimeAmount(max(delay, .milliseconds(1)))) {
                let link = link.value
                link.obey(link.supervisor.timerFired(now: link.now))
            }
        case .reportFailed:
            self.settings.logger.error(
                "upstream failed too often; it is tried again when somebody calls it",
                metadata: ["upstream": "\(self.upstream.name)"]
            )
            self.failWaiters(self.failure(retryAfter: nil))
        case .none:
            break
        }
    }

    /// Why the link is not open, for calls that meet it so.
    private func failure(retryAfter delay: Duration?) -> GatewayError {
        var error = self.lastFailure ?? self.settings.gone
        error.executed = .no
        error.retryAfterMilliseconds = delay.map { Int($0.components.seconds) * 1000 + 1000 }
        return error
    }

    private func openChannel() {
        guard case .idle = self.state else { return }
        self.state = .opening
        if self.opening == nil { self.opening = LinkOpening.StateMachine(scope: self.scope) }
        if self.starts > 0, self.settings.isProcess { self.upstream.metrics.childRestarts.increment() }
        self.starts += 1
        self.lastStart = self.now
        if self.sweepIndex < 0 { self.loop.sweeper.add(self) }
        let channel = self.settings.makeChannel(self, owner: self.owner, after: self.lastCredential)
        self.channel = channel
        channel.open()
    }

    func channelOpened() {
        guard case .opening = self.state else { return }
        self.lastReceived = .now()
        if let owner {
            // The first time its caller's own `initialize` comes next; after that the caller knows nothing of a loss.
            guard let initialize = owner.initialize else { return self.opened() }
            return self.send(own: initialize, timeout: self.settings.openingTimeout) { [weak self] answer in
                guard let self, case .opening = self.state else { return }
                guard answer != nil else { return self.openingFailed() }
                self.channel?.send(ClientMessage.initialized) { _ in }
                self.opened()
            }
        }
        guard let action = self.opening?.started() else { return }
        self.obey(action)
    }

    private func obey(_ action: LinkOpening.Action) {
        switch action {
        case .sendDiscover:
            // swift-format-ignore: OnlyOneTrailingClosureArgument
            self.send(own: { ClientMessage.discover(id: $0, self.settings.identity) }, timeout: .seconds(10)) {
                [weak self] in self?.discovered($0)
            }
        case .sendInitialize:
            let identity = self.settings.identity
            // swift-format-ignore: OnlyOneTrailingClosureArgument
            self.send(
                own: { ClientMessage.initialize(id: $0, identity, capabilities: ClientMessage.sharedCapabilities) },
                timeout: self.settings.openingTimeout
            ) { [weak self] in self?.initialized($0) }
        case .restart:
            self.openChannel()
        case .openedHandshake:
            self.sharing = .shared
            self.channel?.send(ClientMessage.initialized) { _ in }
            self.opened()
        case .openedStateless(let versions):
            self.sharing = .stateless
            self.bridge.becameStateless()
            self.upstream.learn { eras in
                eras.stateless = true
                eras.statelessVersions = versions
            }
            self.opened()
        case .fail:
            self.openingFailed()
        }
    }

    private func discovered(_ message: ByteBuffer?) {
        let answer: LinkOpening.Answer
        if let message, let envelope = AnswerReader.read(message, depth: self.settings.limits.jsonDepth) {
            if envelope.kind == .result, let versions = AnswerReader.supportedVersions(of: envelope, in: message) {
                answer = .discovered(versions: versions)
            } else if envelope.errorCode == -32_022 {
                answer = .discovered(versions: AnswerReader.refusedVersions(of: envelope, in: message))
            } else {
                answer = .other
            }
        } else {
            answer = .silence
        }
        guard case .opening = self.state, let action = self.opening?.answered(answer) else { return }
        self.obey(action)
    }

    private func initialized(_ message: ByteBuffer?) {
        var answer = LinkOpening.Answer.silence
        if let message, let envelope = AnswerReader.read(message, depth: self.settings.limits.jsonDepth) {
            if let result = InitializeResult(message, envelope) {
                self.initializeResult = result
                self.upstream.learn { eras in
                    eras.handshake = true
                    eras.issuesSessions = true
                    eras.handshakeVersions = [result.version]
                    if self.scope == .both, eras.stateless == nil { eras.stateless = false }
                }
                answer = .initialized
            } else {
                answer = envelope.errorCode == -32_022 ? .unsupportedVersion : .other
                // The other era has a link of its own and works: this one is not spoken.
                if self.scope == .handshake { self.upstream.learn { if $0.stateless == true { $0.handshake = false } } }
            }
        }
        guard case .opening = self.state, let action = self.opening?.answered(answer) else { return }
        self.obey(action)
    }

    private func opened() {
        self.state = .open
        self.opening = nil
        self.obey(self.supervisor.becameReady(now: self.now))
        self.upstream.conclude(.usable)
        self.restoreSubscriptions()
        let waiters = self.waiters
        self.waiters = []
        for waiter in waiters { waiter(nil) }
    }

    /// What it says is not the protocol, or nothing came in time.
    private func openingFailed() {
        // A refusal says more than that there is no answer.
        self.openingFailure =
            self.openingFailure
            ?? GatewayError(
                self.settings.isProcess ? .upstreamProtocol : .unreachable,
                executed: .no,
                "the server does not answer initialize: is it an MCP server?",
                cause: "no_handshake"
            )
        self.channel?.kill()
    }

    private var openingFailure: GatewayError?

    private func failWaiters(_ error: GatewayError) {
        let waiters = self.waiters
        self.waiters = []
        for waiter in waiters { waiter(error) }
    }

    /// The upstream session that all share was opened anew: what callers asked it for is asked for again.
    private func restoreSubscriptions() {
        guard self.sharing == .shared else { return }
        for uri in self.bridge.resources {
            // swift-format-ignore: OnlyOneTrailingClosureArgument
            self.send(own: { ClientMessage.subscription(.resourcesSubscribe, id: $0, uri: uri) }, timeout: .seconds(30))
            {
                _ in
            }
        }
        guard let severity = self.bridge.severity else { return }
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        self.send(own: { ClientMessage.setLevel(severity, id: $0) }, timeout: .seconds(30)) { _ in }
    }

    // MARK: The end of a channel

    /// What it says makes no sense, or it says nothing: calls from now on get another one.
    func restart() {
        guard case .open = self.state else { return }
        self.state = .ending
        self.channel?.kill()
    }

    func channelRefused() {
        guard case .open = self.state else { return }
        self.state = .draining
        let link = self.handle
        self.draining = self.loop.eventLoop.scheduleTask(in: Self.drainTime) { link.value.channel?.endRefused() }
        self.endIfDrained()
    }

    /// Ends a channel with a refused credential when its last call is over.
    func endIfDrained() {
        guard case .draining = self.state, self.calls.isEmpty else { return }
        self.channel?.endRefused()
    }

    /// How long the calls of a channel with a refused credential may hold up those that want the next one.
    private static let drainTime = TimeAmount.seconds(10)

    func channelClosed(_ error: GatewayError) {
        self.draining?.cancel()
        self.draining = nil
        let wasOpening = if case .opening = self.state { true } else { false }
        let error = self.openingFailure ?? error
        if var credential = self.channel?.credential {
            credential.wasOpen = !wasOpening || self.lastCredential?.wasOpen == true
            self.lastCredential = credential
        }
        self.channel = nil
        self.openingFailure = nil
        self.slowCallers = SlowCallers()
        self.isPinging = false
        if self.state != .over { self.state = .idle }
        self.loseCalls(error)
        guard self.state != .over else { return self.closed() }
        // A process that died of the question about its era is started again at once, and not asked.
        if wasOpening, case .restart? = self.opening?.ended() { return self.openChannel() }
        self.opening = nil
        self.wasOpen = !wasOpening
        self.lastFailure = error
        if wasOpening { self.failWaiters(self.failure(retryAfter: nil)) }
        if let verdict = self.verdict(error) { self.upstream.conclude(verdict) }
        // One caller's link is opened again when the caller wants something.
        let isWanted = self.owner == nil && self.upstream.configuration.autoReconnect
        guard self.settings.isProcess else {
            self.failures = wasOpening ? self.failures + 1 : 0
            let pause = Self.shortestPause * (1 << min(self.failures, 10))
            guard isWanted || !self.waiters.isEmpty else { return }
            self.reopen(after: min(pause, self.upstream.configuration.reconnectInterval))
            return
        }
        // What we had no descriptors for is no failure of the child.
        let isPrevented = wasOpening && error.reason == .overloaded
        let action = isPrevented ? self.supervisor.prevented(now: self.now) : self.supervisor.ended(now: self.now)
        if isWanted || !self.waiters.isEmpty { self.obey(action) } else { self.postponed = action }
    }

    /// What the end of a channel says of the upstream; nil: nothing.
    private func verdict(_ error: GatewayError) -> UpstreamVerdict? {
        switch error.reason {
        case .overloaded: nil
        case .childExited: .exited
        case .credentialRejected, .credentialsExhausted: self.verdictOnCredentials
        case .upstreamClosed where error.cause == SSEChannel.refusedCause: self.verdictOnCredentials
        case .upstreamProtocol, .upstreamStatus, .rateLimited: self.settings.isProcess ? .exited : .unusable
        default: .unreachable
        }
    }

    /// One credential was refused: another may do.
    private var verdictOnCredentials: UpstreamVerdict {
        guard case .http(let http) = self.upstream.transport, let pool = http.credentials else { return .rejected }
        return pool.areAllRefused || self.lastCredential?.wasOpen != true ? .rejected : .usable
    }

    private func loseCalls(_ error: GatewayError) {
        for call in self.bridge.upstreamLost() {
            guard let exchange = self.calls.removeValue(forKey: call) else { continue }
            let own = self.error(error, for: call)
            exchange.execute { exchange in exchange.failed(own) }
        }
        self.calls = [:]
        self.written = []
        let own = self.ownCalls
        self.ownCalls = [:]
        for call in own.values {
            call.timer?.cancel()
            call.completion(nil)
        }
    }

    /// The end of the session, for one of its calls: whether that ran is known only if the upstream has not all of it.
    private func error(_ error: GatewayError, for call: Int64) -> GatewayError {
        var own = error
        own.executed = self.written.contains(call) ? (error.executed == .yes ? .yes : .unknown) : .no
        return own
    }

    /// Ends the link for good; `completion` hears when its upstream is gone.
    func close(_ completion: @escaping () -> Void = {}) {
        if case .over = self.state, self.channel == nil { return completion() }
        self.closing.append(completion)
        guard self.state != .over else { return }
        self.state = .over
        self.reopening?.cancel()
        self.failWaiters(self.settings.gone)
        self.loseCalls(self.settings.gone)
        if let channel { channel.close() } else { self.closed() }
    }

    private func closed() {
        self.onClosed?()
        self.onClosed = nil
        self.callers = [:]
        self.owner?.initialize = nil
        if self.sweepIndex >= 0 { self.loop.sweeper.remove(self) }
        let closing = self.closing
        self.closing = []
        for completion in closing { completion() }
    }

    // MARK: Callers

    /// A caller's session uses the link from now on; the number stands for it.
    func join(_ session: CallerSession, capabilities: Set<SessionBridge.Capability>) -> Int {
        let number = self.nextCaller
        self.nextCaller += 1
        self.callers[number] = session
        self.bridge.joined(number, capabilities: capabilities)
        return number
    }

    /// A number for a request that stands alone.
    func takeStatelessCaller() -> Int {
        defer { self.nextStatelessCaller -= 1 }
        return self.nextStatelessCaller
    }

    /// A caller's session is over: nothing of it goes on.
    func leave(_ caller: Int) {
        self.callers[caller] = nil
        let departure = self.bridge.left(caller)
        // A line that waits for a program to read is written all the same, so that none of them is known not to run.
        var error = self.settings.gone
        error.executed = .unknown
        for call in departure.cancelled {
            self.calls.removeValue(forKey: call)?.execute { [error] in $0.failed(error) }
            self.written.remove(call)
            self.slowCallers.remove(call)
            self.channel?.send(ClientMessage.cancelled(Array("\(call)".utf8), reason: "session ended")) { _ in }
        }
        self.resumeReading()
        for id in departure.unanswered { self.channel?.send(ClientMessage.methodNotFound(id)) { _ in } }
        guard case .open = self.state else { return }
        for uri in departure.unsubscribed {
            // swift-format-ignore: OnlyOneTrailingClosureArgument
            self.send(
                own: { ClientMessage.subscription(.resourcesUnsubscribe, id: $0, uri: uri) },
                timeout: .seconds(30)
            ) {
                _ in
            }
        }
    }

    /// The caller's own `initialize` was answered: with it a lost link can be opened again, unless it is too long to keep.
    func established(with initialize: ByteBuffer) {
        guard initialize.readableBytes <= SessionOrigin.initializeLimit else { return }
        // A copy, so that it does not keep what was read with it.
        self.owner?.initialize = ByteBuffer(bytes: initialize.readableBytesView)
    }

    // MARK: Messages of the gateway

    func send(
        own make: (String) -> ByteBuffer,
        timeout: TimeAmount,
        completion: @escaping (ByteBuffer?) -> Void
    ) {
        let call = self.bridge.requestedByGateway()
        let link = self.handle
        let timer = self.loop.eventLoop.scheduleTask(in: timeout) { link.value.endOwn(call, nil) }
        self.ownCalls[call] = OwnCall(completion: completion, timer: timer)
        self.channel?
            .send(make("\(call)")) { [weak self] sending in
                guard let self, case .failed(let error) = sending else { return }
                if case .opening = self.state, error.reason == .credentialRejected { self.openingFailure = error }
                self.endOwn(call, nil)
            }
    }

    /// A request of the gateway itself that has no answer yet.
    private struct OwnCall {
        let completion: (ByteBuffer?) -> Void
        let timer: Scheduled<Void>?
    }

    private func send(own message: ByteBuffer, timeout: TimeAmount, completion: @escaping (ByteBuffer?) -> Void) {
        guard let envelope = AnswerReader.read(message, depth: self.settings.limits.jsonDepth), let id = envelope.id
        else { return completion(nil) }
        self.send(
            own: { message.edited([MessageEdit(id.range, Array($0.utf8))]) },
            timeout: timeout,
            completion: completion
        )
    }

    func endOwn(_ call: Int64, _ answer: ByteBuffer?) {
        _ = self.bridge.withdraw(call)
        guard let own = self.ownCalls.removeValue(forKey: call) else { return }
        own.timer?.cancel()
        own.completion(answer)
    }

    /// Time passes for calls that were withdrawn and never answered.
    func age(now: NIODeadline) {
        guard now - self.lastAged >= TimeAmount(self.upstream.configuration.timeout) else { return }
        self.lastAged = now
        self.bridge.grewOlder()
    }
}

extension UpstreamLink: LinkChannelDelegate {}

/// A link as other event loops see it.
typealias LinkHandle = NIOLoopBound<UpstreamLink>

/// The caller that a link is for.
final class LinkOwner {
    /// Forwarded field lines.
    let fields: String
    /// The message that opened the session, once it was answered.
    var initialize: ByteBuffer?

    init(fields: String) {
        self.fields = fields
    }
}
