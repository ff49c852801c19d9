// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayObservability

@Suite("Log throttle") struct LogThrottleTests {
    @Test("The first line passes, then one every ten seconds with the number of those held back")
    func window() {
        var throttle = LogThrottle<String>()
        #expect(throttle.decide("a", now: .seconds(5)) == .log(suppressed: 0))
        #expect(throttle.decide("a", now: .seconds(5)) == .suppress)
        #expect(throttle.decide("a", now: .milliseconds(14_999)) == .suppress)
        #expect(throttle.decide("a", now: .seconds(15)) == .log(suppressed: 2))
        #expect(throttle.decide("a", now: .milliseconds(24_999)) == .suppress)
        #expect(throttle.decide("a", now: .seconds(60)) == .log(suppressed: 1))
        #expect(throttle.decide("a", now: .seconds(100)) == .log(suppressed: 0))
    }

    @Test("Keys do not hold back each other")
    func keys() {
        var throttle = LogThrottle<String>()
        #expect(throttle.decide("a", now: .zero) == .log(suppressed: 0))
        #expect(throttle.decide("b", now: .zero) == .log(suppressed: 0))
        #expect(throttle.decide("a", now: .zero) == .suppress)
    }

    @Test("What was held back when a key fell silent is reported once")
    func finished() {
        var throttle = LogThrottle<String>()
        for _ in 0..<5 { _ = throttle.decide("a", now: .zero) }
        _ = throttle.decide("quiet", now: .zero)
        #expect(throttle.takeFinished(now: .milliseconds(9_999)).isEmpty)
        let finished = throttle.takeFinished(now: .seconds(10))
        #expect(finished.map(\.key) == ["a"])
        #expect(finished.map(\.suppressed) == [4])
        #expect(throttle.takeFinished(now: .seconds(20)).isEmpty)
        #expect(throttle.decide("a", now: .seconds(10)) == .log(suppressed: 0))
    }

    @Test("Keys beyond the capacity are held back until others are over")
    func capacity() {
        var throttle = LogThrottle<Int>(capacity: 2)
        #expect(throttle.decide(1, now: .zero) == .log(suppressed: 0))
        #expect(throttle.decide(2, now: .seconds(5)) == .log(suppressed: 0))
        #expect(throttle.decide(3, now: .seconds(9)) == .suppress)
        #expect(throttle.decide(3, now: .seconds(10)) == .log(suppressed: 0))
        #expect(throttle.decide(4, now: .seconds(10)) == .suppress)
    }
}
