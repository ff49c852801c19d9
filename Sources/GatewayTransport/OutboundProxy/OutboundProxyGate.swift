// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
import GatewayPolicy
import NIOCore
import Synchronization

/// The way to one outbound proxy as one user, shared by all upstreams and event loops that use it: who may set up a
/// connection now, who waits (``GatewayPolicy/OutboundProxyAdmission``).
package final class OutboundProxyGate: Sendable {
    /// Told on its event loop whether it may go on; a refusal is for this long.
    typealias Entry = @Sendable (_ refusal: Duration?) -> Void

    private struct State {
        var admission: OutboundProxyAdmission
        /// From the oldest on; those that gave up meanwhile find out when it is their turn.
        var waiting: [(eventLoop: any EventLoop, entry: Entry)] = []
    }

    private let state: Mutex<State>
    private let origin = NIODeadline.now()

    package init(needsLogin: Bool) {
        self.state = Mutex(State(admission: OutboundProxyAdmission(needsLogin: needsLogin)))
    }

    private var now: Duration { Duration(NIODeadline.now() - self.origin) }

    /// Asks to set up a connection; `entry` is called once, at once if it need not wait.
    func enter(on eventLoop: any EventLoop, showsLogin: Bool, _ entry: @escaping Entry) {
        let now = self.now
        let answer = self.state.withLock { state in
            let answer = state.admission.ask(showsLogin: showsLogin, now: now)
            if answer == .wait { state.waiting.append((eventLoop, entry)) }
            return answer
        }
        switch answer {
        case .go: entry(nil)
        case .wait: break
        case .refused(let rest): entry(rest)
        }
    }

    /// Ends what `enter` let go on.
    func leave(_ outcome: OutboundProxyAdmission.Outcome) {
        let now = self.now
        let (told, refusal) = self.state.withLock { state in
            let told: [(eventLoop: any EventLoop, entry: Entry)]
            var refusal: Duration?
            switch state.admission.ended(outcome, waiting: state.waiting.count, now: now) {
            case .start(let count):
                told = Array(state.waiting.prefix(count))
            case .refuse(let rest):
                told = state.waiting
                refusal = rest
            }
            state.waiting.removeFirst(told.count)
            return (told, refusal)
        }
        for (eventLoop, entry) in told { eventLoop.execute { entry(refusal) } }
    }

    /// What the proxy said of the login on a connection that had been set up.
    func learn(_ outcome: OutboundProxyAdmission.Outcome) {
        let now = self.now
        self.state.withLock { $0.admission.learn(outcome, now: now) }
    }
}

/// The gates of a configuration: one for each proxy and user.
package struct OutboundProxyGates {
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
