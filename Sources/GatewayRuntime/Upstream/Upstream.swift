// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
package import GatewayPolicy
package import GatewaySession
import GatewayTransport
import GatewayWire
package import NIOCore
package import Synchronization

/// One upstream as all event loops share it: how to reach it, what is known about it, how busy it is.
package final class Upstream: Sendable {
    package let index: Int
    package let configuration: UpstreamConfiguration
    package let http: HTTPUpstreamConfiguration
    package let metrics: UpstreamMetrics
    let dialer: Dialer
    let heads: RequestHeads
    /// Requests that have a place, and those that wait for one, of all loops.
    let admission: UpstreamAdmission
    private let knowledge = Mutex(UpstreamEras())
    private let verdict = Mutex(UpstreamVerdict.none)
    private let lastAnswer = Atomic<UInt64>(0)

    package var name: String { self.configuration.name }

    init(
        index: Int,
        configuration: UpstreamConfiguration,
        http: HTTPUpstreamConfiguration,
        listener: ListenerConfiguration,
        metrics: UpstreamMetrics
    ) throws {
        self.index = index
        self.configuration = configuration
        self.http = http
        self.metrics = metrics
        self.dialer = try Dialer(origin: http.url.origin, tls: http.tls, timeout: listener.limits.connectTimeout)
        self.heads = RequestHeads(http, agent: "\(listener.name)/\(listener.version)")
        self.admission = UpstreamAdmission(
            capacity: listener.limits.inFlightPerUpstream,
            queue: listener.limits.queuePerUpstream,
            queueWait: TimeAmount(listener.limits.queueWait)
        )
        switch configuration.protocolPin {
        case .auto:
            break
        case .handshake:
            self.knowledge.withLock { eras in
                eras.handshake = true
                eras.stateless = false
            }
        case .stateless:
            self.knowledge.withLock { eras in
                eras.handshake = false
                eras.stateless = true
            }
        }
    }

    // MARK: What is known

    package var eras: UpstreamEras { self.knowledge.withLock { $0 } }

    func learn(_ change: (inout UpstreamEras) -> Void) {
        self.knowledge.withLock { change(&$0) }
    }

    package var currentVerdict: UpstreamVerdict { self.verdict.withLock { $0 } }

    /// Records what the last contact said about the upstream; returns the verdict before, if this is another.
    @discardableResult
    func conclude(_ verdict: UpstreamVerdict) -> UpstreamVerdict? {
        if verdict == .usable { self.lastAnswer.store(NIODeadline.now().uptimeNanoseconds, ordering: .relaxed) }
        return self.verdict.withLock { current in
            guard current != verdict else { return nil }
            defer { current = verdict }
            return current
        }
    }

    /// When the upstream last answered anything; zero if never.
    var lastAnswered: NIODeadline { .uptimeNanoseconds(self.lastAnswer.load(ordering: .relaxed)) }
}
