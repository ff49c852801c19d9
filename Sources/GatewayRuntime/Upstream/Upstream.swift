// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
import GatewayPolicy
package import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore
import Synchronization

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
    private let verdict = Atomic<UInt8>(UpstreamVerdict.none.rawValue)
    private let retryBudget = Mutex(RetryBudget())
    private let newRequests = Atomic<Int>(0)
    private let createdAt = NIODeadline.now()
    private let lastAnswer = Atomic<UInt64>(0)

    package var runningCount: Int { self.admission.runningCount }
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

    package var currentVerdict: UpstreamVerdict {
        UpstreamVerdict(rawValue: self.verdict.load(ordering: .relaxed)) ?? .none
    }

    /// Records what the last contact said about the upstream; returns the verdict before, if this is another.
    @discardableResult
    func conclude(_ verdict: UpstreamVerdict) -> UpstreamVerdict? {
        if verdict == .usable { self.lastAnswer.store(NIODeadline.now().uptimeNanoseconds, ordering: .relaxed) }
        // Read before it is written: in the ordinary case nothing changes, and no other core need hear of it.
        guard self.verdict.load(ordering: .relaxed) != verdict.rawValue else { return nil }
        let before = self.verdict.exchange(verdict.rawValue, ordering: .relaxed)
        return before == verdict.rawValue ? nil : UpstreamVerdict(rawValue: before)
    }

    /// Counts a caller's request.
    func countRequest() { self.newRequests.add(1, ordering: .relaxed) }

    /// Tells the retry budget of the requests since the last time; called about once a second, so that a request costs
    /// an addition and no lock.
    func payRetryBudget() {
        let count = self.newRequests.exchange(0, ordering: .relaxed)
        guard count > 0 else { return }
        let now = Duration(NIODeadline.now() - self.createdAt)
        self.retryBudget.withLock { $0.recordRequests(count, now: now) }
    }

    /// Takes one automatic retry from the budget (faults §4.3); false if it is used up.
    func takeRetry() -> Bool {
        let now = Duration(NIODeadline.now() - self.createdAt)
        return self.retryBudget.withLock { $0.withdraw(now: now) }
    }

    /// When the upstream last answered anything; zero if never.
    var lastAnswered: NIODeadline { .uptimeNanoseconds(self.lastAnswer.load(ordering: .relaxed)) }
}
