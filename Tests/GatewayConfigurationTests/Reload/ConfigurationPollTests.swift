// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayConfiguration

@Suite("Polling a configuration") struct ConfigurationPollTests {
    private typealias Validators = ConfigurationPoll.Validators

    private static let first = ConfigurationPoll.Validators(entityTag: "\"1\"")
    private static let second = ConfigurationPoll.Validators(
        entityTag: "\"2\"",
        lastModified: "Mon, 30 Nov 2026 08:00:00 GMT"
    )

    private func makePoll(
        interval: Duration = .seconds(60),
        validators: ConfigurationPoll.Validators = Self.first,
        now: Duration = .zero,
        jitter: Double = 0
    ) -> ConfigurationPoll {
        ConfigurationPoll(interval: interval, validators: validators, now: now, jitter: jitter)
    }

    @Test("Nothing is asked before the interval is over, and nothing while an answer is awaited")
    func interval() {
        var poll = self.makePoll(now: .seconds(100))
        #expect(poll.nextRequest == .seconds(160))
        #expect(poll.due(now: .seconds(100)) == nil)
        #expect(poll.due(now: .milliseconds(159_999)) == nil)
        #expect(poll.due(now: .seconds(160)) == Self.first)
        #expect(poll.due(now: .seconds(1_000)) == nil)
    }

    @Test(
        "A pause differs by up to a tenth",
        arguments: [
            (-1, 54), (-0.5, 57), (0, 60), (0.5, 63), (1, 66), (-7, 54), (7, 66), (.infinity, 66), (.nan, 60),
        ] as [(Double, Int)]
    )
    func jitter(jitter: Double, seconds: Int) {
        var poll = self.makePoll(jitter: jitter)
        let tolerance = Duration.milliseconds(1)
        #expect((.seconds(seconds) - tolerance ... .seconds(seconds) + tolerance).contains(poll.nextRequest))
        let now = poll.nextRequest
        #expect(poll.due(now: now) != nil)
        let next = poll.answered(.notModified, now: now, jitter: jitter) - now
        #expect((.seconds(seconds) - tolerance ... .seconds(seconds) + tolerance).contains(next))
    }

    @Test(
        "304, another text and one that means the same lead to the interval",
        arguments: [
            (.notModified, Self.first), (.applied(Self.second), Self.second), (.unchanged(Self.second), Self.second),
            (.applied(Validators()), Validators()),
        ] as [(ConfigurationPoll.Answer, ConfigurationPoll.Validators)]
    )
    func successes(answer: ConfigurationPoll.Answer, validators: ConfigurationPoll.Validators) {
        var poll = self.makePoll()
        #expect(poll.due(now: .seconds(60)) == Self.first)
        #expect(poll.answered(answer, now: .seconds(61), jitter: 0) == .seconds(121))
        #expect(poll.nextRequest == .seconds(121))
        #expect(poll.due(now: .seconds(121)) == validators)
    }

    @Test(
        "What is rejected and what fails is asked again after 1 s, doubling to 5 min, with the validators of what runs",
        arguments: [ConfigurationPoll.Answer.rejected, .failed]
    )
    func failures(answer: ConfigurationPoll.Answer) {
        var poll = self.makePoll()
        var now = poll.nextRequest
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256] + Array(repeating: 300, count: 100) {
            #expect(poll.due(now: now) == Self.first)
            #expect(poll.answered(answer, now: now, jitter: 0) == now + .seconds(seconds))
            now = poll.nextRequest
        }
        // Jitter counts here, too.
        #expect(poll.due(now: now) != nil)
        #expect(poll.answered(answer, now: now, jitter: -1) == now + .seconds(270))
        // One success, and the next failure is the first again.
        now = poll.nextRequest
        #expect(poll.due(now: now) != nil)
        #expect(poll.answered(.notModified, now: now, jitter: 0) == now + .seconds(60))
        now = poll.nextRequest
        #expect(poll.due(now: now) != nil)
        #expect(poll.answered(answer, now: now, jitter: 0) == now + .seconds(1))
    }

    @Test("A 304 that nobody asked for is a failure")
    func unaskedNotModified() {
        var poll = self.makePoll(validators: Validators())
        #expect(poll.due(now: .seconds(60)) == Validators())
        #expect(poll.answered(.notModified, now: .seconds(60), jitter: 0) == .seconds(61))
        poll.signalled(now: .seconds(60))
        #expect(poll.due(now: .seconds(60))?.isEmpty == true)
        #expect(poll.answered(.notModified, now: .seconds(60), jitter: 0) == .seconds(62))
    }

    @Test("A signal asks at once and without validators, and then the interval counts again")
    func signal() {
        var poll = self.makePoll()
        poll.signalled(now: .seconds(10))
        poll.signalled(now: .seconds(10))
        #expect(poll.nextRequest == .seconds(10))
        #expect(poll.due(now: .seconds(10)) == Validators())
        #expect(poll.due(now: .seconds(10)) == nil)
        #expect(poll.answered(.unchanged(Self.second), now: .seconds(11), jitter: 0) == .seconds(71))
        #expect(poll.due(now: .seconds(71)) == Self.second)
    }

    @Test("A signal does not put off what is due already")
    func lateSignal() {
        var poll = self.makePoll()
        poll.signalled(now: .seconds(90))
        #expect(poll.nextRequest == .seconds(60))
        #expect(poll.due(now: .seconds(90)) == Validators())
    }

    @Test(
        "Signals while an answer is awaited are one more request, at once and without validators",
        arguments: [ConfigurationPoll.Answer.notModified, .applied(Self.second), .rejected, .failed]
    )
    func signalMeanwhile(answer: ConfigurationPoll.Answer) {
        var poll = self.makePoll()
        #expect(poll.due(now: .seconds(60)) == Self.first)
        poll.signalled(now: .seconds(61))
        poll.signalled(now: .seconds(61))
        #expect(poll.due(now: .seconds(61)) == nil)
        #expect(poll.answered(answer, now: .seconds(62), jitter: 1) == .seconds(62))
        #expect(poll.due(now: .seconds(62)) == Validators())
        #expect(poll.answered(.applied(Self.second), now: .seconds(63), jitter: 0) == .seconds(123))
        #expect(poll.due(now: .seconds(123)) == Self.second)
    }

    @Test("An answer that nobody awaits changes nothing")
    func strayAnswer() {
        var poll = self.makePoll()
        #expect(poll.answered(.applied(Self.second), now: .seconds(1), jitter: 0) == .seconds(60))
        #expect(poll.due(now: .seconds(60)) == Self.first)
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
