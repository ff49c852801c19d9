// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import NIOCore

/// How callers come to an upstream: what carries a message that is in no session, and how a session begins.
///
/// There is one for each way in which messages travel to an upstream; it is made where it is used, and costs nothing.
protocol Entrance: Sendable {
    /// Whether an upstream of which that is not known has to be asked whether it speaks the stateless era, before a message of
    /// that era goes there.
    var asksBeforeStateless: Bool { get }

    /// Begins a call that is in no session.
    func start(
        _ call: Call,
        _ calls: Calls,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)?

    /// `initialize` of a caller: its session begins, upstream as the configuration says whose it is.
    func initialize(
        _ call: Call,
        _ calls: Calls,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)?

    /// What callers of the handshake era share, once it is open; nil if each has its own, or nothing can be opened.
    func sharedPlace() async -> (any SharedPlace)?
}

/// What all callers of the handshake era use of one upstream.
protocol SharedPlace: Sendable {
    /// Takes over a session of another unit, which has been at `former`; returns whether it is here now.
    func take(_ session: CallerSession, from former: Upstream, _ leg: any Leg) async -> Bool
    /// Asks the upstream for a list, for ourselves; nil if it does not tell in a moment.
    func ask(for list: ServerList) async -> ByteBuffer?
}

extension SharedPlace {
    /// How long a server may take to answer: callers wait for its successor meanwhile.
    static var listTime: TimeAmount { .seconds(1) }
}
