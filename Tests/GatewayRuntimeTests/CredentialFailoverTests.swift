// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewayWire
import Logging
import Testing

@testable import GatewayRuntime

@Suite("Credential failover") struct CredentialFailoverTests {
    private static func makePool(
        _ mode: CredentialPool.Mode,
        limit: Int = 3,
        retryOn: Set<Int> = [401, 403]
    ) throws -> UpstreamCredentials {
        let url = try #require(HTTPURL("http://upstream.example/mcp"))
        return UpstreamCredentials(
            CredentialPoolConfiguration(
                tokens: ["a", "b", "c"].map { Secret($0) },
                mode: mode,
                attemptLimit: limit,
                retryOn: retryOn,
                affinity: .request
            ),
            upstream: "test",
            template: RequestHeads.Template(
                http: HTTPUpstreamConfiguration(kind: .streamableHTTP, url: url),
                agent: "test",
                proxy: nil
            ),
            metrics: MetricsRegistry(),
            redactor: CurrentRedactor(),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        )
    }

    /// How a walk begins; slots are positions in the list.
    enum Beginning: Sendable {
        case home
        case turn
        case idle
        case session(Int)
        case after(Int)
        case pinned(Int)
        case looking([Int])
    }

    private static func begin(_ beginning: Beginning, in pool: UpstreamCredentials) throws -> CredentialFailover {
        let ids = pool.ids
        func id(_ position: Int) throws -> CredentialID {
            try #require(ids.indices.contains(position) ? ids[position] : nil)
        }
        switch beginning {
        case .home: return CredentialFailover(pool, choosing: .home)
        case .turn: return CredentialFailover(pool, choosing: .turn)
        case .idle: return CredentialFailover(pool, choosing: .idle)
        case .session(let position): return CredentialFailover(pool, choosing: .session(try id(position)))
        case .after(let position): return CredentialFailover(pool, choosing: .after(try id(position)))
        case .pinned(let position): return CredentialFailover(pool, choosing: .pinned(try id(position)))
        case .looking(let positions): return CredentialFailover(looking: pool, at: try positions.map(id))
        }
    }

    /// A walk on which every credential is refused.
    struct Walk: Sendable, CustomTestStringConvertible {
        var mode: CredentialPool.Mode
        var limit = 3
        var begins: Beginning
        /// The slots that are tried, in this order.
        var tries: [Int]
        /// Whether the end names the last slot alone, and not all statuses.
        var isRejected = false

        var testDescription: String { "\(self.mode), limit \(self.limit), \(self.begins)" }
    }

    static let walks = [
        Walk(mode: .onFirstFailed, begins: .home, tries: [0, 1, 2]),
        Walk(mode: .onFirstFailed, begins: .turn, tries: [0, 1, 2]),
        Walk(mode: .onFirstFailed, begins: .idle, tries: [0, 1, 2]),
        Walk(mode: .onFirstFailed, limit: 2, begins: .home, tries: [0, 1]),
        Walk(mode: .onFirstFailed, limit: 1, begins: .home, tries: [0]),
        Walk(mode: .onFirstFailed, begins: .session(1), tries: [1, 0, 2]),
        Walk(mode: .onFirstFailed, begins: .pinned(1), tries: [1], isRejected: true),
        Walk(mode: .roundRobin, begins: .home, tries: [0, 1, 2]),
        Walk(mode: .roundRobin, limit: 2, begins: .home, tries: [0, 1]),
        Walk(mode: .roundRobin, limit: 1, begins: .home, tries: [0], isRejected: true),
        Walk(mode: .roundRobin, begins: .session(1), tries: [1, 2, 0]),
        Walk(mode: .roundRobin, begins: .after(1), tries: [2, 0, 1]),
        Walk(mode: .roundRobin, begins: .pinned(2), tries: [2], isRejected: true),
        Walk(mode: .static, begins: .home, tries: [0], isRejected: true),
        Walk(mode: .onFirstFailed, begins: .looking([0, 1, 2]), tries: [0, 1, 2]),
        Walk(mode: .onFirstFailed, limit: 1, begins: .looking([2, 0]), tries: [2, 0]),
        Walk(mode: .onFirstFailed, begins: .looking([2]), tries: [2], isRejected: true),
    ]

    @Test(
        "Every refused slot is followed by one that was not tried, and the end says all that was met",
        arguments: Self.walks
    )
    func refused(walk: Walk) throws {
        let pool = try Self.makePool(walk.mode, limit: walk.limit)
        let ids = pool.ids
        var failover = try Self.begin(walk.begins, in: pool)
        var step = failover.next()
        var tries: [Int?] = []
        while case .attempt(let slot) = step, tries.count <= ids.count {
            #expect(failover.slot == slot)
            tries.append(ids.firstIndex(of: slot))
            step = failover.refused(with: tries.count == 1 ? 401 : 403)
        }
        #expect(tries == walk.tries)
        guard case .giveUp(let error) = step else { return }
        let statuses = walk.tries.indices.map { $0 == 0 ? 401 : 403 }
        let expected: GatewayError =
            walk.isRejected ? .rejected(status: 401, slot: walk.tries.last) : .exhausted(statuses)
        #expect(error.message == expected.message)
        #expect(error.statuses == expected.statuses)
        for slot in pool.report.slots { #expect(slot.slot.inFlight == 0) }
    }

    @Test("Where there is no pool there is one attempt, and no slot is named")
    func withoutPool() {
        var failover = CredentialFailover(nil, choosing: .home)
        guard case .attempt(.none) = failover.next() else {
            Issue.record("nothing is tried")
            return
        }
        #expect(failover.credential == nil && !failover.isUnderWay)
        guard case .giveUp(let error) = failover.refused(with: 403) else {
            Issue.record("something else is tried")
            return
        }
        #expect(error.message == GatewayError.rejected(status: 403, slot: nil).message)
    }

    @Test("A status that moves nothing ends the walk at once and counts for nothing")
    func unmoved() throws {
        let pool = try Self.makePool(.onFirstFailed, retryOn: [401])
        var failover = CredentialFailover(pool, choosing: .home)
        _ = failover.next()
        guard case .giveUp(let error) = failover.refused(with: 403) else {
            Issue.record("something else is tried")
            return
        }
        #expect(error.message == GatewayError.rejected(status: 403, slot: 0).message)
        #expect(pool.report.slots.map(\.slot.failures) == [0, 0, 0])
    }

    @Test("What another was answered counts for nothing and moves on all the same")
    func another() throws {
        let pool = try Self.makePool(.onFirstFailed)
        var failover = CredentialFailover(pool, choosing: .home)
        _ = failover.next()
        guard case .attempt(let slot) = failover.refused(with: 401, isCounted: false) else {
            Issue.record("nothing else is tried")
            return
        }
        #expect(pool.position(of: slot) == 1)
        #expect(pool.report.slots.map(\.slot.failures) == [0, 0, 0])
        #expect(pool.report.current == 0)
    }

    @Test("A look tells people of every slot, and the pool of none")
    func looking() throws {
        let pool = try Self.makePool(.onFirstFailed)
        var failover = CredentialFailover(looking: pool, at: pool.ids)
        #expect(!failover.isForCallers)
        _ = failover.next()
        _ = failover.refused(with: 401)
        failover.accepted()
        let report = pool.report
        #expect(report.slots.map { $0.probe?.isAccepted } == [false, true, nil])
        #expect(report.slots.map(\.slot.failures) == [0, 0, 0])
        #expect(report.slots.map(\.slot.inFlight) == [0, 0, 0])
        #expect(report.current == 0)
    }

    /// How an attempt ends, and whether the pool has it for a success.
    enum Ending: CaseIterable {
        case accepted
        case known
        case refused
        case ended
        case followed
    }

    @Test("An attempt is finished once, however it ends", arguments: Ending.allCases)
    func finished(ending: Ending) throws {
        let pool = try Self.makePool(.onFirstFailed)
        var failover = CredentialFailover(pool, choosing: .home)
        _ = failover.next()
        #expect(failover.isForCallers && failover.isUnderWay && failover.credential != nil)
        #expect(pool.report.slots.map(\.slot.inFlight) == [1, 0, 0])
        var next = [0, 0, 0]
        switch ending {
        case .accepted: failover.accepted()
        case .known: failover.accepted(isNew: false)
        case .ended: failover.ended()
        case .refused:
            _ = failover.refused(with: 401)
            next = [0, 1, 0]
        case .followed:
            _ = failover.next()
            next = [1, 0, 0]
        }
        let report = pool.report
        #expect(report.slots.map(\.slot.inFlight) == next)
        #expect(report.slots.map { $0.slot.lastSuccess != nil } == [ending == .accepted, false, false])
        #expect(report.slots.map(\.slot.failures) == [ending == .refused ? 1 : 0, 0, 0])
        failover.ended()
        failover.ended()
        failover.accepted()
        #expect(pool.report.slots.map(\.slot.inFlight) == [0, 0, 0])
        #expect(pool.report.slots.map { $0.slot.lastSuccess != nil } == [ending == .accepted, false, false])
    }

    @Test("What stood with a slot and is refused counts there, once, and moves on", arguments: [true, false])
    func stood(isCounted: Bool) throws {
        let pool = try Self.makePool(.onFirstFailed)
        pool.refused(at: pool.current, with: 401, isCounted: isCounted)
        #expect(pool.report.slots.map(\.slot.failures) == [isCounted ? 1 : 0, 0, 0])
        #expect(pool.report.slots.map(\.slot.inFlight) == [0, 0, 0])
        #expect(pool.report.current == (isCounted ? 1 : 0))
    }
}
