// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import NIOCore
import NIOPosix
import Testing

@testable import GatewayRuntime

@Suite("Alarm", .timeLimit(.minutes(1))) struct AlarmTests {
    let eventLoop = MultiThreadedEventLoopGroup.singleton.next()

    @Test("A sleep that nobody ends lasts as long as it was asked to")
    func timer() async {
        let alarm = Alarm()
        let start = ContinuousClock.now
        #expect(await alarm.sleep(.milliseconds(50), on: self.eventLoop))
        #expect(ContinuousClock.now - start >= .milliseconds(49))
    }

    @Test("A ring before the sleep ends it at once, and only that one")
    func rungBefore() async {
        let alarm = Alarm()
        alarm.ring()
        alarm.ring()
        #expect(await !alarm.sleep(nil, on: self.eventLoop))
        #expect(await alarm.sleep(.milliseconds(10), on: self.eventLoop))
    }

    @Test("A ring during the sleep ends it", arguments: [Duration.seconds(600), nil])
    func rungDuring(delay: Duration?) async {
        let alarm = Alarm()
        // Heard or not, the sleep ends: what is rung too early counts for the next sleep.
        self.eventLoop.scheduleTask(in: .milliseconds(20)) { alarm.ring() }
        #expect(await !alarm.sleep(delay, on: self.eventLoop))
    }

    @Test("A task that is cancelled sleeps no more, whether it slept already or not", arguments: [true, false])
    func cancelled(isAsleep: Bool) async {
        let alarm = Alarm()
        let eventLoop = self.eventLoop
        let task = Task { await alarm.sleep(nil, on: eventLoop) }
        if isAsleep { try? await Task.sleep(for: .milliseconds(20)) }
        task.cancel()
        #expect(await !task.value)
    }

    @Test("The timer of a sleep that was ended early wakes no later one", arguments: [Duration.seconds(600), nil])
    func staleTimer(delay: Duration?) async throws {
        let alarm = Alarm()
        let eventLoop = self.eventLoop
        async let first = alarm.sleep(.milliseconds(40), on: eventLoop)
        try await Task.sleep(for: .milliseconds(5))
        alarm.ring()
        #expect(await !first)
        let second = Task { await alarm.sleep(delay, on: eventLoop) }
        try await Task.sleep(for: .milliseconds(120))
        alarm.ring()
        // True would mean that a timer ended it.
        #expect(await !second.value)
    }
}
