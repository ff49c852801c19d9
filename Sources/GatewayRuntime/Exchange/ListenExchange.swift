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
/// The caller's stream stays while the upstream's come and go: they are opened again behind it, from the last event on,
/// with growing pauses. What belongs to the session as a whole comes on the stream of its home slot, the first one; with
/// a pool every other slot in which the session has an upstream session has a stream too, since a server asks where it is
/// at work (contract U10). That the upstream has no such stream is passed on if the caller has none yet. Confined to the
/// event loop of the caller's stream.
final class ListenExchange: StreamSource, ListeningOwner {
    private enum Phase {
        /// The upstream has not answered the first time.
        case opening
        /// The caller has its stream.
        case open
        /// Its caller is away: the upstream is asked again when that comes back, from the last event on.
        case suspended
        case done
    }

    let http: HTTPAccess
    let calls: Calls
    let upstream: Upstream
    let request: InboundRequest
    let loop: LoopResources
    let session: CallerSession?
    /// What carries its caller's messages; nil without a session.
    private let leg: (any Leg)?
    /// The upstream's sessions of its caller; nil where there are none.
    let sessions: HTTPUpstreamSessions?
    /// The connection that waits for the upstream's first word.
    private var waiting: StreamConnection?
    /// Where messages go; nil for a caller of the old transport, which has one for everything.
    private(set) var stream: CallerStream?
    private var phase = Phase.opening
    /// The stream of the session as a whole; nil while there is none, and none is asked for.
    var first: UpstreamListening?
    /// The streams of other slots; of all callers together there are at most `limits.streams`.
    var others: [CredentialID: UpstreamListening] = [:]
    /// Where the streams came to that ended, by slot.
    private var positions: [CredentialID: UpstreamListening.Position] = [:]
    /// Whether its caller is away, so that nobody but the gateway wants the connections, for a while.
    private var isCallerAway = false { didSet { self.first?.isOwn = self.isCallerAway } }
    /// The credentials that the attempt at a first stream tried.
    private var failover = CredentialFailover(nil, choosing: .idle)
    /// The slot of the first stream.
    private(set) var slot = CredentialID.none
    /// Whether the session of that slot is being opened for it.
    private var isEntering = false
    /// The slot that was refused last, since one was accepted.
    private var refusedSlot: CredentialID?
    private var failures = 0
    /// The next attempt.
    private var timer: Scheduled<Void>?
    /// The end of the patience with the first one.
    private var openingTimer: Scheduled<Void>?
    /// The end of the patience with a caller that is away.
    private var absence: Scheduled<Void>?
    /// How long the upstream's streams stay open for a caller that is away and has no call under way.
    private static let absenceTime = TimeAmount.seconds(10)
    /// A server may send the head with its first event: the caller need not wait for that.
    private static let openingTime = TimeAmount.seconds(15)

    init(
        _ own: OwnStream,
        calls: Calls,
        upstream: Upstream,
        request: InboundRequest,
        session: CallerSession? = nil,
        leg: (any Leg)? = nil,
        loop: LoopResources
    ) {
        self.calls = calls
        self.upstream = upstream
        self.http = own.http
        self.request = request
        self.session = session
        self.leg = leg
        self.sessions = own.sessions
        self.loop = loop
        guard session?.isLegacy != true else { return }
        self.stream = CallerStream(
            number: 0,
            loop: loop,
            isResumable: session != nil,
            isPrimed: session?.isPrimed == true,
            lastEvent: session?.lastListenerEvent ?? 0,
            source: self,
            share: session?.share,
            overdueLimit: CallerStream.overdueLimit(loop.limits)
        )
    }

    var bound: NIOLoopBound<ListenExchange> { NIOLoopBound(self, eventLoop: self.loop.eventLoop) }

    /// Asks the upstream; `connection` gets the stream when there is one, or a refusal.
    func start(for connection: StreamConnection?) {
        self.waiting = connection
        connection?.waits { [weak self] in self?.callerLeft() }
        let listen = self.bound
        self.session?.onNewHome { listen.execute { $0.moveHome() } }
        self.session?.onSlotReturned { slot in listen.execute { $0.returned(slot) } }
        self.sessions?.watch
            .set(for: self) { slot, id, goOn in listen.execute { $0.opened(slot, id: id, goOn) } }
        self.openingTimer = self.loop.eventLoop.scheduleTask(in: Self.openingTime) { listen.value.open() }
        self.connect()
    }

    /// Another listener of the session was there first: this one is not needed.
    func discard() { self.finish() }

    /// Whether the first stream is asked for as soon as the session of this slot is open.
    func isAboutToListen(in slot: CredentialID) -> Bool { self.isEntering && slot == self.slot }

    var isAtWork: Bool {
        switch self.phase {
        case .opening, .open: true
        case .suspended, .done: false
        }
    }

    /// The caller left before it had its stream: unless another connection took that up, nobody wants it.
    private func callerLeft() {
        self.waiting = nil
        if self.stream?.hasOutlet != true { self.end() }
    }

    // MARK: The first stream

    /// Opens the first stream, with the credential whose turn it is now.
    private func connect() {
        self.failover.ended()
        let pool = self.http.credentials
        self.failover = CredentialFailover(pool, choosing: pool.map { self.choice(in: $0) } ?? .idle)
        self.attempt(self.failover.next())
    }

    private func choice(in pool: UpstreamCredentials) -> CredentialAttempts.Choice {
        if let home = self.session?.choiceOfHome(pool) { return home }
        // In turns nobody else moves on from what was refused here.
        guard let refusedSlot, pool.mode == .roundRobin else { return .idle }
        return .after(refusedSlot)
    }

    private func attempt(_ step: CredentialFailover.Step) {
        // It never gives up: later a credential may be accepted again.
        guard case .attempt(let slot) = step else { return self.tryLater() }
        self.slot = slot
        guard let sessions else { return self.listen(in: nil) }
        guard let own = sessions.session(self.slot) else { return self.tryLater() }
        if let id = own.id { return self.listen(in: id) }
        let listen = self.bound
        self.isEntering = true
        SessionOpening.enter(own, self.http, of: self.upstream, on: self.loop) { opened, isFirst in
            let listen = listen.value
            listen.isEntering = false
            guard listen.isAtWork else { return }
            switch opened {
            case .open(let id), .kept(let id): listen.listen(in: id)
            case .refused(let status): listen.refused(with: status, isCounted: isFirst)
            case .failed: listen.tryLater()
            case .over: listen.sessionOver()
            }
        }
    }

    /// Asks for the first stream in the session `id` of its slot.
    private func listen(in id: String?) {
        self.leave(self.slot)
        self.endFirst()
        let first = self.make(self.slot, id: id, isOwn: self.isCallerAway)
        self.first = first
        first.start()
    }

    /// No slot has a first stream now.
    private func tryLater() {
        self.failover.ended()
        self.endFirst()
        self.open()
        self.failures += 1
        let listen = self.bound
        self.timer?.cancel()
        self.timer = self.loop.eventLoop.scheduleTask(in: .milliseconds(500 << Int64(min(self.failures, 6)))) {
            if listen.value.isAtWork, listen.value.first == nil { listen.value.connect() }
        }
    }

    /// The credential of the first stream is refused, and not to its GET alone.
    func refused(with status: Int, isCounted: Bool) {
        guard let pool = self.http.credentials else {
            self.open()
            self.first?.askAgain()
            return
        }
        self.endFirst()
        if !self.failover.isUnderWay {
            // Refused and removed: the one whose turn it is now takes its place.
            guard pool.contains(self.slot) else { return self.connect() }
            // It stood before: what it began with was accepted.
            self.failover = CredentialFailover(pool, choosing: .session(self.slot))
            guard case .attempt = self.failover.next() else { return self.tryLater() }
        }
        self.refusedSlot = self.slot
        self.session?.withRouting { [slot] in $0.refused(slot) }
        self.attempt(self.failover.refused(with: status, isCounted: isCounted))
    }

    private func endFirst() {
        guard let first else { return }
        self.first = nil
        self.positions[first.slot] = first.position
        first.end()
    }

    /// The session has a new home: its first stream is there, from now on (credentials §2.9).
    private func moveHome() {
        guard let session, self.isAtWork, !self.isEntering, session.home != self.slot else { return }
        self.timer?.cancel()
        self.failover.ended()
        self.endFirst()
        guard let other = self.release(session.home) else { return self.connect() }
        self.slot = other.slot
        other.isOwn = self.isCallerAway
        self.first = other
        if other.isReading { self.open() }
    }

    // MARK: The streams of all slots

    /// A stream of a slot that is not asked for yet.
    func make(_ slot: CredentialID, id: String?, isOwn: Bool) -> UpstreamListening {
        UpstreamListening(
            self.http,
            of: self.upstream,
            slot: slot,
            session: id,
            fields: self.sessions?.origin.fields ?? self.fieldsWithoutSession,
            after: self.positions[slot],
            isOwn: isOwn,
            owner: self,
            on: self.loop
        )
    }

    /// A session takes the place of the one that the stream of its slot was in.
    func restart(_ slot: CredentialID, id: String) {
        if slot == self.slot {
            self.timer?.cancel()
            self.listen(in: id)
        } else {
            self.leave(slot)
            self.join(slot, id: id)
        }
    }

    /// Asks for a stream of a slot beside the first one, if there is room for one more.
    func join(_ slot: CredentialID, id: String) {
        guard self.others[slot] == nil, self.calls.capacity.takeSlotStream() else { return }
        let other = self.make(slot, id: id, isOwn: true)
        self.others[slot] = other
        other.start()
    }

    /// Ends the stream of a slot beside the first one.
    func leave(_ slot: CredentialID) {
        guard let other = self.release(slot) else { return }
        self.positions[slot] = other.position
        other.end()
    }

    /// The stream of a slot beside the first one, which is none of those any more.
    private func release(_ slot: CredentialID) -> UpstreamListening? {
        guard let other = self.others.removeValue(forKey: slot) else { return nil }
        self.calls.capacity.slotStreamEnded()
        return other
    }

    // MARK: What comes

    func listeningBegan(_ listening: UpstreamListening) {
        guard listening === self.first else { return }
        self.failures = 0
        self.refusedSlot = nil
        self.failover.accepted()
        if self.http.credentials != nil, let session, let leg {
            self.calls.accepted(self.slot, by: session, leg, self.http, on: self.loop)
        }
        self.open()
        self.listenElsewhere()
        // It may have moved while this stream was on its way.
        self.moveHome()
    }

    func listening(_ listening: UpstreamListening, heard message: ByteBuffer) {
        let depth = self.loop.limits.jsonDepth
        if listening === self.first {
            // With one slot there is no other whose questions could have the same ids.
            guard self.http.slotCount > 1, let session else { return self.send(message) }
            return self.send(session.heard(message, by: listening.slot, depth: depth))
        }
        if let message = self.session?.heardAside(message, by: listening.slot, depth: depth) { self.send(message) }
    }

    func listening(_ listening: UpstreamListening, stopped stop: UpstreamListening.Stop) {
        guard self.isAtWork else { return }
        guard listening === self.first else { return self.stopped(listening, stop) }
        switch stop {
        case .interrupted:
            self.failover.ended()
            self.open()
        case .unavailable:
            self.failover.ended()
            self.hasNone(listening)
        case .refused(let status):
            self.refused(with: status, isCounted: true)
        case .lost:
            self.reopen(listening)
        case .gone:
            self.endFirst()
            self.connect()
        }
    }

    func listeningPaused(_ listening: UpstreamListening) {
        self.stream?.flush()
        listening.isReadingPaused = self.stream?.isWritable == false
    }

    private func send(_ message: ByteBuffer) {
        if let stream { stream.send(message) } else { self.session?.messages?.send(message) }
    }

    /// Gives the waiting connection its stream.
    private func open() {
        guard case .opening = self.phase else { return }
        self.phase = .open
        self.openingTimer?.cancel()
        guard let waiting, let stream else { return }
        self.waiting = nil
        waiting.attach(to: NIOLoopBound(stream, eventLoop: self.loop.eventLoop), after: nil)
    }

    /// The upstream has no stream for the session as a whole: a caller that has none yet is told so.
    ///
    /// One that has keeps it: were it ended, its next one would end as well, and so on.
    private func hasNone(_ listening: UpstreamListening) {
        guard case .opening = self.phase else { return listening.askAgain() }
        guard self.stream?.hasOutlet == true else { return self.refuse() }
        // Another connection of the session has it already.
        let waiting = self.waiting
        self.waiting = nil
        self.open()
        waiting?.refuseStream()
        listening.askAgain()
    }

    private func refuse() {
        let (stream, waiting) = (self.stream, self.waiting)
        if let session {
            session.hasNoStreamForNow()
            if let stream { session.forgetListener(stream) }
        }
        self.finish()
        stream?.finish()
        waiting?.refuseStream()
    }

    // MARK: Stream

    func streamBecameWritable() {
        for listening in self.everyListening { listening.isReadingPaused = false }
        if self.stream?.hasOutlet == true { self.isCallerAway = false }
        guard case .suspended = self.phase, self.stream?.hasOutlet == true else { return }
        self.phase = .open
        self.connect()
    }

    private var everyListening: [UpstreamListening] { [self.first].compactMap(\.self) + self.others.values }

    func streamDetached() {
        for listening in self.everyListening { listening.isReadingPaused = false }
        self.isCallerAway = true
        self.waitForCaller()
    }

    private func waitForCaller() {
        let listen = self.bound
        self.absence?.cancel()
        self.absence = self.loop.eventLoop.scheduleTask(in: Self.absenceTime) { listen.value.suspend() }
    }

    private func suspend() {
        guard let stream, !stream.hasOutlet, self.isAtWork else { return }
        // What the upstream asks for a call is kept for its caller, who may come back for it.
        if let session, self.calls.sessions.isUsed(session) { return self.waitForCaller() }
        self.phase = .suspended
        self.endAll()
    }

    private func endAll() {
        self.failover.ended()
        self.timer?.cancel()
        self.endFirst()
        for slot in Array(self.others.keys) { self.leave(slot) }
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
        self.phase = .done
        self.endAll()
        self.openingTimer?.cancel()
        self.absence?.cancel()
        self.sessions?.watch.clear(for: self)
        self.waiting = nil
        self.stream = nil
    }
}
