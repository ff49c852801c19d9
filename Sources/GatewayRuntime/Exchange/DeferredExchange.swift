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
    private let deadline: NIODeadline
    private var exchange: (any DownstreamExchange)?
    private var isOver = false
    /// Gives back what was taken for the request; nil once it belongs to somebody else.
    private var release: (() -> Void)?

    /// `release` is called if the request ends without having become an exchange.
    init(
        gateway: Gateway,
        upstream: Upstream,
        message: CallerMessage,
        responder: any DownstreamResponder,
        release: @escaping () -> Void = {}
    ) {
        self.gateway = gateway
        self.upstream = upstream
        self.message = message
        self.responder = responder
        self.release = release
        self.deadline = .now() + TimeAmount(upstream.configuration.timeout)
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
        self.release = nil
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
        self.release?()
        self.release = nil
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
        self.fail(
            GatewayError(
                .unreachable,
                executed: .no,
                "the server is not up yet; try again",
                cause: "not_probed"
            )
        )
    }

    func drain() { self.exchange?.drain() }
}
