// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// A configuration that is read again is compared by what it means. Order, comments, white space, and a variable in place of
// its value change nothing, and what did not change is not touched: its sessions, streams, children and connections go on.

/// What is different between two configurations: the one that runs, and the one that is to take its place.
package struct SnapshotComparison: Hashable, Sendable {
    /// Every server that is started in one of the two: in the order of the new one, then those that are gone.
    package let servers: [ServerComparison]
    /// The keys of `mcpProxy` whose values are others and can be applied at once, sorted.
    package let gatewayKeys: [String]
    /// The keys of `mcpProxy` whose values are others and count from the next start, sorted.
    package let restartKeys: [String]

    /// `changedFiles`: paths of certificates, keys and authorities whose contents are others than when `old` was read.
    package init(from old: GatewaySnapshot, to new: GatewaySnapshot, changedFiles: Set<String> = []) {
        let before = Self.started(old)
        let names = Set(new.upstreams.filter(\.isStarted).map(\.name))
        let present = new.upstreams.filter(\.isStarted)
            .map { upstream in
                guard let predecessor = before[upstream.name] else {
                    return ServerComparison(name: upstream.name, verdict: .added, keys: [])
                }
                return ServerComparison(from: predecessor, to: upstream, changedFiles: changedFiles)
            }
        let gone = old.upstreams.filter { $0.isStarted && !names.contains($0.name) }
            .map { ServerComparison(name: $0.name, verdict: .removed, keys: []) }
        self.servers = present + gone
        let changed =
            ListenerConfiguration.keys.changed(from: old.listener, to: new.listener)
            + Limits.changed(from: old.listener.limits, to: new.listener.limits)
        self.gatewayKeys = changed.filter { $0.weight == .tuned }.map(\.name).sorted()
        self.restartKeys = Set(changed.filter { $0.weight == .replaced }.map(\.name)).sorted()
    }

    /// Whether there is nothing to apply, now or at the next start.
    package var isSame: Bool { !self.changesAnything && self.restartKeys.isEmpty }

    /// Whether there is something to apply now.
    package var changesAnything: Bool {
        !self.gatewayKeys.isEmpty || !self.servers.allSatisfy { $0.verdict == .same }
    }

    /// The names of the servers with this verdict, in the order of ``servers``.
    package func names(_ verdict: ServerComparison.Verdict) -> [String] {
        self.servers.filter { $0.verdict == verdict }.map(\.name)
    }

    private static func started(_ snapshot: GatewaySnapshot) -> [String: UpstreamConfiguration] {
        Dictionary(snapshot.upstreams.filter(\.isStarted).map { ($0.name, $0) }) { first, _ in first }
    }
}

extension UpstreamConfiguration {
    fileprivate var isStarted: Bool { !self.isDisabled && !self.isRefused }
}
