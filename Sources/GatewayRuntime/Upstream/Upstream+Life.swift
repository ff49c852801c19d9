// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewaySession
import NIOCore
import Synchronization

/// The life of an upstream unit: what callers share of it, what looks after it, and the end of both.
extension Upstream {
    /// What knows the unit and belongs to it.
    struct Parts {
        /// nil for an upstream that is a stream of messages from the start.
        var supervisor: UpstreamSupervisor?
        /// nil where callers share none over streamable HTTP.
        var sharedSessions: SharedSessions?
    }

    func makeParts() {
        guard case .http(let http) = self.transport else { return }
        self.parts.withLock { parts in
            if http.configuration.kind != .sse {
                parts.supervisor = UpstreamSupervisor(self, http, on: self.home)
            }
            guard self.isShared else { return }
            parts.sharedSessions = SharedSessions(self, http, home: self.home)
        }
    }

    /// Finds out what it speaks; nil for an upstream that is a stream of messages from the start.
    var supervisor: UpstreamSupervisor? { self.parts.withLock { $0.supervisor } }

    /// The sessions that callers share at a streamable-HTTP upstream; nil if each has its own.
    var sharedSessions: SharedSessions? { self.parts.withLock { $0.sharedSessions } }

    /// The links that callers share, made if there are none yet; asked for on the home loop.
    ///
    /// Of a unit that is over there are only such as are over.
    var sharedLinks: UpstreamLinks {
        if let links = self.links.value { return links }
        let links = UpstreamLinks(self, settings: self.linkSettings, on: self.home)
        if self.isOver { links.close {} } else { self.links.value = links }
        return links
    }

    /// Has the figures that are read at each scrape read from this unit, whichever unit of its name they were read from
    /// before.
    func showFigures() {
        guard case .http(let http) = self.transport else { return }
        http.credentials?.show()
    }

    /// Reaches it, and keeps what is known of it true until the unit is over or the task is cancelled; `concluded` hears the
    /// first verdict.
    func run(concluded: @escaping @Sendable (EraProbe.Verdict) -> Void) async {
        guard !self.isOver else { return }
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                guard let supervisor = self.supervisor else { return concluded(await self.openLink()) }
                await supervisor.run(concluded: concluded)
            }
            group.addTask { await self.ageSharedSessions() }
            await self.departure.untilOver()
            group.cancelAll()
        }
    }

    /// Opens what all callers share of it; from then on that looks after itself.
    private func openLink() async -> EraProbe.Verdict {
        await withCheckedContinuation { continuation in
            self.home.eventLoop.execute {
                self.sharedLinks.start { error in
                    let verdict: EraProbe.Verdict =
                        switch error?.reason {
                        case nil: .usable
                        case .credentialRejected?, .credentialsExhausted?: .rejected
                        case .unreachable?, .outboundProxy?, .upstreamClosed?, .upstreamTimeout?, .overloaded?:
                            .unreachable
                        default: .unusable
                        }
                    continuation.resume(returning: verdict)
                }
            }
        }
    }

    private func ageSharedSessions() async {
        guard let sessions = self.sharedSessions else { return }
        while !Task.isCancelled {
            // Cancelled or not, the loop condition decides.
            try? await Task.sleep(for: self.settings.timeout)
            sessions.grewOlder()
        }
    }

    // MARK: The end

    /// Whether it is over: nothing can be sent to it any more.
    var isOver: Bool { self.departure.isOver }

    /// Lets what is under way finish, and ends the unit when nobody needs it any more, at the latest after `limit`.
    ///
    /// Nothing new comes to it: the table of endpoints leads elsewhere. One that was replaced serves the sessions that it
    /// has, unless a unit that `heir` names takes them; of one that was removed nobody can use the sessions, so that it waits
    /// for calls alone.
    func drain(
        within limit: Duration,
        _ sessions: SessionRegistry,
        heir: @Sendable () -> Upstream? = { nil }
    ) async {
        let end = ContinuousClock.now + limit
        while ContinuousClock.now < end {
            // Those, too, that were about to begin here.
            await heir()?.takeSessions(of: self, sessions)
            guard await self.isNeeded(sessions) else { break }
            // Cancelled means that the process ends, which ends every unit.
            guard (try? await Task.sleep(for: .milliseconds(50))) != nil else { return }
        }
        await self.endUses()
        await self.stop(within: .seconds(10), .calm, sessions)
    }

    /// Whether anybody needs it who has begun with it.
    private func isNeeded(_ sessions: SessionRegistry) async -> Bool {
        if self.admission.runningCount > 0 || self.admission.waitingCount > 0 { return true }
        let isRemoved = self.departure.isRemoved
        if !isRemoved, sessions.hasSessions(at: self) { return true }
        for loop in self.surroundings.loops {
            let isNeeded = await loop.asked { loop in
                var isNeeded = false
                loop.eachUse(of: self) { if !isRemoved || !$0.isStream { isNeeded = true } }
                return isNeeded
            }
            if isNeeded { return true }
        }
        return false
    }

    /// Ends the streams under way whose callers another unit serves with their next one.
    func endStreams() async {
        for loop in self.surroundings.loops {
            await loop.asked { loop in loop.eachUse(of: self) { if $0.isStream { $0.drain() } } }
        }
    }

    /// Ends what is under way: streams in order, calls with an error.
    private func endUses() async {
        for loop in self.surroundings.loops {
            await loop.asked { loop in
                loop.eachUse(of: self) { if $0.isStream { $0.drain() } else { $0.upstreamIsOver() } }
            }
        }
    }

    /// Ends the unit: sessions here and upstream within `limit`, links and children in the time that takes, and at last its
    /// connections.
    ///
    /// Does no harm the second time.
    func stop(within limit: Duration, _ ending: SessionRegistry.Ending, _ sessions: SessionRegistry) async {
        self.departure.end()
        let time = TimeAmount(limit)
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                await withDiscardingTaskGroup { ends in
                    ends.addTask { await sessions.close(sessions.sessions(at: self), limits: ending, within: time) }
                    ends.addTask { await self.endSharedSessions(within: time) }
                    ends.addTask { await self.closeLinks() }
                }
            }
            // Cancelled when everything has ended before.
            group.addTask { try? await Task.sleep(for: max(limit, Self.childTime)) }
            await group.next()
            group.cancelAll()
        }
        self.lanes.close()
        // They know the unit, and it them.
        self.parts.withLock { $0 = Parts() }
    }

    /// What it takes to end a child that ignores every request to end (faults S12.5).
    private static let childTime = Duration.milliseconds(5_800)

    private func closeLinks() async {
        await withCheckedContinuation { continuation in
            self.home.eventLoop.execute {
                guard let links = self.links.value else { return continuation.resume() }
                self.links.value = nil
                links.close { continuation.resume() }
            }
        }
    }
}
