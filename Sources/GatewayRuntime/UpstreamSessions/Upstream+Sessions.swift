// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import GatewayTransport
import Logging
import NIOCore

/// The end of sessions at an upstream.
extension Upstream {

    /// Ends sessions at a streamable-HTTP upstream, those that are open.
    func end(
        _ sessions: [HTTPUpstreamSession],
        _ http: HTTPAccess,
        on loop: LoopResources,
        timeout: TimeAmount,
        _ completion: @escaping @Sendable () -> Void
    ) {
        let open = sessions.compactMap { session in session.close().map { (session, $0) } }
        guard !open.isEmpty else { return completion() }
        var left = open.count
        for (session, id) in open {
            SessionOpening.close(id, session, http, of: self, on: loop, timeout: timeout) { isGone in
                if !isGone {
                    self.surroundings.logger.debug(
                        "upstream session not ended",
                        metadata: ["upstream": "\(self.name)"]
                    )
                }
                left -= 1
                if left == 0 { completion() }
            }
        }
    }
}
