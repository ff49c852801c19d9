// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayTransport
import NIOConcurrencyHelpers
import NIOCore
import NIOEmbedded
import Testing

@Suite("The look at all deadlines of an event loop") struct LoopSweeperTests {
    private final class Entry: Sweepable {
        var sweepIndex = -1
        var count = 0
        var onSweep: () -> Void = {}

        func sweep(now: NIODeadline) {
            self.count += 1
            self.onSweep()
        }
    }

    private let eventLoop = EmbeddedEventLoop()
    private let time = NIOLockedValueBox(NIODeadline.uptimeNanoseconds(0))
    private let sweeper: LoopSweeper

    init() {
        self.sweeper = LoopSweeper(eventLoop: self.eventLoop) { [time] in time.withLockedValue { $0 } }
    }

    private func entries(_ count: Int) -> [Entry] {
        (0..<count)
            .map { _ in
                let entry = Entry()
                self.sweeper.add(entry)
                return entry
            }
    }

    @Test("Every entry is looked at once in each interval, however many there are", arguments: [1, 64, 65, 1000])
    func rounds(count: Int) {
        let entries = self.entries(count)
        self.eventLoop.advanceTime(by: LoopSweeper.interval * 10)
        // The last round has just begun.
        #expect(entries.allSatisfy { $0.count == 9 || $0.count == 10 })
    }

    @Test("No more than a slice of a crowd is looked at in one go")
    func slices() {
        let entries = self.entries(1000)
        self.eventLoop.advanceTime(by: LoopSweeper.interval)
        #expect(entries.reduce(0) { $0 + $1.count } == 64)
        self.eventLoop.advanceTime(by: .nanoseconds(LoopSweeper.interval.nanoseconds / 16))
        #expect(entries.reduce(0) { $0 + $1.count } == 128)
    }

    @Test("Where looking at entries takes long, a slice ends early, and the rest of them has its turn soon")
    func longSlices() {
        let entries = self.entries(20)
        for entry in entries { entry.onSweep = { self.time.withLockedValue { $0 = $0 + .microseconds(40) } } }
        var counts: [Int] = []
        self.eventLoop.advanceTime(by: LoopSweeper.interval)
        counts.append(entries.reduce(0) { $0 + $1.count })
        for _ in 0..<6 {
            self.eventLoop.advanceTime(by: .microseconds(500))
            counts.append(entries.reduce(0) { $0 + $1.count })
        }
        #expect(counts == [3, 6, 9, 12, 15, 18, 20])
        // The round is over: the next one begins an interval later.
        self.eventLoop.advanceTime(by: LoopSweeper.interval - .microseconds(1))
        #expect(entries.allSatisfy { $0.count == 1 })
        self.eventLoop.advanceTime(by: .microseconds(1))
        #expect(entries.reduce(0) { $0 + $1.count } == 23)
    }

    @Test("Entries that go while others are looked at, or that come then, keep nobody from being looked at")
    func changes() {
        let entries = self.entries(300)
        var late: [Entry] = []
        for (index, entry) in entries.enumerated() where index.isMultiple(of: 3) {
            entry.onSweep = {
                self.sweeper.remove(entry)
                late += self.entries(1)
            }
        }
        for _ in 0..<8 { self.eventLoop.advanceTime(by: LoopSweeper.interval) }
        let (gone, stay) = (entries.enumerated().filter { $0.offset.isMultiple(of: 3) }, entries.enumerated())
        #expect(gone.allSatisfy { $0.element.count == 1 && $0.element.sweepIndex == -1 })
        #expect(stay.allSatisfy { $0.offset.isMultiple(of: 3) || $0.element.count >= 4 })
        #expect(late.count == 100 && late.allSatisfy { $0.count >= 1 })
    }

    @Test("Without entries no timer runs, and one that comes later is looked at")
    func empty() {
        let first = self.entries(1)[0]
        first.onSweep = { self.sweeper.remove(first) }
        for _ in 0..<3 { self.eventLoop.advanceTime(by: LoopSweeper.interval) }
        #expect(first.count == 1)
        let second = self.entries(1)[0]
        self.eventLoop.advanceTime(by: LoopSweeper.interval)
        #expect(second.count == 1)
    }
}
