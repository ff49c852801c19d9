// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@testable import GatewayConfiguration

@Suite("Polling a configuration") struct ConfigurationPollTests {
    private static func validators(_ tag: String?) -> HTTPValidators {
        var validators = HTTPValidators()
        validators.entityTag = tag
        return validators
    }

    private static let first = Self.validators("\"1\"")
    private static let second = Self.validators("\"2\"")

    private func makePoll(
        interval: Duration = .seconds(60),
        now: Duration = .zero,
        jitter: Double = 0
    ) -> ConfigurationPoll {
        ConfigurationPoll(interval: interval, validators: Self.first, now: now, jitter: jitter)
    }

    @Test(
        "A pause differs by up to a tenth",
        arguments: [
            (-1, 54), (-0.5, 57), (0, 60), (0.5, 63), (1, 66), (-7, 54), (7, 66), (.infinity, 66), (.nan, 60),
        ] as [(Double, Int)]
    )
    func jitter(jitter: Double, seconds: Int) {
        var poll = self.makePoll(now: .seconds(100), jitter: jitter)
        let tolerance = Duration.milliseconds(1)
        let expected = .seconds(seconds) - tolerance ... .seconds(seconds) + tolerance
        #expect(expected.contains(poll.nextRequest - .seconds(100)))
        poll.answered(.notModified, now: .seconds(200), jitter: jitter)
        #expect(expected.contains(poll.nextRequest - .seconds(200)))
    }

    @Test(
        "304, another text and one that means the same lead to the interval, and what runs says what to ask with",
        arguments: [
            (.notModified, Self.first), (.applied(Self.second), Self.second), (.unchanged(Self.second), Self.second),
            (.applied(HTTPValidators()), HTTPValidators()),
        ] as [(ConfigurationPoll.Answer, HTTPValidators)]
    )
    func successes(answer: ConfigurationPoll.Answer, validators: HTTPValidators) {
        var poll = self.makePoll()
        poll.answered(answer, now: .seconds(61), jitter: 0)
        #expect(poll.nextRequest == .seconds(121))
        #expect(poll.validators == validators)
    }

    @Test(
        "What is rejected and what fails is asked again after 1 s, doubling to 5 min, with the validators of what runs",
        arguments: [ConfigurationPoll.Answer.rejected, .failed]
    )
    func failures(answer: ConfigurationPoll.Answer) {
        var poll = self.makePoll()
        var now = poll.nextRequest
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256] + Array(repeating: 300, count: 100) {
            poll.answered(answer, now: now, jitter: 0)
            #expect(poll.nextRequest == now + .seconds(seconds))
            #expect(poll.validators == Self.first)
            now = poll.nextRequest
        }
        // Jitter counts here, too.
        poll.answered(answer, now: now, jitter: -1)
        #expect(poll.nextRequest == now + .seconds(270))
        // One success, and the next failure is the first again.
        poll.answered(.notModified, now: now, jitter: 0)
        poll.answered(answer, now: now, jitter: 0)
        #expect(poll.nextRequest == now + .seconds(1))
    }

    @Test(
        "The shortest and the longest interval can be varied",
        arguments: [WatchSetting.intervals.lowerBound, WatchSetting.intervals.upperBound]
    )
    func extremes(interval: Duration) {
        for jitter in [-1.0, 1] {
            let next = self.makePoll(interval: interval, jitter: jitter).nextRequest
            #expect(next >= interval * 0.89 && next <= interval * 1.11)
        }
    }
}
