// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewaySession
import NIOCore

/// A stream of events to a caller, which outlives its connection for a while (protocol §1.1).
///
/// Its events have ids of ours; what was sent last is kept, so that a caller that lost its connection asks for the rest
/// by `Last-Event-ID`, on whatever connection and event loop. Confined to the event loop on which it was made.
final class CallerStream {
    /// How long a stream waits for its caller to come back.
    static let patience = TimeAmount.seconds(60)
    /// Above this an outlet on another event loop counts as full.
    static let remoteWindow = 64 * 1024

    /// The stream of its session: 0 is the one of a GET, the others answer a POST.
    let number: Int
    let loop: GatewayLoop
    /// Whether events have ids and are kept.
    private let isResumable: Bool
    /// Whether a connection that begins anew gets an event with an id and nothing else first.
    private let isPrimed: Bool
    private var replay = ReplayBuffer<ByteBuffer>()
    private var outlet: (any StreamOutlet)?
    /// Kept alive by the stream until either ends.
    private var source: (any StreamSource)?
    private(set) var isFinished = false
    /// Whether nobody can come back for it any more.
    private var isOver = false
    private var expiry: Scheduled<Void>?
    /// Whether it has, or had, a connection.
    private var wasAttached = false
    /// Whether a connection was lost before the end.
    private var wasLost = false
    /// Called when nobody can come back for it any more.
    private let onEnd: () -> Void
    /// Asks whether there is room to keep the stream after its end.
    private let keep: () -> Bool
    /// What its session keeps for callers that come back, and this stream's part of it; nil: nothing is kept.
    private let share: ReplayShare?
    private var shareBytes = 0
    /// Bytes that may pile up in the connection of a caller that does not read.
    private let overdueLimit: Int

    init(
        number: Int,
        loop: GatewayLoop,
        isResumable: Bool,
        isPrimed: Bool = false,
        source: (any StreamSource)?,
        share: ReplayShare? = nil,
        overdueLimit: Int,
        keep: @escaping () -> Bool = { false },
        onEnd: @escaping () -> Void = {}
    ) {
        self.number = number
        self.loop = loop
        self.isResumable = isResumable
        self.isPrimed = isPrimed
        self.source = source
        self.share = share
        self.overdueLimit = overdueLimit
        self.keep = keep
        self.onEnd = onEnd
    }

    var hasOutlet: Bool { self.outlet != nil }
    /// Without an outlet what is sent goes into the bounded memory of the stream.
    var isWritable: Bool { self.outlet?.isWritable ?? true }

    // MARK: Sending

    /// Sends one message.
    func send(_ message: ByteBuffer) {
        guard !self.isFinished, self.outlet != nil || self.isResumable else { return }
        var event = self.loop.buffer(capacity: message.readableBytes + 64)
        EventText.append(message, id: self.nextID, to: &event)
        self.send(event: event)
    }

    private func prime() {
        guard let id = self.nextID else { return }
        var event = self.loop.buffer(capacity: 32)
        EventText.appendPriming(id: id, to: &event)
        self.send(event: event)
    }

    /// Sends bytes that are no event and not kept: a comment, the first event of the old transport.
    func send(raw bytes: ByteBuffer) { self.outlet?.send(bytes) }

    private var nextID: EventIDText? {
        self.isResumable ? EventIDText(stream: self.number, event: self.replay.next) : nil
    }

    private func send(event: ByteBuffer) {
        if self.isResumable { self.keep(event) }
        guard let outlet else { return }
        // Whoever sends is asked to wait, but what comes unasked has nobody that could be made to wait for a caller who does
        // not read, and of many that share a stream each may have one large message on its way.
        if outlet.isWritable { self.overdue = 0 }
        guard self.overdue <= self.overdueLimit else { return self.breakConnection() }
        outlet.send(event)
        self.overdue += event.readableBytes
    }

    /// Bytes that may pile up for a caller that does not read: one event as large as it may be, and a little.
    static func overdueLimit(_ limits: Limits) -> Int { limits.eventBytes + Self.unaskedLimit }
    /// The same for a stream of what comes unasked, whose senders cannot be made to wait.
    static let unaskedLimit = 1024 * 1024
    /// Bytes that were sent since the connection took some last.
    private var overdue = 0

    /// Keeps an event for a caller that comes back, within what its session may keep.
    private func keep(_ event: ByteBuffer) {
        self.replay.append(event, size: event.readableBytes)
        self.countKept()
        guard let share, share.isExceeded else { return }
        self.replay.shrink(to: Self.keptUnasked)
        self.countKept()
        share.makeRoom()
    }

    private func countKept() {
        self.share?.add(self.replay.bytes - self.shareBytes, on: self.loop.eventLoop)
        self.shareBytes = self.replay.bytes
    }

    /// Forgets what could be asked for again.
    func forgetKept() {
        self.replay.shrink(to: 0)
        self.countKept()
    }

    /// Nobody may come back for it any more, since there is no room to wait for that.
    func giveUp() { self.expire() }

    func flush() { self.outlet?.flush() }

    /// Nothing more comes; what was not taken yet can still be asked for.
    func finish() {
        guard !self.isFinished else { return }
        self.isFinished = true
        self.source = nil
        guard let outlet else { return }
        self.outlet = nil
        outlet.finish()
        self.endUnlessLost()
    }

    /// Breaks the connection of a caller that does not take what comes.
    func breakConnection() {
        guard let outlet else { return }
        self.outlet = nil
        outlet.reset()
        self.detached()
    }

    /// Breaks the connection and forgets the stream.
    func reset() {
        self.isFinished = true
        let outlet = self.outlet
        self.outlet = nil
        outlet?.reset()
        self.end()
    }

    // MARK: Connections

    /// Gives the stream a connection, in place of the one that it has; first goes what came after `event`.
    func attach(_ outlet: any StreamOutlet, after event: Int? = nil) {
        self.expiry?.cancel()
        self.expiry = nil
        if self.wasLost { self.share?.found(self) }
        let before = self.outlet
        let isAnother = self.wasAttached
        self.outlet = outlet
        self.overdue = 0
        self.wasAttached = true
        before?.finish()
        if isAnother { self.source?.streamMoved() }
        if let event {
            // Whoever asks for what it missed lost a connection, whether we know of it or not.
            self.wasLost = true
            for event in self.replay.events(after: event) { outlet.send(event) }
            outlet.flush()
        } else if self.isPrimed {
            self.prime()
            outlet.flush()
        }
        if self.isFinished {
            self.outlet = nil
            outlet.finish()
            self.endUnlessLost()
        } else {
            self.source?.streamBecameWritable()
        }
    }

    /// The connection is gone.
    ///
    /// Does nothing if another took its place meanwhile.
    func detach(_ outlet: any StreamOutlet) {
        guard self.outlet === outlet else { return }
        self.outlet = nil
        self.detached()
    }

    private func detached() {
        guard self.isResumable else {
            self.source?.streamExpired()
            return self.end()
        }
        self.wasLost = true
        self.source?.streamDetached()
        self.startExpiry()
        self.share?.lost(self)
    }

    private func startExpiry() {
        self.expiry?.cancel()
        let stream = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.expiry = self.loop.eventLoop.scheduleTask(in: Self.patience) { stream.value.expire() }
    }

    /// A caller that lost a connection may lose the next one as well: the stream stays for a while after its end.
    ///
    /// So does a short one of which no loss is known: a connection can break with the last bytes on their way.
    private func endUnlessLost() {
        if self.wasLost {
            self.startExpiry()
        } else if self.replay.bytes > Self.keptUnasked || !self.keep() {
            self.end()
        }
    }

    /// Bytes up to which a stream is kept although nobody is known to have missed anything.
    private static let keptUnasked = 16 * 1024

    func outletBecameWritable() { self.source?.streamBecameWritable() }

    private func expire() {
        guard self.outlet == nil else { return }
        self.expiry = nil
        self.isFinished = true
        self.source?.streamExpired()
        self.end()
    }

    private func end() {
        guard !self.isOver else { return }
        self.isOver = true
        self.expiry?.cancel()
        self.expiry = nil
        self.source = nil
        if self.wasLost { self.share?.found(self) }
        self.forgetKept()
        self.onEnd()
    }
}
