// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayTransport
import NIOCore

/// Something of a caller that is under way with one upstream: a call, one that waits, or a stream.
///
/// The event loop that looks after its deadlines knows it, and that is how a unit that goes finds who still needs it: a call
/// costs nothing more for it.
protocol UpstreamUse: DownstreamExchange, Sweepable {
    var upstream: Upstream { get }
    var principal: Principal { get }
    /// Whether it has no end of its own, so that `drain` ends it.
    var isStream: Bool { get }
    /// The time of the upstream is over: it ends now.
    func upstreamIsOver()
}

extension LoopResources {
    /// Shows what began here and is under way with an upstream; asked for on the loop.
    func eachUse(of upstream: Upstream, _ body: (any UpstreamUse) -> Void) {
        self.sweeper.each { entry in
            guard let use = entry as? any UpstreamUse, use.upstream === upstream else { return }
            body(use)
        }
    }
}
