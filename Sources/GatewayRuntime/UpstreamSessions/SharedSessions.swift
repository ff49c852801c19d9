// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import NIOCore
import Synchronization

/// The sessions that all callers of one streamable-HTTP upstream share: one for each credential, made when it is first
/// wanted.
final class SharedSessions: UpstreamPart {
    private struct State {
        var sessions: [CredentialID: SharedSession] = [:]
        /// Those of removed credentials that nobody used when they were looked at last.
        var unused: Set<CredentialID> = []
    }

    private let upstream: Upstream
    let http: HTTPAccess
    private let home: LoopResources
    private let state: Mutex<State>

    init(_ upstream: Upstream, _ http: HTTPAccess, home: LoopResources) {
        self.upstream = upstream
        self.http = http
        self.home = home
        self.state = Mutex(State())
    }

    /// Those that there are.
    var all: [SharedSession] { self.state.withLock { Array($0.sessions.values) } }

    /// Those of the credentials in the list.
    var current: [SharedSession] { self.http.slots.compactMap { self.session($0) } }

    /// nil for a credential that the upstream does not have, unless its session is still there: no other's stands in for
    /// it.
    func session(_ slot: CredentialID) -> SharedSession? {
        let isKnown = self.http.contains(slot)
        return self.state.withLock { state in
            if let session = state.sessions[slot] { return session }
            guard isKnown else { return nil }
            let session = SharedSession(self.upstream, self.http, slot: slot, home: self.home)
            state.sessions[slot] = session
            return session
        }
    }

    /// Lets time pass for them.
    func run(concluded: @escaping @Sendable (EraProbe.Verdict) -> Void) async {
        while !Task.isCancelled {
            // Cancelled or not, the loop condition decides.
            try? await Task.sleep(for: self.upstream.settings.timeout)
            self.grewOlder()
        }
    }

    func end(within limit: TimeAmount) async {
        await withDiscardingTaskGroup { group in
            for shared in self.all {
                guard let session = shared.close() else { continue }
                group.addTask {
                    await withCheckedContinuation { continuation in
                        self.home.eventLoop.execute {
                            self.upstream.end([session], self.http, on: self.home, timeout: limit) {
                                continuation.resume()
                            }
                        }
                    }
                }
            }
        }
    }

    /// Time passes: for calls that were withdrawn, and for sessions of removed credentials, which end when nobody used
    /// them twice in a row.
    func grewOlder() {
        let known = Set(self.http.slots)
        let (sessions, ended) = self.state.withLock { state in
            let unused = Set(state.sessions.values.filter { !known.contains($0.slot) && !$0.isUsed }.map(\.slot))
            let ended = unused.intersection(state.unused).compactMap { state.sessions.removeValue(forKey: $0) }
            state.unused = unused
            return (Array(state.sessions.values), ended)
        }
        for session in sessions { session.grewOlder() }
        // Nothing is sent with a credential that was removed: the upstream forgets the session in its own time.
        for session in ended { _ = session.close() }
    }
}

extension Upstream {
    /// The sessions that callers share at a streamable-HTTP upstream; nil if each has its own, and when it is over.
    var sharedSessions: SharedSessions? { self.part(SharedSessions.self) }
}
