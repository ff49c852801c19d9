// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayObservability
import Synchronization
import Testing

@Suite("Bytes held for peers") struct BufferLedgerTests {
    /// Names of those who were told to let go, in order.
    final class Told: Sendable {
        private let names = Mutex<[String]>([])

        func callAsFunction(_ name: String) -> @Sendable () -> Void {
            { self.names.withLock { $0.append(name) } }
        }

        var all: [String] { self.names.withLock { $0 } }
    }

    static let kibibyte = 1024

    @Test("The gauge is the sum of what all hold, and 0 when all let go")
    func sum() {
        let gauge = Gauge()
        let ledger = BufferLedger(total: gauge, limit: .max)
        var first = HeldBytes(in: ledger)
        var second = HeldBytes(in: ledger)
        for count in [10, 100_000, 100_000, 5, 1_000_000] {
            first.set(count) { {} }
            second.set(2 * count) { {} }
            #expect(gauge.value == 3 * count)
        }
        first.clear()
        #expect(gauge.value == second.count)
        second.clear()
        #expect(gauge.value == 0)
    }

    @Test("Above the bound the largest holder is told to let go, once, and then the next")
    func largestFirst() {
        let told = Told()
        let ledger = BufferLedger(total: Gauge(), limit: 1000 * Self.kibibyte)
        var small = HeldBytes(in: ledger)
        var middle = HeldBytes(in: ledger)
        var large = HeldBytes(in: ledger)
        small.set(100 * Self.kibibyte) { told("small") }
        large.set(600 * Self.kibibyte) { told("large") }
        middle.set(300 * Self.kibibyte) { told("middle") }
        #expect(told.all == [])
        small.set(101 * Self.kibibyte) { told("small") }
        #expect(told.all == ["large"])
        // It has not let go yet, but what it holds is as good as gone.
        small.set(102 * Self.kibibyte) { told("small") }
        #expect(told.all == ["large"])
        small.set(800 * Self.kibibyte) { told("small") }
        #expect(told.all == ["large", "small"])
        large.clear()
        small.clear()
        middle.set(900 * Self.kibibyte) { told("middle") }
        #expect(told.all == ["large", "small"])
        middle.clear()
    }

    @Test("At the bound nobody is told, one byte above it somebody is", arguments: [-1, 0, 1])
    func bound(over: Int) {
        let told = Told()
        let ledger = BufferLedger(total: Gauge(), limit: 200_000)
        var holder = HeldBytes(in: ledger)
        holder.set(200_000 + over) { told("holder") }
        #expect(told.all == (over > 0 ? ["holder"] : []))
        holder.clear()
    }

    @Test("Another bound counts for whoever holds more from then on, and for nobody who only goes on holding")
    func tuned() {
        let told = Told()
        let ledger = BufferLedger(total: Gauge(), limit: 300 * Self.kibibyte)
        var holder = HeldBytes(in: ledger)
        var other = HeldBytes(in: ledger)
        holder.set(200 * Self.kibibyte) { told("holder") }
        ledger.tune(limit: 100 * Self.kibibyte)
        #expect(told.all == [])
        other.set(1) { told("other") }
        #expect(told.all == ["holder"])
        holder.clear()
        ledger.tune(limit: 500 * Self.kibibyte)
        holder.set(400 * Self.kibibyte) { told("holder") }
        #expect(told.all == ["holder"])
        holder.clear()
        other.clear()
    }

    @Test("Small holders are never told, since it would free nothing")
    func smallHolders() {
        let told = Told()
        let ledger = BufferLedger(total: Gauge(), limit: 10)
        var holder = HeldBytes(in: ledger)
        holder.set(BufferLedger.largeSize - 1) { told("small") }
        #expect(told.all == [])
        holder.set(BufferLedger.largeSize) { told("large") }
        #expect(told.all == ["large"])
        holder.clear()
    }
}
