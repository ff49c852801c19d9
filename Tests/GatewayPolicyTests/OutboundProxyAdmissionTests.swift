// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewayTestRandom
import Testing

@Suite("Admission to an outbound proxy") struct OutboundProxyAdmissionTests {
    typealias Admission = OutboundProxyAdmission

    /// Asks until somebody has to wait; returns how many may go.
    static func fill(_ admission: inout Admission, now: Duration = .zero) -> Int {
        var count = 0
        while count < 10_000, admission.ask(now: now) == .go { count += 1 }
        return count
    }

    @Test("A login that was never accepted is shown by one at a time, and none waits where none is needed")
    func unproven() {
        var guarded = Admission(needsLogin: true)
        #expect(Self.fill(&guarded) == 1)
        var open = Admission(needsLogin: false)
        #expect(Self.fill(&open) == Admission.firstWindow)
    }

    @Test("Accepted once, ten go at once, and each that reaches the proxy lets one more go, up to a limit")
    func window() {
        var admission = Admission(needsLogin: true)
        #expect(admission.ask(now: .zero) == .go)
        #expect(admission.ended(.accepted, waiting: 50, now: .zero) == .start(10))
        #expect(admission.running == 10)
        #expect(admission.ended(.reached, waiting: 40, now: .zero) == .start(2))
        #expect(admission.running == 11)
        for _ in 0..<3_000 { _ = admission.ended(.reached, waiting: 1, now: .zero) }
        #expect(admission.running + Self.fill(&admission) <= Admission.widestWindow)
    }

    @Test("To reach the proxy proves nothing of a login")
    func reachedOnly() {
        var admission = Admission(needsLogin: true)
        _ = admission.ask(now: .zero)
        #expect(admission.ended(.reached, waiting: 5, now: .zero) == .start(1))
        #expect(!admission.isProven)
    }

    @Test("No more are let go than wait")
    func few() {
        var admission = Admission(needsLogin: true)
        _ = admission.ask(now: .zero)
        #expect(admission.ended(.accepted, waiting: 3, now: .zero) == .start(3))
        #expect(admission.running == 3)
    }

    @Test("A rejected login is refused for 10 s, then shown once, and then twice as long is waited, up to a minute")
    func pauses() {
        var admission = Admission(needsLogin: true)
        var now = Duration.zero
        for pause in [10, 20, 40, 60, 60, 60] as [Int64] {
            #expect(admission.ask(now: now) == .go)
            #expect(admission.ask(now: now) == .wait)
            #expect(admission.ended(.rejected, waiting: 1, now: now) == .refuse(.seconds(pause)))
            #expect(admission.running == 0)
            #expect(admission.ask(now: now) == .refused(.seconds(pause)))
            #expect(admission.ask(now: now + .seconds(pause) - .milliseconds(1)) == .refused(.milliseconds(1)))
            now += .seconds(pause)
        }
    }

    @Test("A login that works again begins with 10 s anew when it is rejected")
    func recovers() {
        var admission = Admission(needsLogin: true)
        _ = admission.ask(now: .zero)
        _ = admission.ended(.rejected, waiting: 0, now: .zero)
        _ = admission.ask(now: .seconds(10))
        _ = admission.ended(.rejected, waiting: 0, now: .seconds(10))
        #expect(admission.ask(now: .seconds(30)) == .go)
        #expect(admission.ended(.accepted, waiting: 5, now: .seconds(30)) == .start(5))
        #expect(admission.ended(.rejected, waiting: 0, now: .seconds(31)) == .refuse(.seconds(10)))
    }

    @Test("A password that is changed while many connect counts once, however many are rejected")
    func together() {
        var admission = Admission(needsLogin: true)
        _ = admission.ask(now: .zero)
        _ = admission.ended(.accepted, waiting: 10, now: .zero)
        for index in 0..<10 {
            let now = Duration.milliseconds(index)
            #expect(admission.ended(.rejected, waiting: 0, now: now) == .refuse(.seconds(10) - now))
        }
        #expect(admission.ask(now: .seconds(10)) == .go)
        #expect(admission.ended(.rejected, waiting: 0, now: .seconds(10)) == .refuse(.seconds(20)))
    }

    @Test("A proxy that was lost is come back to by ten, not by all")
    func comesBack() {
        var admission = Admission(needsLogin: false)
        _ = Self.fill(&admission)
        for _ in 0..<200 { _ = admission.ended(.reached, waiting: 1, now: .zero) }
        while admission.running > 0 { _ = admission.ended(.failed, waiting: 0, now: .zero) }
        #expect(Self.fill(&admission) == Admission.firstWindow)
    }

    @Test("One that fails or gives up before its login was judged leaves its place to the next, alone")
    func inconclusive() {
        for outcome in [Admission.Outcome.failed, .neutral] {
            var admission = Admission(needsLogin: true)
            _ = admission.ask(now: .zero)
            #expect(admission.ended(outcome, waiting: 5, now: .zero) == .start(1))
        }
    }

    @Test("What is learnt without a place counts as well")
    func learnt() {
        var admission = Admission(needsLogin: true)
        admission.learn(.rejected, now: .zero)
        #expect(admission.rest(now: .zero) == .seconds(10))
        #expect(admission.ask(now: .seconds(9)) == .refused(.seconds(1)))
        admission.learn(.accepted, now: .seconds(9))
        #expect(admission.rest(now: .seconds(9)) == nil)
        #expect(Self.fill(&admission, now: .seconds(9)) == Admission.firstWindow)
    }

    @Test("In any order of events places are neither lost nor given twice, and a pause is kept")
    func random() {
        for seed in 0..<2_000 {
            var generator = SplitMix(seed: UInt64(seed))
            var admission = Admission(needsLogin: .random(using: &generator))
            var now = Duration.zero
            var running = 0
            var waiting = 0
            var blockedUntil = Duration.zero
            for _ in 0..<200 {
                now += .milliseconds(Int.random(in: 0...3_000, using: &generator))
                if running == 0 || Bool.random(using: &generator) {
                    switch admission.ask(now: now) {
                    case .go:
                        running += 1
                        #expect(now >= blockedUntil)
                    case .wait:
                        waiting += 1
                        #expect(running > 0)
                    case .refused(let rest):
                        #expect(rest > .zero && rest <= .seconds(60))
                    }
                } else {
                    let outcomes: [Admission.Outcome] = [.reached, .accepted, .rejected, .failed, .neutral]
                    let outcome = outcomes.randomElement(using: &generator) ?? .neutral
                    running -= 1
                    switch admission.ended(outcome, waiting: waiting, now: now) {
                    case .start(let count):
                        #expect(count <= waiting)
                        running += count
                        waiting -= count
                    case .refuse(let rest):
                        blockedUntil = now + rest
                        waiting = 0
                    }
                    if outcome == .accepted { blockedUntil = .zero }
                }
                #expect(admission.running == running)
                #expect(waiting == 0 || running > 0)
            }
        }
    }
}
