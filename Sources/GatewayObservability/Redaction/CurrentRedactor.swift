// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
internal import Synchronization

/// The redactor of the moment: it knows the secrets of the running configuration, and those that somebody still uses.
///
/// Whoever puts a secret on the wire holds it here from before its first use until its last use is over. So a token that
/// a reload adds is masked before it is sent, and one that a reload removed is masked while calls with it are under way,
/// and forgotten after them.
package final class CurrentRedactor: Sendable {
    private struct State {
        var redactor: Redactor
        /// Those of the configuration.
        var configured: Set<Secret>
        /// How many hold each.
        var held: [Secret: Int] = [:]

        mutating func rebuild() { self.redactor = Redactor(self.configured.union(self.held.keys)) }
    }

    private let state: Mutex<State>

    package init(_ secrets: some Sequence<Secret> = []) {
        let configured = Set(secrets)
        self.state = Mutex(State(redactor: Redactor(configured), configured: configured))
    }

    /// Lines that are being written finish with the one they began with.
    package var value: Redactor { self.state.withLock { $0.redactor } }

    /// The secrets of the configuration are these from now on; what is held stays known.
    package func configure(_ secrets: some Sequence<Secret>) {
        let secrets = Set(secrets)
        self.state.withLock { state in
            guard secrets != state.configured else { return }
            state.configured = secrets
            state.rebuild()
        }
    }

    /// Somebody uses the secret, from when this returns until `release` is called as often.
    package func hold(_ secret: Secret) {
        self.state.withLock { state in
            let count = state.held[secret] ?? 0
            state.held[secret] = count + 1
            if count == 0, !state.configured.contains(secret) { state.rebuild() }
        }
    }

    package func release(_ secret: Secret) {
        self.state.withLock { state in
            guard let count = state.held[secret] else { return }
            state.held[secret] = count == 1 ? nil : count - 1
            if count == 1, !state.configured.contains(secret) { state.rebuild() }
        }
    }
}
