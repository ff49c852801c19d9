// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import Testing

@Suite("Whether a silent session lives") struct LivenessTests {
    /// What happens at a second of the clock, and what is to come of it.
    enum Step: Sendable {
        /// Nothing came since `lastByte`: is it asked?
        case look(_ now: Int, lastByte: Int, asks: Bool)
        /// The question was not answered: is that the end?
        case silence(_ now: Int, lastByte: Int, isBusy: Bool = false, ends: Bool)
        case answered
        case abandonedCall(_ now: Int)
    }

    /// Asked after 30 s; a call has 300 s.
    static let rows: [(promise: String, steps: [Step])] = [
        (
            "It is asked when nothing came for the interval, once at a time, and ended if it says nothing",
            [
                .look(39, lastByte: 10, asks: false), .look(40, lastByte: 10, asks: true),
                .look(41, lastByte: 10, asks: false), .silence(50, lastByte: 10, ends: true),
            ]
        ),
        (
            "An answer, and any byte since the question, is a sign of life",
            [
                .look(30, lastByte: 0, asks: true), .silence(40, lastByte: 39, ends: false),
                .look(69, lastByte: 39, asks: true), .answered, .silence(79, lastByte: 39, ends: false),
                .look(99, lastByte: 69, asks: true),
            ]
        ),
        (
            "While a call is in flight its silence is not the end; when that is over it is asked again, not at once",
            [
                .look(30, lastByte: 0, asks: true), .silence(40, lastByte: 0, isBusy: true, ends: false),
                .look(59, lastByte: 0, asks: false), .look(60, lastByte: 0, asks: true),
                .silence(70, lastByte: 0, ends: true),
            ]
        ),
        (
            "A call that its caller gave up may still be the reason, as long as it could have lasted",
            [
                .abandonedCall(20), .look(309, lastByte: 10, asks: true), .silence(319, lastByte: 10, ends: false),
                .look(339, lastByte: 10, asks: true), .silence(349, lastByte: 10, ends: true),
            ]
        ),
        (
            "So may one that was given up after the question",
            [.look(40, lastByte: 10, asks: true), .abandonedCall(45), .silence(50, lastByte: 10, ends: false)]
        ),
        (
            "Whoever said something since a call was given up is not held up by it",
            [.abandonedCall(20), .look(55, lastByte: 25, asks: true), .silence(65, lastByte: 25, ends: true)]
        ),
    ]

    @Test("It is ended only if nothing but its death explains its silence", arguments: 0..<rows.count)
    func table(index: Int) {
        let row = Self.rows[index]
        var liveness = Liveness(interval: .seconds(30), callTime: .seconds(300))
        for step in row.steps {
            switch step {
            case .look(let now, let lastByte, let expected):
                let asks = liveness.asks(lastByte: .seconds(lastByte), now: .seconds(now))
                #expect(asks == expected, "\(row.promise): \(step)")
            case .silence(let now, let lastByte, let isBusy, let expected):
                let ends = liveness.unanswered(lastByte: .seconds(lastByte), isBusy: isBusy, now: .seconds(now))
                #expect(ends == expected, "\(row.promise): \(step)")
            case .answered: liveness.answered()
            case .abandonedCall(let now): liveness.abandonedCall(now: .seconds(now))
            }
        }
    }

    @Test("Without an interval it is never asked")
    func asksNobody() {
        var liveness = Liveness(interval: nil, callTime: .seconds(300))
        let asks = liveness.asks(lastByte: .zero, now: .seconds(100_000))
        #expect(!asks)
    }

    @Test("Another interval counts at once, from the last byte")
    func tuned() {
        var liveness = Liveness(interval: nil, callTime: .seconds(300))
        liveness.tune(interval: .seconds(10), callTime: .seconds(300))
        let early = liveness.asks(lastByte: .seconds(5), now: .seconds(14))
        let due = liveness.asks(lastByte: .seconds(5), now: .seconds(15))
        #expect(!early && due)
    }
}
