// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
import GatewayObservability
import GatewayPolicy
import Synchronization

/// Another list of tokens while requests run, and the series of each (decision 0036).
extension UpstreamCredentials {
    /// A place in a new list, before the pool has minted an identity for what is new.
    private struct Place {
        let kept: CredentialID?
        let credential: RequestCredential
        let label: String
        let requests: CounterFamily<CredentialOutcome>
    }

    /// Takes another list of tokens, and other rules.
    ///
    /// A token that stays keeps what is known of it, its attempts under way and its sessions, wherever it is in the list
    /// now. When this returns no attempt begins with one that is gone. Called by one at a time, on any thread; an empty
    /// list changes nothing, since an upstream without a pool is another upstream.
    package func replace(with configuration: CredentialPoolConfiguration) {
        guard !configuration.tokens.isEmpty else { return }
        let before = self.state.withLock { $0.members }
        // Whatever takes time is done before the lock is taken: heads, series, and that new secrets are masked.
        let places = self.places(in: configuration, before: before)
        // The members before are let go behind the lock, for the same reason.
        let (members, departing, forgotten, _) = self.state.withLock { state in
            let ids = state.pool.replace(with: places.map(\.kept), mode: configuration.mode)
            let old = state.members
            state.members = zip(ids, places)
                .map { CredentialMember(id: $0, credential: $1.credential, label: $1.label, requests: $1.requests) }
            state.rules = configuration.rules
            state.names = configuration.names
            for slot in state.pool.departing {
                if let member = old.first(where: { $0.id == slot.id }) { state.departing[slot.id] = member.label }
            }
            return (state.members, Set(state.departing.values), state.pool.takeForgotten(), old)
        }
        self.listChanged(to: members.map(\.id), affinity: configuration.affinity)
        self.forget(forgotten)
        let labels = Set(members.map(\.label)).union(departing)
        for member in before where !labels.contains(member.label) { self.removeSeries(member.label) }
        self.watchFailures(of: members)
    }

    private func places(
        in configuration: CredentialPoolConfiguration,
        before: [CredentialMember]
    ) -> [Place] {
        var left = before
        return configuration.tokens.enumerated()
            .map { position, token in
                // Of a value that is there twice each place is one of its own.
                let kept = left.firstIndex { $0.credential.token == token }.map { left.remove(at: $0) }
                let label = configuration.label(of: position)
                return Place(
                    kept: kept?.id,
                    credential: kept?.credential
                        ?? RequestCredential(token: token, self.template, redactor: self.redactor),
                    label: label,
                    requests: self.requests(label, isName: configuration.name(of: position) != nil, kept, before)
                )
            }
    }

    /// The counters of a place: they follow a name; without one they belong to the position, and begin anew with another
    /// credential there.
    private func requests(
        _ label: String,
        isName: Bool,
        _ kept: CredentialMember?,
        _ before: [CredentialMember]
    ) -> CounterFamily<CredentialOutcome> {
        if let owner = before.first(where: { $0.label == label }), isName || owner.id == kept?.id {
            return owner.requests
        }
        self.metrics.removeSeries(of: .credentialRequests, [self.upstream, label])
        return self.metrics.counters(.credentialRequests, [self.upstream, label], by: CredentialOutcome.self)
    }

    /// Has the failures of each read at a scrape.
    func watchFailures(of members: [CredentialMember]) {
        for member in members {
            self.metrics.callback(.credentialFailures, [self.upstream, member.label]) { [weak self, id = member.id] in
                self?.state.withLock { $0.pool.slots.first { $0.id == id } }.map { Double($0.failures) }
            }
        }
    }

    /// The last attempt with these, which were removed, has ended: nothing is left of them.
    func forget(_ ids: [CredentialID]) {
        guard !ids.isEmpty else { return }
        let labels = self.state.withLock { state in
            let gone = ids.compactMap { state.departing.removeValue(forKey: $0) }
            let used = Set(state.members.map(\.label)).union(state.departing.values)
            return gone.filter { !used.contains($0) }
        }
        for label in labels { self.removeSeries(label) }
    }

    private func removeSeries(_ label: String) {
        self.metrics.removeSeries(of: .credentialRequests, [self.upstream, label])
        self.metrics.removeSeries(of: .credentialFailures, [self.upstream, label])
    }
}

extension CredentialPoolConfiguration {
    func name(of position: Int) -> String? { self.names.indices.contains(position) ? self.names[position] : nil }

    /// What people call a token, or its position.
    func label(of position: Int) -> String { self.name(of: position) ?? "\(position)" }
}
