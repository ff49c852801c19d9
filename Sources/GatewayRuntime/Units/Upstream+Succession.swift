// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import GatewayWire
import NIOCore

/// One unit in place of another whose callers share what they use of it: they keep their sessions and notice nothing.
extension Upstream {
    /// Whether sessions of another unit can go on here: at both, all callers of the handshake era use one session.
    func canSucceed(_ former: Upstream) -> Bool {
        self.isShared && former.isShared && self.forwardHeaders == former.forwardHeaders
    }

    // MARK: Sessions

    /// Takes over the sessions of another unit, one after the other; they stay there if nothing is open here.
    func takeSessions(of former: Upstream, _ sessions: SessionRegistry) async {
        guard sessions.hasSessions(at: former), let place = await self.sharedPlace() else { return }
        for session in sessions.sessions(at: former) where await self.take(session, from: former, to: place) {
            sessions.moved(session, to: self)
        }
    }

    private func sharedPlace() async -> (any SharedPlace)? { await self.entrance?.sharedPlace() }

    /// Returns whether the session is here now.
    private func take(_ session: CallerSession, from former: Upstream, to place: any SharedPlace) async -> Bool {
        let station = session.station
        guard station.upstream === former else { return false }
        // Of a caller of the old transport that has not initialized there is nothing to take along.
        guard let leg = station.leg else { return session.move(from: former, to: .init(upstream: self)) }
        return await place.take(session, from: former, leg)
    }

    // MARK: Lists

    /// The lists that are not the same at this unit as at another one, as far as can be known: one that either does not tell in a
    /// moment counts as another.
    func lists(unlike former: Upstream) async -> [ServerList] {
        async let here = self.digests()
        async let there = former.digests()
        let (own, others) = await (here, there)
        return ServerList.allCases.filter { list in
            guard let own = own[list] else { return true }
            return others[list].map { $0 != own } ?? (own != 0)
        }
    }

    /// A number for the first page of each list, which is the same for equal pages, and 0 if there is no such list.
    ///
    /// Lists that it does not tell in a moment are missing.
    private func digests() async -> [ServerList: Int] {
        guard self.currentVerdict == .usable, let place = await self.sharedPlace() else { return [:] }
        var digests: [ServerList: Int] = [:]
        for list in ServerList.allCases {
            guard let answer = await place.ask(for: list) else { return digests }
            digests[list] = AnswerReader.resultDigest(of: answer, AnswerReader.read(answer, depth: self.jsonDepth)) ?? 0
        }
        return digests
    }
}
