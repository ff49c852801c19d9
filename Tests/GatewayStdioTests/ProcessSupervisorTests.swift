// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayStdio
import GatewayTesting
import Testing

/// Random numbers that are always the same: 0 gives the shortest wait, 1 the middle one, 2 the longest.
private struct FixedGenerator: RandomNumberGenerator {
    let value: UInt64

    init(_ part: UInt64) {
        self.value = part == 0 ? 0 : part == 1 ? 1 << 63 : .max
    }

    mutating func next() -> UInt64 { self.value }
}

@Suite("Process supervisor")
struct ProcessSupervisorTests {
    private typealias Supervisor = ProcessSupervisor.StateMachine<FixedGenerator>

    /// The seconds of a wait from `now`; nil: it is none.
    private func seconds(_ action: ProcessSupervisor.Action, from now: Duration) -> Double? {
        guard case .wait(let until) = action else { return nil }
        return ((until - now) / .seconds(1) * 1000).rounded() / 1000
    }

    @Test("The first restart of a child that was ready is immediate, the next ones are not")
    func restartsAtOnce() {
        var supervisor = Supervisor(generator: FixedGenerator(1))
        expect(supervisor.start(now: .zero), is: .spawn)
        expect(supervisor.start(now: .zero), is: .none)
        expect(supervisor.becameReady(now: .seconds(1)), is: .none)
        expect(supervisor.ended(now: .seconds(5)), is: .spawn)
        _ = supervisor.becameReady(now: .seconds(6))
        expect(self.seconds(supervisor.ended(now: .seconds(7)), from: .seconds(7)), is: 1)
        expect(supervisor.nextStart, is: .seconds(8))
        expect(supervisor.timerFired(now: .seconds(8)), is: .spawn)
        _ = supervisor.becameReady(now: .seconds(9))
        expect(self.seconds(supervisor.ended(now: .seconds(10)), from: .seconds(10)), is: 2)
    }

    @Test("A start for which we lack something is tried again in a moment, and is no failure of the child")
    func prevented() {
        var supervisor = Supervisor(generator: FixedGenerator(1))
        var now = Duration.zero
        expect(supervisor.prevented(now: now), is: .none)
        var action = supervisor.start(now: now)
        for _ in 0..<30 {
            expect(action, is: .spawn)
            action = supervisor.prevented(now: now)
            expect(self.seconds(action, from: now), is: 1)
            now += .seconds(1)
            action = supervisor.timerFired(now: now)
        }
        expect(supervisor.isFailed, is: false)
        expect(self.seconds(supervisor.ended(now: now), from: now), is: 1)
    }

    @Test("A trial of a child that was given up may follow one that was prevented by a second")
    func preventedTrial() {
        var supervisor = Supervisor(generator: FixedGenerator(1))
        var now = Duration.zero
        _ = supervisor.start(now: now)
        while !supervisor.isFailed {
            if case .wait(let until) = supervisor.ended(now: now) {
                now = until
                _ = supervisor.timerFired(now: now)
            }
        }
        expect(supervisor.demanded(now: now), is: .spawn)
        expect(supervisor.prevented(now: now), is: .none)
        expect(supervisor.isFailed, is: true)
        expect(supervisor.demanded(now: now), is: .none)
        expect(supervisor.demanded(now: now + .seconds(1)), is: .spawn)
    }

    @Test("A child that never becomes ready waits twice as long each time, and is given up at its tenth failure")
    func backsOff() {
        var supervisor = Supervisor(generator: FixedGenerator(1))
        var now = Duration.zero
        var action = supervisor.start(now: now)
        var waits: [Double] = []
        while action == .spawn {
            now += .milliseconds(10)
            action = supervisor.ended(now: now)
            guard case .wait(let until) = action else { break }
            waits.append(self.seconds(action, from: now) ?? -1)
            now = until
            action = supervisor.timerFired(now: now)
        }
        #expect(waits == [1, 2, 4, 8, 16, 30, 30, 30, 30])
        #expect(action == .reportFailed)
        expect(supervisor.isFailed, is: true)
        expect(supervisor.timerFired(now: now + .seconds(1000)), is: .none)
    }

    @Test("A wait is up to a fifth shorter or longer", arguments: [(0, 0.8), (1, 1.0), (2, 1.2)] as [(UInt64, Double)])
    func spreads(_ part: UInt64, _ expected: Double) {
        var supervisor = Supervisor(generator: FixedGenerator(part))
        _ = supervisor.start(now: .zero)
        expect(self.seconds(supervisor.ended(now: .zero), from: .zero), is: expected)
    }

    @Test(
        "A child that was ready for a minute starts with a clean record",
        arguments: [(59, false), (60, true), (61, true)]
    )
    func forgets(_ time: Int, _ isClean: Bool) {
        var supervisor = Supervisor(generator: FixedGenerator(1))
        _ = supervisor.start(now: .zero)
        _ = supervisor.becameReady(now: .zero)
        expect(supervisor.ended(now: .seconds(1)), is: .spawn)
        _ = supervisor.becameReady(now: .seconds(2))
        let end = Duration.seconds(2 + time)
        let action = supervisor.ended(now: end)
        if isClean { #expect(action == .spawn) } else { #expect(self.seconds(action, from: end) == 1) }
    }

    @Test("Failures that are ten minutes old do not count")
    func windowMoves() {
        var supervisor = Supervisor(generator: FixedGenerator(1))
        var now = Duration.zero
        _ = supervisor.start(now: now)
        for _ in 0..<30 {
            now += .seconds(70)
            guard case .wait(let until) = supervisor.ended(now: now) else {
                Issue.record("given up")
                return
            }
            now = until
            expect(supervisor.timerFired(now: now), is: .spawn)
        }
    }

    /// A supervisor that gives up at `now`.
    private func failed(_ now: inout Duration) -> Supervisor {
        var supervisor = Supervisor(generator: FixedGenerator(1))
        var action = supervisor.start(now: now)
        while action == .spawn {
            action = supervisor.ended(now: now)
            guard case .wait(let until) = action else { break }
            now = until
            action = supervisor.timerFired(now: now)
        }
        return supervisor
    }

    @Test("A child that was given up is tried once when a request asks, and again after half a minute")
    func triesOnDemand() {
        var now = Duration.zero
        var supervisor = self.failed(&now)
        expect(supervisor.start(now: now), is: .none)
        expect(supervisor.demanded(now: now), is: .spawn)
        expect(supervisor.demanded(now: now), is: .none)
        now += .seconds(1)
        expect(supervisor.ended(now: now), is: .reportFailed)
        expect(supervisor.demanded(now: now + .seconds(29)), is: .none)
        expect(supervisor.demanded(now: now + .seconds(30)), is: .spawn)
    }

    @Test("A trial that stays ready for a minute closes the matter")
    func recovers() {
        var now = Duration.zero
        var supervisor = self.failed(&now)
        _ = supervisor.demanded(now: now)
        _ = supervisor.becameReady(now: now)
        expect(supervisor.isFailed, is: false)
        now += .seconds(60)
        expect(supervisor.ended(now: now), is: .spawn)
        expect(self.seconds(supervisor.ended(now: now), from: now), is: 1)
    }

    @Test("A request does not shorten a wait, and starts a child that nobody started")
    func demands() {
        var supervisor = Supervisor(generator: FixedGenerator(1))
        expect(supervisor.demanded(now: .zero), is: .spawn)
        _ = supervisor.ended(now: .zero)
        expect(supervisor.demanded(now: .milliseconds(500)), is: .none)
        expect(supervisor.timerFired(now: .milliseconds(500)), is: .wait(until: .seconds(1)))
        expect(supervisor.timerFired(now: .seconds(1)), is: .spawn)
    }

    @Test("After a stop nothing happens until a new start, which begins with a clean record")
    func stops() {
        var now = Duration.zero
        var supervisor = self.failed(&now)
        expect(supervisor.stop(), is: .none)
        expect(supervisor.demanded(now: now), is: .none)
        expect(supervisor.ended(now: now), is: .none)
        expect(supervisor.timerFired(now: now), is: .none)
        expect(supervisor.start(now: now), is: .spawn)
        expect(self.seconds(supervisor.ended(now: now), from: now), is: 1)
        now += .seconds(1)
        expect(supervisor.stop(), is: .none)
        expect(supervisor.timerFired(now: now), is: .none)
    }
}
