// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import Testing

@Suite("Retry budget") struct RetryBudgetTests {
    /// Takes retries until there is none left.
    static func drain(_ budget: inout RetryBudget, at now: Duration) -> Int {
        var taken = 0
        while taken < 1_000_000, budget.withdraw(now: now) { taken += 1 }
        return taken
    }

    @Test(
        "A window allows a hundred retries and one more for each five requests",
        arguments: [(0, 100), (4, 100), (5, 101), (9, 101), (10, 102), (1_000, 300)]
    )
    func allowance(requests: Int, expected: Int) {
        var budget = RetryBudget()
        for _ in 0..<requests { budget.recordRequest(now: .zero) }
        #expect(Self.drain(&budget, at: .zero) == expected)
    }

    @Test(
        "Requests and retries count until they are ten seconds old",
        arguments: [(0, 0), (9, 0), (10, 100), (11, 100), (1_000_000_000_000, 100)] as [(Int64, Int)]
    )
    func window(later: Int64, expected: Int) {
        var budget = RetryBudget()
        for _ in 0..<50 { budget.recordRequest(now: .seconds(5)) }
        #expect(Self.drain(&budget, at: .seconds(5)) == 110)
        #expect(Self.drain(&budget, at: .seconds(5 + later)) == expected)
    }

    @Test("The budget recovers second by second as the window moves")
    func recovers() {
        var budget = RetryBudget()
        for second in 0..<10 {
            for _ in 0..<10 where !budget.withdraw(now: .seconds(second)) {
                Issue.record("refused in second \(second)")
            }
        }
        #expect(Self.drain(&budget, at: .milliseconds(9_999)) == 0)
        #expect(Self.drain(&budget, at: .seconds(10)) == 10)
        #expect(Self.drain(&budget, at: .seconds(12)) == 20)
    }

    @Test("A refused retry is not counted, so that the budget is not used up by asking")
    func refusalIsFree() {
        var budget = RetryBudget()
        _ = Self.drain(&budget, at: .zero)
        for _ in 0..<1_000 { #expect(Self.drain(&budget, at: .seconds(9)) == 0) }
        #expect(Self.drain(&budget, at: .seconds(10)) == 100)
    }

    @Test("A clock that goes back changes nothing", arguments: [Duration.zero, .seconds(-100), .seconds(19)])
    func backwards(earlier: Duration) {
        var budget = RetryBudget()
        _ = Self.drain(&budget, at: .seconds(20))
        #expect(Self.drain(&budget, at: earlier) == 0)
        #expect(Self.drain(&budget, at: .seconds(30)) == 100)
    }
}
