// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayTesting
import NIOCore
import NIOPosix
import Testing

@testable import GatewayRuntime

@Suite("The line before an upstream", .timeLimit(.minutes(1))) struct UpstreamAdmissionTests {
    let eventLoop = MultiThreadedEventLoopGroup.singleton.next()

    /// Who was told what, in order.
    private let heard = Inbox<[String]>([])

    private static func limits(_ places: Int, queue: Int = 10, wait: Duration = .seconds(600)) -> Limits {
        var limits = Limits()
        (limits.inFlightPerUpstream, limits.queuePerUpstream, limits.queueWait) = (places, queue, wait)
        return limits
    }

    /// Gets in line; nil if that is full.
    @discardableResult
    private func wait(_ name: String, at admission: UpstreamAdmission) -> UInt64? {
        admission.wait(on: self.eventLoop) { [heard] isAdmitted in
            heard.change { $0.append("\(name) \(isAdmitted ? "in" : "late")") }
        }
    }

    /// Waits until so many were told, and gives what they were told.
    private func told(_ count: Int) async throws -> [String] {
        try await self.heard.wait("\(count) who were told") { $0.count >= count ? $0 : nil }
    }

    @Test("Whoever waits gets the next place that is free, in order, and nobody is let past them")
    func order() async throws {
        let admission = UpstreamAdmission(Self.limits(1, queue: 2))
        #expect(admission.enter() && !admission.enter())
        self.wait("one", at: admission)
        self.wait("two", at: admission)
        #expect(self.wait("three", at: admission) == nil)
        admission.leave()
        #expect(!admission.enter())
        #expect(try await self.told(1) == ["one in"])
        admission.leave()
        #expect(try await self.told(2) == ["one in", "two in"])
        admission.leave()
        #expect(admission.runningCount == 0 && admission.waitingCount == 0)
    }

    @Test("Whoever waits for too long is told so, and leaves the line")
    func late() async throws {
        let admission = UpstreamAdmission(Self.limits(1, wait: .milliseconds(30)))
        #expect(admission.enter())
        let left = try #require(self.wait("one", at: admission))
        self.wait("two", at: admission)
        admission.leaveLine(left)
        #expect(try await self.told(1) == ["two late"])
        #expect(admission.waitingCount == 0)
        // The timer of the line runs again for the next.
        self.wait("three", at: admission)
        #expect(try await self.told(2) == ["two late", "three late"])
    }

    @Test("More places let in at once as many as there are more, and the others go on waiting")
    func morePlaces() async throws {
        let admission = UpstreamAdmission(Self.limits(1))
        #expect(admission.enter())
        for name in ["one", "two", "three"] { self.wait(name, at: admission) }
        admission.tune(Self.limits(3))
        #expect(try await self.told(2) == ["one in", "two in"])
        #expect(admission.runningCount == 3 && admission.waitingCount == 1)
    }

    @Test("Fewer places take nobody's away: the next one is free when enough have left")
    func fewerPlaces() async throws {
        let admission = UpstreamAdmission(Self.limits(3))
        for _ in 0..<3 { #expect(admission.enter()) }
        admission.tune(Self.limits(1))
        self.wait("one", at: admission)
        for running in [2, 1] {
            admission.leave()
            #expect(admission.runningCount == running && admission.waitingCount == 1)
        }
        admission.leave()
        #expect(try await self.told(1) == ["one in"])
    }

    @Test("A shorter line sends nobody away, and takes nobody more; a longer one does")
    func length() {
        let admission = UpstreamAdmission(Self.limits(1, queue: 2))
        #expect(admission.enter())
        for name in ["one", "two"] { #expect(self.wait(name, at: admission) != nil) }
        admission.tune(Self.limits(1, queue: 1))
        #expect(admission.waitingCount == 2 && self.wait("three", at: admission) == nil)
        admission.tune(Self.limits(1, queue: 3))
        #expect(self.wait("three", at: admission) != nil && self.wait("four", at: admission) == nil)
        #expect(self.heard.now.isEmpty)
    }

    @Test("A shorter wait counts for those in line as well, whose order stays")
    func shorterWait() async throws {
        let admission = UpstreamAdmission(Self.limits(1))
        #expect(admission.enter())
        self.wait("one", at: admission)
        self.wait("two", at: admission)
        admission.tune(Self.limits(1, wait: .milliseconds(30)))
        self.wait("three", at: admission)
        #expect(try await self.told(3) == ["one late", "two late", "three late"])
    }

    @Test("A shorter wait counts where the timer of somebody who left is still set")
    func shorterWaitBehindATimer() async throws {
        let admission = UpstreamAdmission(Self.limits(1))
        #expect(admission.enter())
        admission.leaveLine(try #require(self.wait("one", at: admission)))
        admission.tune(Self.limits(1, wait: .milliseconds(30)))
        self.wait("two", at: admission)
        #expect(try await self.told(1) == ["two late"])
    }

    @Test("A longer wait counts for those who come, after those who came before")
    func longerWait() async throws {
        let admission = UpstreamAdmission(Self.limits(1, wait: .milliseconds(30)))
        #expect(admission.enter())
        self.wait("one", at: admission)
        admission.tune(Self.limits(1))
        self.wait("two", at: admission)
        #expect(try await self.told(1) == ["one late"])
        #expect(admission.waitingCount == 1)
        admission.leave()
        #expect(try await self.told(2) == ["one late", "two in"])
    }
}
