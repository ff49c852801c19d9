// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewayTransport
import GatewayWire
import NIOCore

/// A request that can only be dealt with when something is known or open, and then becomes an exchange of its own.
///
/// Whoever finds that out may take long, and may hold on to this object for longer than anybody wants the answer: the
/// request itself is let go of with its caller. Confined to the event loop of the caller's connection.
final class DeferredExchange: DownstreamExchange, Sweepable {
    var sweepIndex = -1
    private let loop: LoopResources
    private let calls: Calls
    let upstream: Upstream
    let principal: Principal
    private let deadline: NIODeadline
    /// What waits; nil once it waits no longer.
    ///
    /// Its session was taken into use for it, and is given back if it never becomes an exchange.
    private var waiting: (call: Call, responder: any DownstreamResponder)?
    private var exchange: (any DownstreamExchange)?
    private var held: HeldBytes

    /// It has a place among the requests under way, which it gives back.
    init(_ call: Call, calls: Calls, responder: any DownstreamResponder) {
        self.calls = calls
        self.loop = responder.loop
        self.upstream = call.upstream
        self.principal = call.principal
        self.waiting = (call, responder)
        self.deadline = .now() + TimeAmount(responder.loop.settings(of: call.upstream).timeout)
        self.held = HeldBytes(in: calls.buffers)
        self.loop.began(self)
        self.held.set(call.message.body.readableBytes) {
            let exchange = self.bound
            return { exchange.eventLoop.execute { exchange.value.fail(.noRoom(executed: .no)) } }
        }
    }

    /// For those who find out what it waits for, on whatever event loop.
    ///
    /// As long as one of them holds on to it, it counts as one of those who wait.
    var bound: NIOLoopBound<DeferredExchange> { NIOLoopBound(self, eventLoop: self.loop.eventLoop) }

    /// The wait is over: `make` makes of the request what it is, unless its caller has left meanwhile.
    ///
    /// Returns whether the caller was still there.
    @discardableResult
    func become(_ make: (Call, any DownstreamResponder) -> (any DownstreamExchange)?) -> Bool {
        guard let (call, responder) = self.stopWaiting() else { return false }
        self.exchange = make(call, responder)
        return true
    }

    func fail(_ error: GatewayError) {
        guard let (call, responder) = self.stopWaiting() else { return }
        self.calls.refuse(error, call.message, call.upstream, responder)
        if let session = call.session { self.calls.sessions.end(session) }
    }

    private func stopWaiting() -> (call: Call, responder: any DownstreamResponder)? {
        guard let waiting else { return nil }
        self.waiting = nil
        self.loop.ended(self)
        self.held.clear()
        self.calls.capacity.leavePlace()
        return waiting
    }

    /// Its caller is gone.
    private func abandon() {
        guard let (call, _) = self.stopWaiting(), let session = call.session else { return }
        self.calls.sessions.end(session)
    }

    func downstreamLeft(isClosed: Bool) {
        if let exchange { return exchange.downstreamLeft(isClosed: isClosed) }
        guard let waiting, isClosed || waiting.call.message.era == .stateless else { return }
        self.abandon()
        if !isClosed { waiting.responder.reset() }
    }

    func downstreamIsSlow() {
        if let exchange { exchange.downstreamIsSlow() } else { self.abandon() }
    }

    func downstreamBecameWritable() { self.exchange?.downstreamBecameWritable() }

    func sweep(now: NIODeadline) {
        if now >= self.deadline { self.fail(.notProbed(self.upstream)) }
    }

    func drain() { self.exchange?.drain() }

    deinit { self.calls.capacity.waiterEnded() }
}
