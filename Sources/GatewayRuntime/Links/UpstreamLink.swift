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
    let loop: LoopResources
    let settings: LinkSettings
    /// Whose link it is; a link for all learns its era when it opens.
    var sharing: SessionBridge.Sharing?
    /// What it is asked for when it opens: once it was open, that again.
    var scope: EraProbe.Scope
    /// How long a process that runs only to find out whether the program speaks the stateless era has to answer; nil: it
    /// runs for callers.
    ///
    /// A trial that fails is the end of the link (contract U2).
    var trialTime: TimeAmount?
    /// The caller's own `initialize` and header fields, for a link of its own.
    let owner: LinkOwner?
    var state = State.idle
    /// What the upstream answered to our own `initialize`.
    var initializeResult: InitializeResult?

    var bridge: SessionBridge.StateMachine
    var callers: [Int: any StreamSink] = [:]
    private var nextCaller = 1
    var calls: [Int64: NIOLoopBound<any CallSink>] = [:]
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

    var channel: (any LinkChannel)?
    /// That of the last channel.
    var lastCredential: LinkCredential?
    var opening: LinkOpening.StateMachine?
    /// What the opening asked last, and what was refused of what it asked.
    var question: StaticString = "initialize"
    var refusals: [String] = []
    /// The number of that question while it is not answered.
    var openingCall: Int64?
    var supervisor = ProcessSupervisor.StateMachine(generator: SystemRandomNumberGenerator())
    var waiters: [Waiter] = []
    private var closing: [() -> Void] = []
    var reopening: Scheduled<Void>?
    private var draining: Scheduled<Void>?
    var starts = 0
    var lastStart = Duration.seconds(-1)
    /// From the start of its process to the end of its opening.
    var openingTime = Duration.zero
    /// Failures to open it since it was open.
    private var failures = 0
    /// Whether the last channel got as far as to be used, and how it ended.
    var wasOpen = false
    var lastFailure: GatewayError?
    /// What was to be done when the channel ended and nobody wanted it.
    var postponed: ProcessSupervisor.Action?
    private let origin = NIODeadline.now()
    var slowCallers = SlowCallers()
    var badLines = RateWindow(limit: 1_000, interval: .minutes(1))
    /// What was wrong with the last line that was no message, and when that came.
    var lastFault: (fault: MessageFault, at: Duration)?
    var timeoutsInARow = 0
    var sweepIndex = -1
    var liveness: Liveness
    /// What it was opened for is over; set while it opens.
    var openingFailure: GatewayError?
    /// Called each time that it opens, before those who wait hear of it.
    var onOpened: (() -> Void)?
    /// Called when a trial failed, before those who wait hear of it: why, and the last lines of its standard error.
    var onTrialFailed: ((GatewayError, Logger.MetadataValue?) -> Void)?
    /// Whether the upstream serves callers by way of another link, so that the end of this one says nothing about it.
    var hasOpenSibling: () -> Bool = { false }
    /// Called when the link is closed for good and its upstream gone.
    var onClosed: (() -> Void)?

    init(
        _ upstream: Upstream,
        settings: LinkSettings,
        scope: EraProbe.Scope,
        trialTime: TimeAmount? = nil,
        owner: LinkOwner? = nil,
        on loop: LoopResources
    ) {
        self.upstream = upstream
        self.settings = settings
        self.scope = scope
        self.trialTime = trialTime
        let current = upstream.settings
        self.liveness = Liveness(interval: current.pingInterval, callTime: current.timeout)
        self.owner = owner
        self.loop = loop
        self.sharing = owner == nil ? nil : .exclusive
        self.bridge = SessionBridge.StateMachine(sharing: owner == nil ? .shared : .exclusive)
    }

    var handle: LinkHandle { LinkHandle(self, eventLoop: self.loop.eventLoop) }
    var now: Duration { self.time(of: .now()) }

    /// On the clock of the link's own machines.
    func time(of moment: NIODeadline) -> Duration { Duration(moment - self.origin) }

    /// Whether callers have sessions with it or calls in flight, or wait for it.
    var isInUse: Bool { !self.callers.isEmpty || !self.calls.isEmpty || !self.waiters.isEmpty }

    func failWaiters(_ error: GatewayError) {
        let waiters = self.waiters
        self.waiters = []
        for waiter in waiters { waiter(error) }
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
        let lastErrors = self.channel?.lastErrors
        if var credential = self.channel?.credential {
            credential.wasOpen = !wasOpening || self.lastCredential?.wasOpen == true
            self.lastCredential = credential
        }
        self.channel = nil
        self.openingFailure = nil
        self.slowCallers = SlowCallers()
        self.liveness.answered()
        if self.state != .over { self.state = .idle }
        self.loseCalls { self.error(error, for: $0) }
        guard self.state != .over else { return self.closed() }
        self.opening = nil
        if self.trialTime != nil {
            self.state = .over
            self.onTrialFailed?(error, lastErrors)
            self.failWaiters(error)
            return self.closed()
        }
        self.wasOpen = !wasOpening
        self.lastFailure = error
        if wasOpening { self.failWaiters(self.failure(retryAfter: nil)) }
        if !self.hasOpenSibling() { self.conclude(error) }
        // One caller's link is opened again when the caller wants something.
        let isWanted = self.owner == nil && self.upstream.settings.autoReconnect
        guard self.settings.kind.isSupervised else {
            self.failures = wasOpening ? self.failures + 1 : 0
            let pause = Self.shortestPause * (1 << min(self.failures, 10))
            guard isWanted || !self.waiters.isEmpty else { return }
            self.reopen(after: min(pause, self.upstream.settings.reconnectInterval))
            return
        }
        // What we had no descriptors for is no failure of the child.
        let isPrevented = wasOpening && error.reason == .overloaded
        let action = isPrevented ? self.supervisor.prevented(now: self.now) : self.supervisor.ended(now: self.now)
        if isWanted || !self.waiters.isEmpty { self.obey(action) } else { self.postponed = action }
    }

    /// Records what the end of a channel says of the upstream.
    private func conclude(_ error: GatewayError) {
        switch self.verdict(error) {
        case nil: break
        case .usable?: self.upstream.conclude(.usable)
        case let verdict?: self.upstream.conclude(verdict, because: error)
        }
    }

    /// What the end of a channel says of the upstream; nil: nothing.
    private func verdict(_ error: GatewayError) -> UpstreamVerdict? {
        let wasOpen = self.lastCredential?.wasOpen == true
        if let verdict = self.settings.kind.verdict(on: error, wasOpen: wasOpen) { return verdict }
        return switch error.reason {
        case .overloaded: nil
        case .childExited: .exited
        case .upstreamProtocol, .upstreamStatus, .rateLimited: self.settings.kind.verdictOnNonsense
        default: .unreachable
        }
    }

    /// A trial is over without success: its process is ended in order, since it may hold what others want, and nobody waits
    /// for that.
    func endTrial(_ error: GatewayError) {
        self.lastFailure = error
        self.onTrialFailed?(error, self.channel?.lastErrors)
        self.close()
    }

    private func loseCalls(_ error: (Int64) -> GatewayError) {
        for call in self.bridge.upstreamLost() {
            guard let exchange = self.calls.removeValue(forKey: call) else { continue }
            exchange.execute { [error = error(call)] exchange in exchange.failed(error) }
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

    /// The end of the channel, for one of its calls: whether that ran is known only if the upstream has not all of it.
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
        self.failWaiters(self.trialTime == nil ? self.settings.gone : self.failure(retryAfter: nil))
        self.loseCalls { _ in self.settings.ended }
        if let channel { channel.close() } else { self.closed() }
    }

    private func closed() {
        self.onClosed?()
        (self.onClosed, self.onOpened, self.onTrialFailed) = (nil, nil, nil)
        self.callers = [:]
        self.owner?.initialize = nil
        if self.sweepIndex >= 0 { self.loop.sweeper.remove(self) }
        let closing = self.closing
        self.closing = []
        for completion in closing { completion() }
    }

    // MARK: Callers

    /// A caller's session uses the link from now on; the number stands for it.
    func join(_ session: any StreamSink, capabilities: Set<SessionBridge.Capability>) -> Int {
        let number = self.nextCaller
        self.nextCaller += 1
        self.callers[number] = session
        self.bridge.joined(number, capabilities: capabilities)
        return number
    }

    /// A caller's session is over: nothing of it goes on.
    func leave(_ caller: Int) {
        self.callers[caller] = nil
        let departure = self.bridge.left(caller)
        if !departure.cancelled.isEmpty { self.liveness.abandonedCall(now: self.now) }
        for call in departure.cancelled {
            self.calls.removeValue(forKey: call)?.execute { [error = self.settings.ended] in $0.failed(error) }
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
        if let copy = KeptInitialize.copy(of: initialize) { self.owner?.initialize = copy }
    }

    // MARK: Messages of the gateway

    /// Sends a request of our own; returns its number.
    @discardableResult
    func send(
        own make: (String) -> ByteBuffer,
        timeout: TimeAmount,
        completion: @escaping (ByteBuffer?) -> Void
    ) -> Int64 {
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
        return call
    }

    /// A request of the gateway itself that has no answer yet.
    private struct OwnCall {
        let completion: (ByteBuffer?) -> Void
        let timer: Scheduled<Void>?
    }

    func send(own message: ByteBuffer, timeout: TimeAmount, completion: @escaping (ByteBuffer?) -> Void) {
        guard let envelope = AnswerReader.read(message, depth: self.loop.limits.jsonDepth), let id = envelope.id
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
        guard now - self.lastAged >= TimeAmount(self.loop.settings(of: self.upstream).timeout) else { return }
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
