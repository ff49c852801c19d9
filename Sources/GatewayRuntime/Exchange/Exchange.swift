// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore

/// One message of a caller in flight: drives its `CallMachine` between the caller's half and the upstream's half, which do
/// not know each other.
///
/// It owns what both need: the place at the upstream, the clock, what is counted as held. Confined to the event loop of the
/// caller's connection.
final class Exchange: DownstreamExchange, Sweepable, StreamSource {
    let calls: Calls
    let upstream: Upstream
    let request: InboundRequest
    let message: CallerMessage
    let loop: LoopResources
    let principal: Principal
    let session: CallerSession?
    let startedAt: NIODeadline
    /// How much of its answer may be held: as it was allowed when it began.
    let responseBytes: Int

    // Unchecked, here and below: what changes such a value calls nobody meanwhile (decision 0014).
    @exclusivity(unchecked) var machine: CallMachine.StateMachine
    let reply: CallerReply
    /// nil before the call is started, and once nothing more happens.
    private var leg: (any CallLeg)?
    @exclusivity(unchecked) var sweepIndex = -1
    @exclusivity(unchecked) private var held: HeldBytes
    private var timer: Scheduled<Void>?

    private var hasPlace = false
    /// Its place in the line of those who wait for a place.
    private var ticket: UInt64?
    /// Whether it counts among the calls, or the streams, that are under way.
    private var isUnderWay = true
    /// Whether the caller shut down its side: it waits for its answer, or is gone; nobody can tell.
    private(set) var isHalfClosed = false
    var outcome = CallOutcome.ok
    /// What the upstream's half knows of a failure that it told the machine of.
    private(set) var reported: GatewayError?

    init(_ call: Call, calls: Calls, responder: any DownstreamResponder, isOverLink: Bool, slots: Int?) {
        self.calls = calls
        self.upstream = call.upstream
        self.request = call.request
        self.message = call.message
        self.loop = responder.loop
        self.principal = call.principal
        self.session = call.session
        self.startedAt = call.request.receivedAt
        self.responseBytes = responder.loop.limits.responseBufferBytes
        let reply = CallerReply(responder, now: call.request.receivedAt)
        self.reply = reply
        var facts = CallMachine.Facts(
            era: call.message.era,
            messageClass: call.message.messageClass,
            startedAt: Self.time(of: call.request.receivedAt),
            timeout: responder.loop.settings(of: call.upstream).timeout
        )
        facts.isInitialize = call.message.method == .initialize
        facts.isListening = call.message.isListening
        facts.isOverLink = isOverLink
        facts.hasCredentials = slots != nil
        facts.isLong = call.message.body.readableBytes > Self.longBody
        facts.takesMessages = reply.messages?.takesMessages ?? call.request.accept.admitsEventStream
        facts.isMessageWise = reply.isMessageWise
        if let slots, slots > 1, call.message.canBePinned { facts.holdThreshold = Self.pinnedThreshold }
        facts.streamLimit = self.responseBytes
        self.machine = CallMachine.StateMachine(facts)
        self.held = HeldBytes(in: calls.buffers)
    }

    /// A body above this may be refused before it is read.
    private static let longBody = 16 * 1024
    /// An answer up to this size is held until it is whole where it may hold something that only its credential can be asked
    /// for again.
    private static let pinnedThreshold = 1024 * 1024

    /// On the clock of the machine.
    static func time(of moment: NIODeadline) -> Duration { Duration(moment - .uptimeNanoseconds(0)) }
    var now: Duration { Self.time(of: .now()) }
    var moment: CallMachine.Moment { .init(self.now, timeout: self.loop.settings(of: self.upstream).timeout) }

    // MARK: Beginning

    /// Takes a place at the upstream, or gets in line for one, and sends the message there.
    ///
    /// From here until `over` the loop looks at the clock for it, whatever becomes of the caller's connection.
    ///
    /// Generic, so that the first thing that it does costs no look at what kind of half it is.
    func start(_ leg: some CallLeg) {
        self.leg = leg
        self.upstream.countRequest()
        self.loop.began(self)
        self.buffered(0)
        // There may be no room for it.
        guard !self.machine.isOver else { return }
        // A stream of its own makes has no end and is bounded by `limits.streams` instead.
        let hasPlace = self.message.isListening || self.upstream.admission.enter()
        self.hasPlace = hasPlace && !self.message.isListening
        let action = self.machine.start(hasPlace: hasPlace)
        switch action {
        case .choose, .open: leg.perform(action)
        default: self.perform(action)
        }
    }

    private func getInLine() {
        let exchange = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.ticket = self.upstream.admission.wait(on: self.loop.eventLoop) { isAdmitted in
            exchange.value.leftLine(isAdmitted)
        }
        if self.ticket == nil { self.leftLine(false) }
    }

    private func leftLine(_ isAdmitted: Bool) {
        self.ticket = nil
        guard !self.machine.isOver else {
            if isAdmitted { self.upstream.admission.leave() }
            return
        }
        self.hasPlace = isAdmitted
        self.perform(self.machine.admitted(isAdmitted))
    }

    // MARK: The machine

    /// Does what the machine says.
    func perform(_ action: CallMachine.Action) {
        switch action {
        case .none:
            break
        case .queue:
            self.getInLine()
        case .choose, .open, .accepted, .redirect, .readBody, .readAnswer, .judge, .reopen, .connectForRest:
            self.leg?.perform(action)
        case .wait(let timer, let time, let keepsBody):
            if !keepsBody { self.leg?.forgetBody() }
            // Events may have come in one piece with the end of their stream.
            self.reply.flush()
            self.wait(timer, time)
        case .askBudget:
            // Those that failed together do not come back together.
            let jitter = Duration.milliseconds(Int64.random(in: 50...250))
            self.perform(self.machine.budget(isGranted: self.upstream.takeRetry(), jitter: jitter))
        case .takenUp(let isPaused):
            if isPaused { self.leg?.pause(true) }
        case .pauseReading:
            self.calls.capacity.suspended(1)
            self.leg?.pause(true)
        case .resumeReading:
            self.calls.capacity.suspended(-1)
            self.leg?.pause(false)
        case .detach:
            self.reply.callerLeft(self.reply.takeResponder())
            self.perform(self.machine.callerWritable())
        case .end(let end):
            self.end(end)
        case .over:
            self.over()
        }
    }

    private func wait(_ timer: CallMachine.Timer, _ time: Duration) {
        self.timer?.cancel()
        let exchange = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.timer = self.loop.eventLoop.scheduleTask(in: TimeAmount(time)) {
            let exchange = exchange.value
            exchange.timer = nil
            exchange.perform(exchange.machine.timerFired(timer, at: exchange.moment))
        }
    }

    /// The upstream's half failed for this reason, of which the machine hears next.
    func report(_ error: GatewayError) { self.reported = error }

    // MARK: What is held

    /// So many bytes of the answer are held, beside the message itself.
    func buffered(_ count: Int) {
        guard !self.machine.isOver else { return }
        self.reply.holds(count)
        self.held.set(self.message.body.readableBytes + count) {
            let exchange = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
            return { exchange.eventLoop.execute { exchange.value.letGo() } }
        }
    }

    /// There is no room for what is held: `limits.bufferedBytes`.
    private func letGo() { self.perform(self.machine.noRoom(isUnsent: self.isUnsent)) }

    private var isUnsent: Bool { self.leg?.withhold() ?? true }

    /// How much of the answer may be held.
    var holdLimit: Int { self.reply.holdLimit(self.responseBytes) }

    // MARK: To the caller

    /// Sends bytes as they are.
    func relay(_ bytes: ByteBuffer) { self.sent(isWritable: self.reply.send(bytes)) }

    /// Sends one message as an event.
    func send(event message: ByteBuffer) { self.sent(isWritable: self.reply.send(event: message)) }

    private func sent(isWritable: Bool) {
        if !isWritable { self.perform(self.machine.callerBlocked(now: self.now)) }
    }

    /// Sends the head of a stream of events.
    ///
    /// A handshake session can take it up again: its events get ids of ours (protocol §1.1).
    func beginEvents(fields: (inout ByteBuffer) -> Void) {
        self.reply.beginEvents(fields: fields) {
            guard self.message.era == .handshake, let session else { return nil }
            return session.makeAnswerStream(
                on: self.loop,
                source: self,
                overdueLimit: CallerStream.overdueLimit(self.loop.limits)
            )
        }
    }

    // MARK: Ends

    private func end(_ end: CallMachine.End) {
        if end.cancelsTimer {
            self.timer?.cancel()
            self.timer = nil
        }
        if end.wasBlocked { self.calls.capacity.suspended(-1) }
        guard let leg else { return }
        switch end.upstream {
        case .over, .readOn: break
        case .cancel, .timedOut: leg.letGo(end.upstream)
        }
        leg.freeID(mayStillRun: end.mayStillRun)
        self.leavePlaces()
        self.tell(end.reason, leg)
        self.held.clear()
        self.reply.close()
        leg.finish(releasesCredential: end.releasesCredential)
        if let session { self.calls.sessions.end(session) }
        self.calls.finished(self, outcome: self.outcome, slot: leg.usedSlot)
        if end.upstream != .readOn { self.over() }
    }

    /// Gives back its places, before its caller can know that the call is over: the next one may come at once, on another
    /// event loop.
    private func leavePlaces() {
        guard self.isUnderWay else { return }
        self.isUnderWay = false
        if self.message.isListening { self.calls.capacity.streamEnded() } else { self.calls.capacity.leavePlace() }
        if self.hasPlace { self.upstream.admission.leave() }
        if let ticket { self.upstream.admission.leaveLine(ticket) }
    }

    /// Nothing more happens.
    private func over() {
        self.leg?.close()
        self.leg = nil
        self.loop.ended(self)
    }

    // MARK: The caller

    func downstreamLeft(isClosed: Bool) {
        self.isHalfClosed = self.isHalfClosed || !isClosed
        self.perform(self.machine.callerLeft(isClosed: isClosed))
    }

    func downstreamIsSlow() { self.perform(self.machine.callerIsSlow()) }

    func downstreamBecameWritable() { self.perform(self.machine.callerWritable()) }

    func drain() { self.perform(self.machine.drain()) }

    func upstreamIsOver() { self.perform(self.machine.upstreamGone(isUnsent: self.isUnsent)) }

    func streamBecameWritable() { self.perform(self.machine.callerWritable()) }

    /// The caller reads the answer on another connection: the one that brought the call is free for others.
    func streamMoved() {
        _ = self.reply.takeResponder()
        self.machine.callerMoved()
    }

    /// Nobody came back for the answer: it is dropped when it comes.
    func streamExpired() { self.reply.streamExpired() }

    // MARK: The clock

    func sweep(now: NIODeadline) {
        // What many calls share tells none of them that it takes messages again.
        if self.machine.blockedSince != nil, self.reply.messages?.isWritable == true {
            self.perform(self.machine.callerWritable())
        }
        if self.machine.isStreaming, self.reply.hasCaller, !self.reply.isMessageWise, self.machine.blockedSince == nil,
            now - self.reply.lastSent >= CallerReply.keepAliveInterval
        {
            self.keepAlive()
        }
        self.perform(self.machine.tick(now: Self.time(of: now), isUnsent: self.isUnsent))
    }

    /// Shows the caller, and what is between, that the stream is alive.
    private func keepAlive() {
        if self.machine.beginsStreamUnasked { self.beginEvents(fields: EventText.appendFields) }
        guard self.reply.hasStarted else { return }
        self.relay(CallerReply.keepAlive)
        self.reply.flush()
    }
}
