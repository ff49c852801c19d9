// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import Testing

@Suite("Upstream session") struct UpstreamSessionTests {
    @Test("Of many that meet the loss one renews, the others wait and are told the new id")
    func singleFlight() {
        var session = UpstreamSession<Int>(id: "old")
        guard case .renew = session.lost(id: "old", waiter: 0) else {
            Issue.record("the first does not renew")
            return
        }
        for waiter in 1...5 {
            guard case .wait = session.lost(id: "old", waiter: waiter) else {
                Issue.record("\(waiter) does not wait")
                return
            }
        }
        let waiters = session.opened(id: "new")
        #expect(waiters == [1, 2, 3, 4, 5])
        let id = session.id
        #expect(id == "new")
    }

    @Test("A loss of an id that was replaced already goes on with the new one")
    func late() {
        var session = UpstreamSession<Int>(id: "old")
        _ = session.lost(id: "old", waiter: 0)
        _ = session.opened(id: "new")
        guard case .retry("new") = session.lost(id: "old", waiter: 1) else {
            Issue.record("no retry")
            return
        }
    }

    @Test("A renewal that fails ends the session for everybody")
    func failure() {
        var session = UpstreamSession<Int>(id: "old")
        _ = session.lost(id: "old", waiter: 0)
        _ = session.lost(id: "old", waiter: 1)
        let waiters = session.openingFailed()
        #expect(waiters == [1])
        let id = session.id
        #expect(id == nil)
        guard case .over = session.lost(id: "old", waiter: 2) else {
            Issue.record("not over")
            return
        }
    }

    @Test("A renewal that ends after the session was closed revives nothing")
    func closedWhileRenewing() {
        var session = UpstreamSession<Int>(id: "old")
        _ = session.lost(id: "old", waiter: 0)
        _ = session.lost(id: "old", waiter: 1)
        let (id, waiters) = session.close()
        #expect(id == nil)
        #expect(waiters == [1])
        let late = session.opened(id: "new")
        #expect(late == nil)
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
        let waiters = session.opened(id: "new")
        #expect(waiters == [0, 1])
        guard case .ready("new") = session.wanted(waiter: 2) else {
            Issue.record("not ready")
            return
        }
    }

    @Test("A first opening that fails leaves the session to be wanted again")
    func openingFails() {
        var session = UpstreamSession<Int>()
        _ = session.wanted(waiter: 0)
        _ = session.wanted(waiter: 1)
        let waiters = session.openingFailed()
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
