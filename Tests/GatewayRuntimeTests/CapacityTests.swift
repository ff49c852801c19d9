// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayRuntime

@Suite("Places for calls and streams") struct CapacityTests {
    /// Limits of this many of each kind.
    private static func limits(_ count: Int) -> Limits {
        var limits = Limits()
        (limits.inFlight, limits.streams) = (count, count + 1)
        return limits
    }

    @Test("Calls, waiters, streams and streams of slots are counted each for itself, up to the limit")
    func limit() {
        let capacity = Capacity(Self.limits(2))
        #expect((0..<4).map { _ in capacity.takePlace() } == [true, true, false, false])
        #expect((0..<4).map { _ in capacity.waiterBegan() } == [true, true, false, false])
        #expect((0..<4).map { _ in capacity.takeStream() } == [true, true, true, false])
        #expect((0..<4).map { _ in capacity.takeSlotStream() } == [true, true, true, false])
        #expect(capacity.inFlightCount == 2 && capacity.streamCount == 3)
        capacity.leavePlace()
        capacity.streamEnded()
        #expect(capacity.takePlace() && !capacity.takePlace() && capacity.takeStream() && !capacity.takeStream())
    }

    @Test("A lower limit lets nobody more in until enough have left; a higher one lets more in at once")
    func tuned() {
        let capacity = Capacity(Self.limits(2))
        for _ in 0..<2 { #expect(capacity.takePlace() && capacity.waiterBegan() && capacity.takeStream()) }
        capacity.tune(Self.limits(1))
        #expect(capacity.inFlightCount == 2 && capacity.streamCount == 2)
        capacity.leavePlace()
        #expect(!capacity.takePlace() && !capacity.waiterBegan() && !capacity.takeStream())
        capacity.leavePlace()
        #expect(capacity.takePlace() && !capacity.takePlace())
        capacity.tune(Self.limits(3))
        #expect((0..<3).map { _ in capacity.takePlace() } == [true, true, false])
        #expect((0..<3).map { _ in capacity.takeStream() } == [true, true, false])
        #expect((0..<2).map { _ in capacity.waiterBegan() } == [true, false])
    }
}
