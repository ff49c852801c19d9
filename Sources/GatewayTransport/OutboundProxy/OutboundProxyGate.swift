// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
import GatewayPolicy
import NIOCore
import Synchronization

/// The way to one outbound proxy as one user, shared by all upstreams and event loops that use it: who may set up a
/// connection now, who waits (``GatewayPolicy/OutboundProxyAdmission``).
package final class OutboundProxyGate: Sendable {
    /// What somebody who asked is told.
    enum Answer {
        /// Go on; `isProven`: the login need not be proved, so that the place is only for reaching the proxy.
        case go(isProven: Bool)
        /// The login was rejected; it is not shown for this long.
        case refused(Duration)
    }

    /// Told on its event loop.
    typealias Entry = @Sendable (Answer) -> Void

    private struct State {
        var admission: OutboundProxyAdmission
        /// The oldest first; those that gave up meanwhile are still listed, and find out when it is their turn.
        var waiting: [(eventLoop: any EventLoop, entry: Entry)] = []
    }

    private let state: Mutex<State>
    private let origin = NIODeadline.now()

    package init(needsLogin: Bool) {
        self.state = Mutex(State(admission: OutboundProxyAdmission(needsLogin: needsLogin)))
    }

    private var now: Duration { Duration(NIODeadline.now() - self.origin) }

    /// Asks to set up a connection; `entry` is called once, at once if it need not wait.
    func enter(on eventLoop: any EventLoop, _ entry: @escaping Entry) {
        let now = self.now
        let answer: Answer? = self.state.withLock { state in
            switch state.admission.ask(now: now) {
            case .go: return .go(isProven: state.admission.isProven)
            case .refused(let rest): return .refused(rest)
            case .wait:
                state.waiting.append((eventLoop, entry))
                return nil
            }
        }
        if let answer { entry(answer) }
    }

    /// Whether a login was rejected a moment ago.
    var isBlocked: Bool {
        let now = self.now
        return self.state.withLock { $0.admission.rest(now: now) != nil }
    }

    /// Gives back the place that `enter` gave.
    func leave(_ outcome: OutboundProxyAdmission.Outcome) {
        let now = self.now
        let (told, answer) = self.state.withLock { state in
            let told: [(eventLoop: any EventLoop, entry: Entry)]
            let answer: Answer
            switch state.admission.ended(outcome, waiting: state.waiting.count, now: now) {
            case .start(let count):
                told = Array(state.waiting.prefix(count))
                answer = .go(isProven: state.admission.isProven)
            case .refuse(let rest):
                told = state.waiting
                answer = .refused(rest)
            }
            state.waiting.removeFirst(told.count)
            return (told, answer)
        }
        for (eventLoop, entry) in told { eventLoop.execute { entry(answer) } }
    }

    /// Learns from a connection that keeps no place at the gate.
    func learn(_ outcome: OutboundProxyAdmission.Outcome) {
        let now = self.now
        self.state.withLock { $0.admission.learn(outcome, now: now) }
    }
}

/// The gates of a configuration: one for each proxy and user.
package struct OutboundProxyGates: Sendable {
    private struct Key: Hashable {
        let kind: OutboundProxy.Kind
        let host: String
        let port: Int
        let username: Secret?
        let password: Secret?
    }

    private var gates: [Key: OutboundProxyGate] = [:]

    package init() {}

    /// The same gate for the same proxy, user and password.
    package mutating func gate(of proxy: OutboundProxy) -> OutboundProxyGate {
        let key = Key(
            kind: proxy.kind,
            host: proxy.host,
            port: proxy.port,
            username: proxy.username,
            password: proxy.password
        )
        if let gate = self.gates[key] { return gate }
        let gate = OutboundProxyGate(needsLogin: proxy.username != nil)
        self.gates[key] = gate
        return gate
    }
}
