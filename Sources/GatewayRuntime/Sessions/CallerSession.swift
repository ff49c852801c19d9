// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayObservability
import GatewayPolicy
package import GatewaySession
package import GatewayWire
import NIOCore
import Synchronization

/// One caller's handshake session: our id, what it uses upstream, and the streams that it can take up again.
package final class CallerSession: StreamSink {
    /// Who works for a session, and what carries its messages there.
    struct Station: Sendable {
        let upstream: Upstream
        /// nil before its caller initialized: one of the old transport has its session before that.
        var leg: (any Leg)?
    }

    /// The stream of a GET.
    struct Listener: Sendable {
        let stream: NIOLoopBound<CallerStream>
        /// Ends the stream, and what fills it.
        let end: @Sendable () -> Void
    }

    private struct State: Sendable {
        var station: Station
        /// Where it was before and may have calls, oldest first.
        var former: [Station] = []
        var revision: ProtocolRevision?
        var isOver = false
        var isInitializing = false
        var listener: Listener?
        var streams: [Int: NIOLoopBound<CallerStream>] = [:]
        /// 0 is the stream of a GET.
        var nextStream = 1
        /// Streams that are over and kept, oldest first.
        var finished: [Int] = []
        var messages: LegacyReturn?
        /// Ends its stream, and it with that, when its calls are over.
        var onEndWhenIdle: (@Sendable () -> Void)?
        var onClose: [@Sendable () -> Void] = []
        /// Whether the gauge of sessions counts it.
        var isCounted = false
        /// Which slot what goes to; nil where the upstream has no pool.
        var routing: SlotRouting?
        /// Opens what it listens on upstream again, in its new home.
        var onNewHome: (@Sendable () -> Void)?
        /// Listens in a slot again whose credential was refused.
        var onSlotReturned: (@Sendable (CredentialID) -> Void)?
        /// The number of the last event on the stream of a GET that is over.
        var lastListenerEvent = 0
        /// Until when a GET is refused without asking the upstream, which just did so.
        var hasNoStreamUntil = NIODeadline.uptimeNanoseconds(0)
        /// What its last whole list of tools was; 0: it asked for none.
        var toolsDigest = 0
    }

    package let id: SessionID
    let principal: Principal
    /// Whether its caller came over the transport of 2024-11-05, whose one stream is all that it has.
    let isLegacy: Bool
    private let state: Mutex<State>
    /// What its streams keep for a caller that comes back.
    let share: ReplayShare
    /// Bytes on their way to a stream on another event loop.
    private let inTransit = Atomic<Int>(0)

    init(id: SessionID, principal: Principal, upstream: Upstream, isLegacy: Bool = false, buffers: BufferLedger) {
        self.id = id
        self.principal = principal
        self.isLegacy = isLegacy
        self.state = Mutex(State(station: Station(upstream: upstream)))
        self.share = ReplayShare(in: buffers)
    }

    // MARK: Upstream

    /// Who works for it, and what carries its messages there.
    ///
    /// A call looks once: with the next look it may be another.
    var station: Station { self.state.withLock { $0.station } }
    /// Who works for it now.
    var upstream: Upstream { self.station.upstream }
    /// What was negotiated with the caller; nil if that is a version that we do not know, or nothing was yet.
    package var revision: ProtocolRevision? { self.state.withLock { $0.revision } }

    /// The caller initialized; false if the session ended meanwhile, or was bound before.
    ///
    /// `home` is the slot that answered `initialize`, where the upstream has a pool.
    func bind(_ leg: any Leg, revision: ProtocolRevision?, home: CredentialID? = nil) -> Bool {
        self.state.withLock { state in
            guard state.station.leg == nil, !state.isOver else { return false }
            state.station.leg = leg
            state.revision = revision
            state.routing = home.map { SlotRouting(home: $0) }
            return true
        }
    }

    /// A caller of the old transport, which has its session already, sends `initialize`.
    ///
    /// False if it did so before, and that one was answered or is still under way.
    func beginInitializing() -> Bool {
        self.state.withLock { state in
            guard state.station.leg == nil, !state.isOver, !state.isInitializing else { return false }
            state.isInitializing = true
            return true
        }
    }

    /// The `initialize` of such a caller is over; if it failed, the caller may try again.
    func endedInitializing() { self.state.withLock { $0.isInitializing = false } }

    /// Reads or changes which slot what goes to; nil where the upstream has no pool.
    func withRouting<Result: Sendable>(_ body: (inout SlotRouting) -> Result) -> Result? {
        self.state.withLock { $0.routing?.change(body) }
    }

    /// Where what belongs to the session as a whole goes.
    var home: CredentialID { self.state.withLock { $0.routing?.home ?? .none } }

    // MARK: Succession

    /// Another unit works for the session from now on, in place of `former`; false if that does not work for it any more, if
    /// the session is over, or about to be initialized there.
    ///
    /// `home` is the slot of a pool that what belongs to the session as a whole goes to.
    func move(from former: Upstream, to station: Station, home: CredentialID? = nil) -> Bool {
        self.state.withLock { state in
            guard state.station.upstream === former, !state.isOver, !state.isInitializing else { return false }
            if state.station.leg != nil { state.former.append(state.station) }
            state.station = station
            if let home {
                if state.routing == nil { state.routing = SlotRouting(home: home) }
                state.routing?.settled(at: home)
            } else {
                state.routing = nil
            }
            return true
        }
    }

    /// Where it was before and may have calls.
    var former: [Station] { self.state.withLock { $0.former } }

    /// Those of the units where it was before that are over are of no more use.
    func forgetFormer() { self.state.withLock { $0.former.removeAll { $0.upstream.isOver } } }

    // MARK: Slots

    /// What is to be done when the session has a new home, in place of what was.
    func onNewHome(_ body: @escaping @Sendable () -> Void) {
        self.state.withLock { if !$0.isOver { $0.onNewHome = body } }
    }

    /// The session has a new home.
    func movedHome() { self.state.withLock { $0.onNewHome }?() }

    /// What is to be done when a slot whose credential was refused is accepted again, in place of what was.
    func onSlotReturned(_ body: @escaping @Sendable (CredentialID) -> Void) {
        self.state.withLock { if !$0.isOver { $0.onSlotReturned = body } }
    }

    /// A slot whose credential was refused is accepted again.
    func slotReturned(_ slot: CredentialID) { self.state.withLock { $0.onSlotReturned }?(slot) }

    /// What its last list of tools was, so that it can be told of another.
    var toolsDigest: Int {
        get { self.state.withLock { $0.toolsDigest } }
        set { self.state.withLock { $0.toolsDigest = newValue } }
    }

    /// The gauge of sessions counts it from now on, until it is over.
    func counted() {
        let isCounted = self.state.withLock { state in
            guard !state.isOver, !state.isCounted else { return false }
            state.isCounted = true
            return true
        }
        if isCounted { self.upstream.metrics.sessions.add(1) }
    }

    /// Ends the session and its streams; returns what it used upstream, the first time.
    func close() -> [Station] {
        let before = self.state.withLock { state in
            defer { state = State(station: Station(upstream: state.station.upstream), isOver: true) }
            return state
        }
        before.listener?.stream.execute { $0.sessionEnded() }
        before.listener?.end()
        for stream in before.streams.values { stream.execute { $0.sessionEnded() } }
        for body in before.onClose { body() }
        if before.isCounted { before.station.upstream.metrics.sessions.subtract(1) }
        return before.former + [before.station]
    }

    /// Ends the stream that it listens on, and what fills that; its calls go on.
    func endListening() {
        let listener = self.state.withLock { state in
            defer { state.listener = nil }
            return state.listener
        }
        listener?.stream.execute { $0.sessionEnded() }
        listener?.end()
    }

    /// Something is to be done when the session ends; at once if it has.
    func onClose(_ body: @escaping @Sendable () -> Void) {
        let isOver = self.state.withLock { state in
            if !state.isOver { state.onClose.append(body) }
            return state.isOver
        }
        if isOver { body() }
    }

    /// What leads back to a caller of the old transport; nil for others.
    var messages: LegacyReturn? { self.state.withLock { $0.messages } }

    /// The caller of the old transport has its stream.
    func opened(_ stream: NIOLoopBound<CallerStream>, limit: Int) {
        self.state.withLock { state in
            state.listener = Listener(stream: stream) { stream.execute { $0.finish() } }
            state.messages = LegacyReturn(stream, limit: limit)
        }
    }

    /// What is to be done so that the session of a caller of the old transport ends when its calls are over.
    func onEndWhenIdle(_ body: @escaping @Sendable () -> Void) {
        self.state.withLock { if !$0.isOver { $0.onEndWhenIdle = body } }
    }

    /// The session of a caller of the old transport is of no more use: it ends when its calls have their answers.
    func endWhenIdle() { self.state.withLock { $0.onEndWhenIdle }?() }

    // MARK: Streams

    /// Whether its streams begin with an event that has an id and nothing else (2025-11-25; clients of older revisions
    /// choke on it).
    var isPrimed: Bool { self.revision.map { $0 >= .november2025 } ?? false }

    /// A stream that answers one of its POSTs.
    func makeAnswerStream(on loop: LoopResources, source: (any StreamSource)?, overdueLimit: Int) -> CallerStream {
        let number = self.state.withLock { state in
            defer { state.nextStream += 1 }
            return state.nextStream
        }
        let stream = CallerStream(
            number: number,
            loop: loop,
            isResumable: true,
            isPrimed: self.isPrimed,
            source: source,
            share: self.share,
            overdueLimit: overdueLimit,
            keep: { [weak self] in self?.keepFinished(number) ?? false },
            onEnd: { [weak self] _ in self?.state.withLock { $0.streams[number] = nil } }
        )
        let isOver = self.state.withLock { state in
            if !state.isOver { state.streams[number] = NIOLoopBound(stream, eventLoop: loop.eventLoop) }
            return state.isOver
        }
        if isOver { stream.sessionEnded() }
        return stream
    }

    /// The stream that it listens on, made if there is none, where what comes unasked is brought by a stream of messages or
    /// by a session that callers share.
    func makeListener(on loop: LoopResources) -> NIOLoopBound<CallerStream> {
        let stream = CallerStream(
            number: 0,
            loop: loop,
            isResumable: true,
            isPrimed: self.isPrimed,
            lastEvent: self.lastListenerEvent,
            source: nil,
            share: self.share,
            overdueLimit: CallerStream.unaskedLimit,
            // The next GET gets another one.
            onEnd: { [weak self] in self?.forgetListener($0) }
        )
        let bound = NIOLoopBound(stream, eventLoop: loop.eventLoop)
        if let listener = self.listener(orElse: .init(stream: bound) { bound.execute { $0.finish() } }) {
            return listener
        }
        // The session ended meanwhile: whoever attaches is at the end at once.
        stream.finish()
        return bound
    }

    /// Keeps a stream that is over, in place of the oldest of those that are kept so.
    private func keepFinished(_ number: Int) -> Bool {
        let (isKept, oldest): (Bool, NIOLoopBound<CallerStream>?) = self.state.withLock { state in
            guard !state.isOver else { return (false, nil) }
            state.finished.append(number)
            guard state.finished.count > Self.finishedLimit else { return (true, nil) }
            return (true, state.streams.removeValue(forKey: state.finished.removeFirst()))
        }
        // What it kept counts as held until it ends.
        oldest?.execute { $0.giveUp() }
        return isKept
    }

    private static let finishedLimit = 4

    /// The stream that has this number; nil if it is gone.
    func stream(_ number: Int) -> NIOLoopBound<CallerStream>? {
        self.state.withLock { number == 0 ? $0.listener?.stream : $0.streams[number] }
    }

    /// The stream that it listens on; nil if there is none.
    var listener: NIOLoopBound<CallerStream>? { self.state.withLock { $0.listener?.stream } }

    /// The stream that it listens on: the one that is there, or else `other`, which is then kept.
    func listener(orElse other: Listener) -> NIOLoopBound<CallerStream>? {
        self.state.withLock { state in
            guard !state.isOver else { return nil }
            if let listener = state.listener { return listener.stream }
            state.listener = other
            return other.stream
        }
    }

    /// The stream that it listens on is over.
    func forgetListener(_ stream: CallerStream) {
        let listener: NIOLoopBound<CallerStream>? = self.listener
        // Only ever asked on the stream's own loop; another one cannot be it.
        guard let listener, listener.eventLoop === stream.loop.eventLoop, listener.value === stream else { return }
        let last = stream.lastEvent
        self.state.withLock { state in
            state.listener = nil
            state.lastListenerEvent = last
        }
    }

    /// The number that the events of its next listener go on from: ids are unique in a session (protocol §1.1).
    var lastListenerEvent: Int { self.state.withLock { $0.lastListenerEvent } }

    /// The upstream has no GET stream for it: for a second nobody asks again.
    func hasNoStreamForNow() { self.state.withLock { $0.hasNoStreamUntil = .now() + .seconds(1) } }

    /// Whether the upstream said a moment ago that it has no GET stream for it.
    var hasNoStream: Bool { self.state.withLock { $0.hasNoStreamUntil } > .now() }

    /// Sends a message on the stream that it listens on; without one it is lost, as the protocol has it.
    ///
    /// Returns whether there is one. What comes faster than its event loop takes it is lost as well.
    ///
    /// `taken` is called, anywhere, when the message waits no longer to be sent.
    @discardableResult
    func deliver(_ message: ByteBuffer, taken: @escaping @Sendable () -> Void = {}) -> Bool {
        let count = message.readableBytes
        guard let listener, self.inTransit.load(ordering: .relaxed) <= Self.transitLimit else {
            taken()
            return false
        }
        self.inTransit.add(count, ordering: .relaxed)
        listener.execute { stream in
            self.inTransit.subtract(count, ordering: .relaxed)
            stream.send(message)
            stream.flush()
            taken()
        }
        return true
    }

    /// Bytes that may be on their way to a stream on another event loop, beside one message.
    private static let transitLimit = 4 * 1024 * 1024
}
