// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayTransport
import NIOCore

/// A GET of a caller: the connection that a stream writes to, wherever either lives.
///
/// Confined to the event loop of the connection.
final class StreamConnection: DownstreamExchange, StreamOutlet, Sweepable {
    var sweepIndex = -1
    private let calls: Calls
    /// That of its session, which may be another one with time.
    var upstream: Upstream { self.session?.upstream ?? self.ownUpstream }
    private let ownUpstream: Upstream
    let principal: Principal
    private let session: CallerSession?
    private let loop: LoopResources
    private var responder: (any DownstreamResponder)?
    /// Tells the stream that the connection is gone.
    private var onLeave: (() -> Void)?
    /// Tells the stream that the connection takes bytes again.
    private var onWritable: (() -> Void)?
    private var hasBegun = false
    private var lastSent: NIODeadline
    private var blockedSince: NIODeadline?

    /// The session was taken into use for it, and a place among the streams; both are given back when it ends.
    init(
        calls: Calls,
        upstream: Upstream,
        principal: Principal,
        session: CallerSession?,
        responder: any DownstreamResponder
    ) {
        self.calls = calls
        self.ownUpstream = upstream
        self.principal = principal
        self.session = session
        self.responder = responder
        self.loop = responder.loop
        self.lastSent = .now()
        upstream.metrics.streams.add(1)
        self.loop.began(self)
    }

    // MARK: Streams

    /// It has no stream yet: whoever looks for one is told if its caller leaves before.
    func waits(_ onLeave: @escaping () -> Void) { self.onLeave = onLeave }

    /// Connects to a stream, which sends what came after `event` first.
    func attach(to stream: NIOLoopBound<CallerStream>, after event: Int?) {
        self.begin()
        if stream.eventLoop === self.loop.eventLoop {
            let stream = stream.value
            self.onLeave = { [weak self] in if let self { stream.detach(self) } }
            self.onWritable = { [weak self] in if let self { stream.outletBecameWritable(self) } }
            stream.attach(self, after: event)
            self.flush()
        } else {
            let connection = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
            let outlet = RemoteOutlet(connection, stream)
            self.onLeave = { outlet.left() }
            self.onWritable = { outlet.acknowledge() }
            stream.execute { stream in
                stream.attach(outlet, after: event)
                outlet.flush()
            }
        }
    }

    /// Sends the head of the answer.
    func begin() {
        guard !self.hasBegun else { return }
        self.hasBegun = true
        self.responder?.begin(status: 200, length: nil, fields: EventText.appendFields)
        self.responder?.flush()
    }

    /// Answers the GET with something else than a stream.
    func refuse(status: Int, code: Int, _ text: String, fields: (inout ByteBuffer) -> Void = { _ in }) {
        self.onLeave = nil
        self.responder?.respond(status: status, json: ErrorAnswer.body(code: code, message: text), fields: fields)
        self.leave()
    }

    /// Answers the GET with what says that there is no such stream.
    func refuseStream() {
        self.refuse(status: 405, code: -32_000, "this server offers no GET stream") {
            $0.writeStaticString("Allow: POST, DELETE\r\n")
        }
    }

    // MARK: Outlet

    var isWritable: Bool { self.responder?.isWritable ?? true }

    func send(_ bytes: ByteBuffer) {
        guard let responder else { return }
        responder.send(bytes)
        self.lastSent = .now()
        if !responder.isWritable, self.blockedSince == nil { self.blockedSince = self.lastSent }
    }

    func flush() { self.responder?.flush() }

    func finish() {
        self.onLeave = nil
        self.end()
    }

    func reset() {
        self.onLeave = nil
        self.responder?.reset()
        self.leave()
    }

    // MARK: Caller

    func downstreamLeft(isClosed: Bool) {
        if !isClosed { self.responder?.finish() }
        self.responder = nil
        self.leave()
    }

    func downstreamBecameWritable() {
        self.blockedSince = nil
        self.onWritable?()
    }

    func downstreamIsSlow() {
        self.responder = nil
        self.leave()
    }

    func sweep(now: NIODeadline) {
        self.endIfIdle()
        if self.hasBegun, self.blockedSince == nil, now - self.lastSent >= CallerReply.keepAliveInterval {
            self.send(CallerReply.keepAlive)
            self.responder?.flush()
        }
    }

    func drain() {
        // What such a caller is answered comes on its stream alone, so that stays for as long as there are calls.
        guard let session, session.isLegacy else { return self.end() }
        // The session stays for whoever ends all sessions.
        self.endWhenIdle { $0.end() }
    }

    /// The session of a caller of the old transport is of no more use: it ends, and its stream with it, when its calls have
    /// their answers.
    func endSessionWhenIdle() {
        self.endWhenIdle { connection in
            if let session = connection.session { connection.calls.sessions.close(session, on: connection.loop) }
        }
    }

    /// What is to be done when nothing but the stream runs in the session.
    private var onIdle: ((StreamConnection) -> Void)?

    private func endWhenIdle(_ end: @escaping (StreamConnection) -> Void) {
        self.onIdle = end
        self.endIfIdle()
    }

    private func endIfIdle() {
        // From here on nothing new is accepted that the stream would have to answer.
        guard self.onIdle != nil, let session, self.calls.sessions.seal(session) else { return }
        // Later: an answer is given to this loop before its call gives the session back, and may still wait here.
        let connection = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.loop.eventLoop.execute {
            let connection = connection.value
            let end = connection.onIdle
            connection.onIdle = nil
            end?(connection)
        }
    }

    /// Ends the answer in order; a stream that did not ask for that hears that its connection is gone.
    private func end() {
        self.begin()
        self.responder?.finish()
        self.leave()
    }

    private var isOver = false

    private func leave() {
        guard !self.isOver else { return }
        self.isOver = true
        self.loop.ended(self)
        self.responder = nil
        let onLeave = self.onLeave
        self.onLeave = nil
        self.onWritable = nil
        onLeave?()
        self.upstream.metrics.streams.subtract(1)
        self.calls.capacity.streamEnded()
        if let session { self.calls.sessions.end(session) }
    }
}

/// A connection as a stream on another event loop sees it: bytes hop over, and come to a stop when as many as fill a
/// window are on their way.
///
/// Unchecked because each half is touched on one event loop only: `sent` and what `StreamOutlet` asks for on that of the
/// stream, `left` and `acknowledge` on that of the connection, which reach the other half by hops.
private final class RemoteOutlet: StreamOutlet, @unchecked Sendable {
    private let connection: NIOLoopBound<StreamConnection>
    private let stream: NIOLoopBound<CallerStream>
    /// Bytes that the connection has not taken yet; on the stream's event loop.
    private var pending = 0
    /// Bytes that arrived and are not acknowledged; on the connection's event loop.
    private var arrived = 0

    init(_ connection: NIOLoopBound<StreamConnection>, _ stream: NIOLoopBound<CallerStream>) {
        self.connection = connection
        self.stream = stream
    }

    var isWritable: Bool { self.pending < CallerStream.remoteWindow }

    func send(_ bytes: ByteBuffer) {
        self.pending += bytes.readableBytes
        self.connection.execute { connection in
            connection.send(bytes)
            self.arrived += bytes.readableBytes
            if connection.isWritable { self.acknowledge() }
        }
    }

    func flush() { self.connection.execute { $0.flush() } }
    func finish() { self.connection.execute { $0.finish() } }
    func reset() { self.connection.execute { $0.reset() } }

    /// The connection took what arrived.
    func acknowledge() {
        let count = self.arrived
        guard count > 0 else { return }
        self.arrived = 0
        self.stream.execute { stream in
            let wasWritable = self.isWritable
            self.pending -= count
            if !wasWritable, self.isWritable { stream.outletBecameWritable(self) }
        }
    }

    func left() { self.stream.execute { $0.detach(self) } }
}
