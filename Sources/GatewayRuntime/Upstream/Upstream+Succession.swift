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

    /// What callers of the handshake era share, and it is open.
    private enum SharedPlace {
        case link(LinkHandle)
        case sessions(SharedSessions)
    }

    private func sharedPlace() async -> SharedPlace? {
        switch self.route {
        case .unknown: nil
        case .http: self.sharedSessions.map { .sessions($0) }
        case .link: await self.handshakeLink().map { .link($0) }
        }
    }

    private func handshakeLink() async -> LinkHandle? {
        await withCheckedContinuation { continuation in
            self.home.eventLoop.execute {
                self.sharedLinks.link(of: .handshake) { continuation.resume(returning: (try? $0.get())?.handle) }
            }
        }
    }

    /// Returns whether the session is here now.
    private func take(_ session: CallerSession, from former: Upstream, to place: SharedPlace) async -> Bool {
        let station = session.station
        guard station.upstream === former else { return false }
        // Of a caller of the old transport that has not initialized there is nothing to take along.
        if case .none = station.binding { return session.move(from: former, to: .init(upstream: self)) }
        let standing = await station.binding.standing
        switch place {
        case .link(let link):
            let number = await link.asked { link in
                link.bridge.follows(standing.lastNumber)
                return link.join(session, capabilities: standing.capabilities)
            }
            let here = CallerSession.Station(upstream: self, binding: .link(link, caller: number))
            guard session.move(from: former, to: here) else {
                link.execute { $0.leave(number) }
                return false
            }
            let wishes = await station.binding.moved()
            link.execute { $0.came(number, with: wishes) }
        case .sessions(let sessions):
            guard let shared = await sessions.opened() else { return false }
            shared.follows(standing.lastNumber)
            let caller = SharedCaller(sessions, capabilities: standing.capabilities)
            let here = CallerSession.Station(upstream: self, binding: .shared(caller))
            let number = caller.number(in: shared, of: session)
            guard session.move(from: former, to: here, home: sessions.http.credentials.map { _ in shared.slot }) else {
                caller.leave()
                return false
            }
            let wishes = await station.binding.moved()
            // For the next home, if this one is refused.
            session.withRouting { routing in
                for uri in wishes.subscriptions { routing.subscribed(to: uri) }
                if let severity = wishes.severity { routing.leveled(severity) }
            }
            shared.moved(number, subscriptions: wishes.subscriptions, severity: wishes.severity)
        }
        return true
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
            guard let answer = await self.ask(list, place) else { return digests }
            digests[list] = AnswerReader.resultDigest(of: answer, depth: self.jsonDepth) ?? 0
        }
        return digests
    }

    private func ask(_ list: ServerList, _ place: SharedPlace) async -> ByteBuffer? {
        switch place {
        case .sessions(let sessions):
            guard let shared = await sessions.opened() else { return nil }
            return await shared.ask(ClientMessage.list(list, id: #""gateway""#), timeout: Self.listTime)
        case .link(let link):
            return await withCheckedContinuation { continuation in
                link.execute { link in
                    // swift-format-ignore: OnlyOneTrailingClosureArgument
                    link.send(own: { ClientMessage.list(list, id: $0) }, timeout: Self.listTime) {
                        continuation.resume(returning: $0)
                    }
                }
            }
        }
    }

    /// How long a server may take to answer: callers wait for its successor meanwhile.
    private static let listTime = TimeAmount.seconds(1)
}

extension SharedSessions {
    /// A session that is open; nil if none could be opened.
    fileprivate func opened() async -> SharedSession? {
        await withCheckedContinuation { continuation in
            self.open { continuation.resume(returning: (try? $0.get())?.session) }
        }
    }
}
