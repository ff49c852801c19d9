// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import Testing

@Suite("Replay buffer") struct ReplayBufferTests {
    @Test("What came after an event is given back, oldest first", arguments: 0...5)
    func after(number: Int) {
        var buffer = ReplayBuffer<Int>()
        for event in 1...5 {
            #expect(buffer.next == event)
            buffer.append(event, size: 10)
        }
        #expect(buffer.events(after: number) == Array((number + 1)..<6))
    }

    @Test(
        "A buffer that has to shrink forgets the oldest events first, and numbers on",
        arguments: [0, 10, 15, 50, 100]
    )
    func shrink(limit: Int) {
        var buffer = ReplayBuffer<Int>()
        for event in 1...5 { buffer.append(event, size: 10) }
        buffer.shrink(to: limit)
        let kept = min(limit / 10, 5)
        #expect(buffer.bytes == kept * 10)
        #expect(buffer.events(after: 0) == Array((6 - kept)..<6))
        #expect(buffer.next == 6)
    }

    @Test("The numbers of a buffer can go on from those of another, of which nothing is kept")
    func goesOn() {
        var buffer = ReplayBuffer<Int>(after: 7)
        #expect(buffer.last == 7 && buffer.next == 8)
        for number in [0, 3, 7] { #expect(buffer.events(after: number).isEmpty) }
        buffer.append(8, size: 1)
        for number in [0, 3, 7] { #expect(buffer.events(after: number) == [8]) }
        #expect(buffer.events(after: 8).isEmpty && buffer.events(after: 9).isEmpty)
    }

    @Test("The oldest go first, in number and in bytes: one under, at and over each bound")
    func bounds() {
        var byCount = ReplayBuffer<Int>(events: 4, bytes: 1_000)
        for event in 1...4 { byCount.append(event, size: 1) }
        #expect(byCount.events(after: 0) == [1, 2, 3, 4])
        byCount.append(5, size: 1)
        #expect(byCount.events(after: 0) == [2, 3, 4, 5])
        var byBytes = ReplayBuffer<Int>(events: 64, bytes: 100)
        byBytes.append(1, size: 60)
        byBytes.append(2, size: 40)
        #expect(byBytes.events(after: 0) == [1, 2])
        byBytes.append(3, size: 1)
        #expect(byBytes.events(after: 0) == [2, 3])
        // Too large for the buffer: numbered, and gone.
        byBytes.append(4, size: 101)
        #expect(byBytes.events(after: 0) == [])
        #expect(byBytes.last == 4)
    }

    @Test("An event of the future, or of another stream, gives nothing", arguments: [3, 64, .max])
    func future(number: Int) {
        var buffer = ReplayBuffer<Int>()
        buffer.append(1, size: 1)
        buffer.append(2, size: 1)
        #expect(buffer.events(after: number) == [])
    }

    @Test("An id of an event is read back as it was written, and nothing else is one")
    func ids() {
        #expect(EventID("0-0") == EventID(stream: 0, event: 0))
        #expect(EventID(EventID(stream: 12, event: 345).text) == EventID(stream: 12, event: 345))
        for text in ["", "-", "1", "1-", "-1", "1-2-3", "+1-2", "1--2", " 1-2", "a-1", "1-9999999999999999999", "41"] {
            #expect(EventID(text) == nil, "\(text)")
        }
    }
}
