// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewaySession
import NIOCore
import Synchronization

/// The end of an upstream unit, and of what began with it.
extension Upstream {
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
                    ends.addTask { await self.endParts(within: time) }
                }
            }
            // Cancelled when everything has ended before.
            group.addTask { try? await Task.sleep(for: max(limit, Self.childTime)) }
            await group.next()
            group.cancelAll()
        }
        self.lanes.close()
        self.letGoOfParts()
    }

    /// What it takes to end a child that ignores every request to end (faults S12.5).
    private static let childTime = Duration.milliseconds(5_800)
}
