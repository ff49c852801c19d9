// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import Testing

@Suite("Upstream session") struct UpstreamSessionTests {
    /// One that is being opened again, for which 0 and 1 wait.
    private static func renewing(isCertain: Bool = true) -> UpstreamSession<Int> {
        var session = UpstreamSession<Int>(id: "old")
        _ = session.lost(id: "old", isCertain: isCertain, waiter: 0, at: .zero)
        _ = session.lost(id: "old", isCertain: isCertain, waiter: 1, at: .zero)
        return session
    }

    @Test(
        "Of many that meet the loss one renews, the others wait, and all are told the new id",
        arguments: [true, false]
    )
    func singleFlight(isCertain: Bool) {
        var session = UpstreamSession<Int>(id: "old")
        guard case .renew(.zero) = session.lost(id: "old", isCertain: isCertain, waiter: 0, at: .zero) else {
            Issue.record("the first does not renew at once")
            return
        }
        for waiter in 1...5 {
            guard case .wait = session.lost(id: "old", isCertain: isCertain, waiter: waiter, at: .zero) else {
                Issue.record("\(waiter) does not wait")
                return
            }
        }
        let waiters = session.opened(id: "new", at: .zero)
        #expect(waiters == [0, 1, 2, 3, 4, 5])
        let id = session.id
        #expect(id == "new")
    }

    @Test("A loss of an id that was replaced already goes on with the new one")
    func late() {
        var session = Self.renewing()
        _ = session.opened(id: "new", at: .zero)
        guard case .retry("new") = session.lost(id: "old", isCertain: true, waiter: 1, at: .zero) else {
            Issue.record("no retry")
            return
        }
    }

    @Test(
        "It is opened again once a second at most",
        arguments: [(0, 1000), (400, 600), (999, 1), (1000, 0), (5000, 0)]
    )
    func pace(later: Int, pause: Int) {
        var session = Self.renewing()
        _ = session.opened(id: "new", at: .seconds(7))
        let now = Duration.seconds(7) + .milliseconds(later)
        guard case .renew(let after) = session.lost(id: "new", isCertain: true, waiter: 2, at: now) else {
            Issue.record("it does not renew")
            return
        }
        #expect(after == .milliseconds(pause))
    }

    @Test("One that is there after all goes on, and for a second nobody who doubts it asks again")
    func kept() {
        var session = Self.renewing(isCertain: false)
        let waiters = session.kept(at: .zero)
        #expect(waiters == [0, 1])
        let id = session.id
        #expect(id == "old")
        guard case .kept = session.lost(id: "old", isCertain: false, waiter: 2, at: .milliseconds(999)) else {
            Issue.record("asked again")
            return
        }
        guard case .renew(.zero) = session.lost(id: "old", isCertain: false, waiter: 2, at: .seconds(1)) else {
            Issue.record("not asked again after a second")
            return
        }
    }

    @Test("One that was found to be there a moment ago and is certainly lost now is opened again")
    func lostSoonAfter() {
        var session = Self.renewing(isCertain: false)
        _ = session.kept(at: .zero)
        guard case .renew(.zero) = session.lost(id: "old", isCertain: true, waiter: 2, at: .milliseconds(1)) else {
            Issue.record("not opened again")
            return
        }
    }

    @Test(
        "A refused credential leaves the session as it was, and for a second nobody asks again",
        arguments: [true, false]
    )
    func refused(isCertain: Bool) {
        var session = Self.renewing()
        let waiters = session.refused(with: 403, at: .zero)
        #expect(waiters == [0, 1])
        let id = session.id
        #expect(id == "old")
        guard case .refused(403) = session.lost(id: "old", isCertain: isCertain, waiter: 2, at: .milliseconds(999))
        else {
            Issue.record("asked again")
            return
        }
        guard case .renew = session.lost(id: "old", isCertain: isCertain, waiter: 2, at: .seconds(1)) else {
            Issue.record("not asked again after a second")
            return
        }
    }

    @Test("A renewal that fails ends the session for everybody")
    func failure() {
        var session = Self.renewing()
        let waiters = session.openingFailed()
        #expect(waiters == [0, 1])
        let id = session.id
        #expect(id == nil)
        guard case .over = session.lost(id: "old", isCertain: true, waiter: 2, at: .zero) else {
            Issue.record("not over")
            return
        }
    }

    @Test("A renewal that ends after the session was closed revives nothing")
    func closedWhileRenewing() {
        var session = Self.renewing()
        let (id, waiters) = session.close()
        #expect(id == nil)
        #expect(waiters == [0, 1])
        let late = session.opened(id: "new", at: .zero)
        #expect(late == nil)
        let found = session.kept(at: .zero)
        #expect(found == [])
        let refused = session.refused(with: 401, at: .zero)
        #expect(refused == [])
        let revived = session.id
        #expect(revived == nil)
    }

    @Test("A session that is opened when it is wanted is opened once, and those who come meanwhile wait for it")
    func opening() {
        var session = UpstreamSession<Int>()
        guard case .open = session.wanted(waiter: 0), case .wait = session.wanted(waiter: 1) else {
            Issue.record("the first opens, the second waits")
            return
        }
        let before = session.id
        #expect(before == nil)
        let waiters = session.opened(id: "new", at: .zero)
        #expect(waiters == [0, 1])
        guard case .ready("new") = session.wanted(waiter: 2) else {
            Issue.record("not ready")
            return
        }
        // A first opening is no reopening.
        guard case .renew(.zero) = session.lost(id: "new", isCertain: true, waiter: 3, at: .zero) else {
            Issue.record("not opened again at once")
            return
        }
    }

    @Test("A first opening that fails, or is refused, leaves the session to be wanted again", arguments: [true, false])
    func openingFails(isRefused: Bool) {
        var session = UpstreamSession<Int>()
        _ = session.wanted(waiter: 0)
        _ = session.wanted(waiter: 1)
        let waiters = isRefused ? session.refused(with: 401, at: .zero) : session.openingFailed()
        #expect(waiters == [0, 1])
        guard case .open = session.wanted(waiter: 2) else {
            Issue.record("not wanted again")
            return
        }
    }

    @Test("Closing gives the id that the upstream still knows, once")
    func close() {
        var session = UpstreamSession<Int>(id: "x")
        let first = session.close().id
        let second = session.close().id
        #expect(first == "x")
        #expect(second == nil)
    }
}
