// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import NIOCore
import Synchronization

/// What belongs to one upstream, and knows it: what looks after it, and what callers share of it.
///
/// The upstream lets go of it when it is over.
protocol UpstreamPart: AnyObject, Sendable {
    /// Works until the task is cancelled; `concluded` hears the first verdict on the upstream, if it is this part that
    /// reaches it.
    func run(concluded: @escaping @Sendable (EraProbe.Verdict) -> Void) async
    /// The upstream is over: ends what it has there, within `limit`, or in the time that a child takes to end.
    func end(within limit: TimeAmount) async
}

/// What finds out what an upstream speaks, and whether it is up.
protocol UpstreamWatch: UpstreamPart {
    /// Looks again now, as far as the question needs it; `resume` is called on `eventLoop` when that is done.
    func look(for question: UpstreamQuestion, on eventLoop: any EventLoop, _ resume: @escaping @Sendable () -> Void)
    /// A call met something that a server that is well does not say: looks again soon, if that was long ago.
    func doubt()
    /// When it looks next is to be thought over.
    func settingsChanged()
}

/// What somebody wants to know of an upstream.
enum UpstreamQuestion: Sendable {
    /// What it speaks.
    case all
    /// Whether a server of the stateless era speaks the handshake too.
    case handshake
    /// Whether a server of the handshake era speaks the stateless one too.
    case stateless
}

extension Upstream {
    /// Finds out what it speaks; nil for one that is a stream of messages from the start, and for one that is over.
    var watch: (any UpstreamWatch)? {
        self.parts.withLock { parts in parts.lazy.compactMap { $0 as? any UpstreamWatch }.first }
    }

    /// What it has of a kind; nil without one, and when it is over.
    func part<Part: UpstreamPart>(_ kind: Part.Type) -> Part? {
        self.parts.withLock { parts in parts.lazy.compactMap { $0 as? Part }.first }
    }

    /// Reaches it, and keeps what is known of it true until the unit is over or the task is cancelled; `concluded` hears the
    /// first verdict.
    func run(concluded: @escaping @Sendable (EraProbe.Verdict) -> Void) async {
        guard !self.isOver else { return }
        await withTaskGroup(of: Void.self) { group in
            for part in self.parts.withLock({ $0 }) { group.addTask { await part.run(concluded: concluded) } }
            await self.departure.untilOver()
            group.cancelAll()
        }
    }

    /// Ends what belongs to it, within `limit`; it lets go of that with ``letGoOfParts()``.
    func endParts(within limit: TimeAmount) async {
        await withDiscardingTaskGroup { ends in
            for part in self.parts.withLock({ $0 }) { ends.addTask { await part.end(within: limit) } }
        }
    }

    /// They know the unit, and it them.
    func letGoOfParts() { self.parts.withLock { $0 = [] } }

    /// Whether it is over: nothing can be sent to it any more.
    var isOver: Bool { self.departure.isOver }

    /// Has the figures that are read at each scrape read from this unit, whichever unit of its name they were read from
    /// before.
    func showFigures() { self.credentials?.show() }
}

extension GatewayError {
    /// Nobody knows what the upstream speaks: for the reason that the last look at it met, if there was one (contract U3).
    static func notProbed(_ upstream: Upstream) -> GatewayError {
        if let failure = upstream.failure { return failure }
        if let failure = upstream.outboundProxy?.lastFailure {
            return GatewayError(failure)
        }
        return GatewayError(
            .unreachable,
            executed: .no,
            "the server was not reached yet, so what it speaks is not known; try again",
            cause: "not_probed"
        )
    }
}
