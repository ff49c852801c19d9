// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import Testing

@Suite("Retry rules") struct RetryRulesTests {
    typealias Ending = RetryRules.Ending
    typealias Class = RetryRules.MessageClass

    struct Row: CustomTestStringConvertible {
        var ending: Ending
        var executed: RetryRules.Executed
        /// The classes of messages that are sent again.
        var resent: Set<Class>
        var testDescription: String { "\(self.ending)" }
    }

    static let everything = Set(Class.allCases)

    static func statuses(
        _ statuses: [Int],
        hadSession: [Bool] = [false, true],
        _ executed: RetryRules.Executed,
        _ resent: Set<Class>
    ) -> [Row] {
        statuses.flatMap { status in
            hadSession.map {
                Row(ending: .status(status, hadSession: $0), executed: executed, resent: resent)
            }
        }
    }

    static let rows: [Row] =
        [
            Row(ending: .failedBeforeFirstByte, executed: .no, resent: everything),
            Row(ending: .partiallyWritten, executed: .no, resent: everything),
            Row(ending: .lost, executed: .unknown, resent: [.safe]),
            Row(ending: .timedOut, executed: .unknown, resent: []),
            Row(ending: .answerBegan, executed: .yes, resent: []),
        ]
        + statuses([408, 421, 425], .no, everything)
        + statuses([401, 403, 429], .no, [])
        + statuses([404], hadSession: [true], .no, [])
        + statuses([404], hadSession: [false], .no, [])
        + statuses([405, 406, 411, 413, 414, 415, 417, 431], .no, [])
        + statuses([502, 503, 504], .unknown, [.safe])
        + statuses([400, 409, 422, 500, 501, 301, 307, 101, 0, -1, 999], .unknown, [])
        + statuses([200, 202, 299], .yes, [])

    @Test("What may have run is sent again only if it may run twice", arguments: rows, Class.allCases)
    func table(row: Row, message: Class) {
        let decision = RetryRules.decide(row.ending, message: message)
        #expect(decision.executed == row.executed)
        #expect(decision.resend == row.resent.contains(message))
    }

    @Test("A call that may have run is never sent again, whatever happened", arguments: rows)
    func callsRunOnce(row: Row) {
        let decision = RetryRules.decide(row.ending, message: .call)
        #expect(!decision.resend || decision.executed == .no)
    }

    struct Timing: CustomTestStringConvertible {
        var left: Duration
        var whole: Duration
        var isEnough: Bool
        var testDescription: String { "\(self.left) of \(self.whole)" }
    }

    @Test(
        "A retry needs a quarter of the time, and half a second",
        arguments: [
            Timing(left: .seconds(75), whole: .seconds(300), isEnough: true),
            Timing(left: .seconds(75) - .nanoseconds(1), whole: .seconds(300), isEnough: false),
            Timing(left: .milliseconds(500), whole: .seconds(2), isEnough: true),
            Timing(left: .milliseconds(499), whole: .seconds(1), isEnough: false),
            Timing(left: .milliseconds(500), whole: .seconds(1), isEnough: true),
            Timing(left: .milliseconds(501), whole: .milliseconds(600), isEnough: true),
            Timing(left: .zero, whole: .zero, isEnough: false),
            Timing(left: .seconds(-1), whole: .seconds(300), isEnough: false),
        ]
    )
    func time(_ timing: Timing) {
        let decision = RetryRules.decide(
            .failedBeforeFirstByte,
            message: .call,
            retries: 0,
            timeLeft: timing.left,
            timeout: timing.whole
        )
        #expect(decision == RetryRules.Decision(executed: .no, resend: timing.isEnough))
    }

    @Test("A request is retried once at most", arguments: [(0, true), (1, false), (2, false)])
    func once(retries: Int, expected: Bool) {
        let decision = RetryRules.decide(
            .lost,
            message: .safe,
            retries: retries,
            timeLeft: .seconds(300),
            timeout: .seconds(300)
        )
        #expect(decision == RetryRules.Decision(executed: .unknown, resend: expected))
    }
}
