// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewayTransport
import NIOCore

/// A request that can only be dealt with when something is known or open, and then becomes an exchange of its own.
///
/// Confined to the event loop of the caller's connection.
final class DeferredExchange: DownstreamExchange, Sweepable {
    var sweepIndex = -1
    private let responder: any DownstreamResponder
    private let message: CallerMessage
    private let upstream: Upstream
    private let gateway: Gateway
    /// Taken into use for the request, and given back if that never becomes an exchange.
    private let session: CallerSession?
    private let deadline: NIODeadline
    private var exchange: (any DownstreamExchange)?
    private var isOver = false

    init(_ call: Gateway.Call, gateway: Gateway, responder: any DownstreamResponder) {
        self.gateway = gateway
        self.upstream = call.upstream
        self.message = call.message
        self.session = call.session
        self.responder = responder
        self.deadline = .now() + TimeAmount(call.upstream.configuration.timeout)
        // Where messages go their own way no connection looks at the deadlines.
        if responder.messages != nil { responder.loop.sweeper.add(self) }
    }

    /// From any event loop: `body` makes of the request what it is, unless its caller has left meanwhile.
    static func bound(_ exchange: DeferredExchange) -> NIOLoopBound<DeferredExchange> {
        NIOLoopBound(exchange, eventLoop: exchange.responder.loop.eventLoop)
    }

    func become(_ make: () -> (any DownstreamExchange)?) {
        guard !self.isOver else { return }
        self.leaveSweeper()
        self.isOver = true
        self.exchange = make()
    }

    func fail(_ error: GatewayError) {
        guard !self.isOver else { return }
        self.end()
        self.gateway.refuse(error, self.message, self.upstream, self.responder)
    }

    private func leaveSweeper() {
        if self.sweepIndex >= 0 { self.responder.loop.sweeper.remove(self) }
    }

    private func end() {
        self.leaveSweeper()
        self.isOver = true
        if let session { self.gateway.sessions.end(session) }
    }

    func downstreamLeft(isClosed: Bool) {
        if let exchange { return exchange.downstreamLeft(isClosed: isClosed) }
        guard isClosed || self.message.era == .stateless else { return }
        if !isClosed, !self.isOver { self.responder.reset() }
        if !self.isOver { self.end() }
    }

    func downstreamBecameWritable() { self.exchange?.downstreamBecameWritable() }

    func sweep(now: NIODeadline) {
        if let exchange { return exchange.sweep(now: now) }
        guard now >= self.deadline else { return }
        self.fail(.notProbed(self.upstream, "the server is not up yet; try again"))
    }

    func drain() { self.exchange?.drain() }
}
