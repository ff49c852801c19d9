// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import Testing

@Suite("Readiness") struct ReadinessTests {
    typealias Upstream = Readiness.Upstream

    static func upstream(_ state: Readiness.UpstreamState, verdict: Bool = true) -> Upstream {
        Upstream(name: "one", state: state, hasGivenVerdict: verdict)
    }

    static let usable = Self.upstream(.usable)
    static let waiting = Self.upstream(.notUsable(.connecting), verdict: false)
    static let refused = Self.upstream(.notUsable(.unreachable), verdict: false)
    static let ended = Self.upstream(.notUsable(.exited), verdict: false)
    static let rejected = Self.upstream(.notUsable(.rejected))
    static let lost = Self.upstream(.notUsable(.unreachable))
    static let redialled = Self.upstream(.notUsable(.connecting))
    static let crashed = Self.upstream(.notUsable(.exited))

    struct Case: CustomTestStringConvertible {
        var name: String
        var upstreams: [Upstream]
        var within: Readiness.Word
        var after: Readiness.Word
        var testDescription: String { self.name }
    }

    static let cases: [Case] = [
        Case(name: "no upstream at all", upstreams: [], within: .ready, after: .ready),
        Case(name: "usable", upstreams: [usable], within: .ready, after: .ready),
        Case(name: "all usable", upstreams: [usable, usable], within: .ready, after: .ready),
        Case(name: "no verdict yet", upstreams: [waiting], within: .initializing, after: .unavailable),
        Case(name: "refused connection", upstreams: [refused], within: .initializing, after: .unavailable),
        Case(name: "child ended before an answer", upstreams: [ended], within: .initializing, after: .unavailable),
        Case(name: "rejected", upstreams: [rejected], within: .unavailable, after: .unavailable),
        Case(name: "lost after a verdict", upstreams: [lost], within: .unavailable, after: .unavailable),
        Case(name: "dialled again after a verdict", upstreams: [redialled], within: .unavailable, after: .unavailable),
        Case(name: "child ended after a verdict", upstreams: [crashed], within: .unavailable, after: .unavailable),
        Case(name: "usable and no verdict", upstreams: [usable, waiting], within: .initializing, after: .degraded),
        Case(name: "usable and refused", upstreams: [usable, refused], within: .initializing, after: .degraded),
        Case(name: "usable and rejected", upstreams: [usable, rejected], within: .degraded, after: .degraded),
        Case(name: "usable and lost", upstreams: [lost, usable], within: .degraded, after: .degraded),
        Case(
            name: "rejected and no verdict",
            upstreams: [rejected, waiting],
            within: .initializing,
            after: .unavailable
        ),
        Case(
            name: "one of each",
            upstreams: [usable, waiting, refused, ended, rejected, lost, redialled, crashed],
            within: .initializing,
            after: .degraded
        ),
    ]

    @Test("The word waits for one verdict of each upstream or for the grace period", arguments: cases)
    func word(_ example: Case) {
        let within = Readiness(of: example.upstreams, isGraceOver: false, isDraining: false)
        let after = Readiness(of: example.upstreams, isGraceOver: true, isDraining: false)
        #expect(within.word == example.within)
        #expect(after.word == example.after)
    }

    @Test("A gateway that is stopping says so whatever its upstreams do", arguments: cases, [true, false])
    func draining(_ example: Case, isGraceOver: Bool) {
        let readiness = Readiness(of: example.upstreams, isGraceOver: isGraceOver, isDraining: true)
        #expect(readiness.word == .draining)
        #expect(readiness.status == 503)
    }

    @Test(
        "Only ready and degraded are answered with 200",
        arguments: zip(Readiness.Word.allCases, [200, 200, 503, 503, 503])
    )
    func status(word: Readiness.Word, expected: Int) {
        let all = Self.cases.flatMap { example in
            [(false, false), (true, false), (true, true)]
                .map { grace, draining in
                    Readiness(of: example.upstreams, isGraceOver: grace, isDraining: draining)
                }
        }
        let matching = all.filter { $0.word == word }
        #expect(!matching.isEmpty)
        #expect(matching.allSatisfy { $0.status == expected })
    }

    @Test("A rejection is a verdict even if the caller forgot to say so")
    func rejectionIsVerdict() {
        let upstream = Self.upstream(.notUsable(.rejected), verdict: false)
        #expect(Readiness(of: [upstream], isGraceOver: false, isDraining: false).word == .unavailable)
    }

    @Test("Every upstream that is not usable is named with its reason, in the order of the configuration")
    func findings() {
        let upstreams = [
            Upstream(name: "b", state: .notUsable(.exited), hasGivenVerdict: false),
            Upstream(name: "a", state: .usable, hasGivenVerdict: true),
            Upstream(name: "c", state: .notUsable(.rejected), hasGivenVerdict: true, cause: "auth_401"),
        ]
        let readiness = Readiness(of: upstreams, isGraceOver: false, isDraining: false)
        #expect(readiness.findings.map(\.name) == ["b", "c"])
        #expect(readiness.findings.map(\.reason.rawValue) == ["exited", "rejected"])
        #expect(readiness.findings.map(\.cause) == [nil, "auth_401"])
    }
}
