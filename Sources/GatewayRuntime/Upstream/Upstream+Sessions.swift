// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import GatewayTransport
import Logging
import NIOCore

/// The end of what callers' sessions used of an upstream.
extension Upstream {
    /// Ends what a session used; `completion` hears when the upstream has heard of it, or did not answer in time.
    func end(
        _ binding: CallerSession.Binding,
        on loop: LoopResources,
        timeout: TimeAmount = .seconds(10),
        _ completion: @escaping @Sendable () -> Void = {}
    ) {
        switch binding {
        case .none, .http(nil):
            completion()
        case .http(let sessions?):
            self.end(sessions.slots, on: loop, timeout: timeout, completion)
        case .shared(let caller):
            caller.leave()
            completion()
        case .link(let link, let caller):
            link.execute { link in
                guard link.sharing == .exclusive else {
                    link.leave(caller)
                    return completion()
                }
                link.close { completion() }
            }
        }
    }

    /// Ends what a session used, within `limit`.
    func end(_ binding: CallerSession.Binding, within limit: TimeAmount) async {
        await withCheckedContinuation { continuation in
            self.home.eventLoop.execute {
                self.end(binding, on: self.home, timeout: limit) { continuation.resume() }
            }
        }
    }

    /// Ends the sessions that callers share over streamable HTTP, within `limit`.
    func endSharedSessions(within limit: TimeAmount) async {
        await withDiscardingTaskGroup { group in
            for shared in self.sharedSessions?.all ?? [] {
                guard let session = shared.close() else { continue }
                group.addTask {
                    await withCheckedContinuation { continuation in
                        self.home.eventLoop.execute {
                            self.end([session], on: self.home, timeout: limit) { continuation.resume() }
                        }
                    }
                }
            }
        }
    }

    /// Ends sessions at a streamable-HTTP upstream, those that are open.
    private func end(
        _ sessions: [HTTPUpstreamSession],
        on loop: LoopResources,
        timeout: TimeAmount,
        _ completion: @escaping @Sendable () -> Void
    ) {
        let open = sessions.compactMap { session in session.close().map { (session, $0) } }
        guard !open.isEmpty, case .http(let http) = self.transport else { return completion() }
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
