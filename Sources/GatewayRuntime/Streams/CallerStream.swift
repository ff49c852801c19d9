// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewaySession
import NIOCore

/// A stream of events to a caller, which outlives its connection for a while (protocol §1.1): owns the connection, the
/// timer and what its session keeps of it, and does what the machine of its rules says.
///
/// Its events have ids of ours; what was sent last is kept, so that a caller that lost its connection asks for the rest
/// by `Last-Event-ID`, on whatever connection and event loop. Whatever is told to a connection or to the source is told
/// after everything that led to it is written down: both may call back at once. Confined to the event loop on which it
/// was made.
final class CallerStream {
    /// Above this an outlet on another event loop counts as full.
    static let remoteWindow = 64 * 1024
    /// Bytes that may pile up for a caller that does not read, where what fills the stream comes unasked: its senders
    /// cannot be made to wait.
    static let unaskedLimit = 1024 * 1024
    /// The same for other streams: one event as large as it may be, and a little.
    static func overdueLimit(_ limits: Limits) -> Int { limits.eventBytes + Self.unaskedLimit }

    /// The stream of its session: 0 is the one of a GET, the others answer a POST.
    let number: Int
    let loop: LoopResources
    // Unchecked: a machine calls nobody while it changes (decision 0014).
    @exclusivity(unchecked) private var machine: ResumableStream.StateMachine<ByteBuffer>
    /// The connection that the machine knows of.
    private var outlet: (any StreamOutlet)?
    /// Kept alive by the stream until either ends.
    private var source: (any StreamSource)?
    /// The end of the patience with a caller that is away, which the session counts as long.
    private var patience: Scheduled<Void>?
    /// What its session keeps for callers that come back; nil: nothing is kept.
    private let share: ReplayShare?
    /// This stream's part of it, as the share knows it.
    private var shareBytes = 0
    /// Asks whether there is room to keep the stream after its end.
    private let keep: () -> Bool
    /// Called once, when nobody can come back for it any more.
    private let onEnd: (CallerStream) -> Void

    init(
        number: Int,
        loop: LoopResources,
        isResumable: Bool,
        isPrimed: Bool = false,
        lastEvent: Int = 0,
        source: (any StreamSource)?,
        share: ReplayShare? = nil,
        overdueLimit: Int,
        keep: @escaping () -> Bool = { false },
        onEnd: @escaping (CallerStream) -> Void = { _ in }
    ) {
        self.number = number
        self.loop = loop
        var settings = ResumableStream.Settings(isResumable: isResumable, overdueLimit: overdueLimit)
        settings.isPrimed = isPrimed
        self.machine = .init(settings, replay: ReplayBuffer(after: lastEvent))
        self.source = source
        self.share = share
        self.keep = keep
        self.onEnd = onEnd
    }

    /// The number of its last event; 0 if there was none.
    var lastEvent: Int { self.machine.lastEvent }

    var hasOutlet: Bool { self.outlet != nil }
    /// Without an outlet what is sent goes into the bounded memory of the stream.
    var isWritable: Bool { self.outlet?.isWritable ?? true }

    // MARK: Sending

    /// Sends one message.
    func send(_ message: ByteBuffer) {
        guard self.machine.takesEvents else { return }
        var event = self.loop.buffer(capacity: message.readableBytes + 64)
        EventText.append(message, id: self.nextID, to: &event)
        self.send(event: event)
    }

    private func prime() {
        guard let id = self.nextID else { return }
        var event = self.loop.buffer(capacity: 64)
        EventText.appendPriming(id: id, to: &event)
        self.send(event: event)
    }

    /// Sends bytes that are no event and not kept: a comment, the first event of the old transport.
    func send(raw bytes: ByteBuffer) { self.outlet?.send(bytes) }

    func flush() { self.outlet?.flush() }

    private var nextID: EventIDText? { self.machine.nextEvent.map { EventIDText(stream: self.number, event: $0) } }

    private func send(event: ByteBuffer) {
        let sending = self.machine.sends(event, size: event.readableBytes, isWritable: self.isWritable)
        self.countKept()
        if let share, share.isExceeded {
            self.machine.shareExceeded()
            self.countKept()
            share.makeRoom()
        }
        switch sending {
        case .drop, .keep: break
        case .send: self.outlet?.send(event)
        case .breakConnection(let loss): self.breakConnection(loss)
        }
    }

    /// Tells the share how much the stream keeps now.
    private func countKept() {
        let kept = self.machine.keptBytes
        self.share?.add(kept - self.shareBytes, on: self.loop.eventLoop)
        self.shareBytes = kept
    }

    // MARK: Connections

    /// Gives the stream a connection, in place of the one that it has; first goes what came after `event`.
    ///
    /// Nothing is flushed: whoever attaches does, so that an event that is there already goes in the same write.
    func attach(_ outlet: any StreamOutlet, after event: Int? = nil) {
        switch self.machine.attached(after: event) {
        case .stay(let opening, let isAnother):
            let before = self.outlet
            self.outlet = outlet
            self.stopWaiting()
            self.open(outlet, with: opening)
            before?.finish()
            if isAnother { self.source?.streamMoved() }
            if self.outlet === outlet { self.source?.streamBecameWritable() }
        case .takeRest(let event, let patience):
            let rest = self.machine.events(after: event)
            self.wait(patience)
            for event in rest { outlet.send(event) }
            outlet.finish()
        case .close:
            outlet.finish()
        }
    }

    private func open(_ outlet: any StreamOutlet, with opening: ResumableStream.Opening) {
        switch opening {
        case .nothing:
            break
        case .priming:
            self.prime()
        case .events(let event):
            // It may be lost in the middle.
            for event in self.machine.events(after: event) where self.outlet === outlet { outlet.send(event) }
        }
    }

    /// The connection is gone.
    ///
    /// Does nothing if another took its place meanwhile.
    func detach(_ outlet: any StreamOutlet) {
        guard self.outlet === outlet else { return }
        self.outlet = nil
        self.lost(self.machine.connectionLost())
    }

    /// Breaks the connection of a caller that does not take what comes.
    func breakConnection() { self.breakConnection(self.machine.connectionLost()) }

    private func breakConnection(_ loss: ResumableStream.Loss) {
        let outlet = self.takeOutlet()
        self.lost(loss)
        outlet?.reset()
    }

    private func lost(_ loss: ResumableStream.Loss) {
        switch loss {
        case .nothing:
            break
        case .wait(let patience):
            self.wait(patience)
            self.source?.streamDetached()
        case .end:
            self.end()
        }
    }

    /// A connection takes bytes again.
    func outletBecameWritable(_ outlet: any StreamOutlet) {
        guard self.outlet === outlet, self.machine.becameWritable() else { return }
        self.source?.streamBecameWritable()
    }

    private func takeOutlet() -> (any StreamOutlet)? {
        defer { self.outlet = nil }
        return self.outlet
    }

    // MARK: Callers that are away

    private func wait(_ patience: Duration) {
        self.patience?.cancel()
        let stream = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.patience = self.loop.eventLoop.scheduleTask(in: TimeAmount(patience)) { stream.value.patienceEnded() }
        self.share?.lost(self)
    }

    private func stopWaiting() {
        guard let patience else { return }
        patience.cancel()
        self.patience = nil
        self.share?.found(self)
    }

    private func patienceEnded() { if self.machine.patienceEnded() { self.end() } }

    /// Nobody may come back for it any more, since there is no room to wait for that.
    func giveUp() { if self.machine.gaveUp() { self.end() } }

    /// Nobody can come back for it any more, since its session ends; whoever has it gets the rest.
    func sessionEnded() { if self.machine.sessionEnded() { self.end() } }

    // MARK: Ends

    /// Nothing more comes; what was not taken yet can still be asked for.
    func finish() {
        let outlet = self.takeOutlet()
        // Whoever fills the stream says so itself.
        self.source = nil
        switch self.machine.finished() {
        case .nothing: break
        case .wait(let patience): self.wait(patience)
        case .keep: if !self.keep(), self.machine.noRoom() { self.end() }
        case .end: self.end()
        }
        outlet?.finish()
    }

    /// Breaks the connection and forgets the stream.
    func reset() {
        let outlet = self.takeOutlet()
        self.source = nil
        if self.machine.reset() { self.end() }
        outlet?.reset()
    }

    /// The machine said that it is over.
    private func end() {
        let source = self.source
        self.source = nil
        self.stopWaiting()
        self.countKept()
        source?.streamExpired()
        self.onEnd(self)
    }
}
