// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayObservability

@Suite("Log queue") struct LogQueueTests {
    static func line(_ number: Int, length: Int = 4) -> [UInt8] {
        let digits = Array(String(number).utf8)
        return digits + Array(repeating: UInt8(ascii: "."), count: max(0, length - digits.count))
    }

    static func drain(_ queue: inout LogQueue) -> String {
        var bytes: [UInt8] = []
        while let batch = queue.beginBatch(limit: 1) {
            bytes += batch.bytes
            queue.endBatch(givenUp: 0)
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test("At the limit of lines the oldest is dropped and counted", arguments: [(2, 0), (3, 0), (4, 1), (5, 2)])
    func lineLimit(count: Int, dropped: Int) {
        var queue = LogQueue(lineLimit: 3, byteLimit: 1000)
        for number in 0..<count { queue.append(Self.line(number)) }
        #expect(queue.dropped == dropped)
        #expect(Self.drain(&queue) == (dropped..<count).map { "\($0)..." }.joined())
    }

    @Test("At the limit of bytes the oldest are dropped and counted", arguments: [(9, 0), (10, 0), (11, 1), (15, 3)])
    func byteLimit(lastLength: Int, dropped: Int) {
        var queue = LogQueue(lineLimit: 100, byteLimit: 20)
        queue.append(Self.line(0, length: 5))
        queue.append(Self.line(1, length: 5))
        queue.append(Self.line(2, length: lastLength))
        if lastLength == 15 { queue.append(Self.line(3, length: 20)) }
        #expect(queue.dropped == dropped)
    }

    @Test("A line that is longer than all the room is dropped itself")
    func tooLong() {
        var queue = LogQueue(lineLimit: 10, byteLimit: 10)
        queue.append(Self.line(0, length: 11))
        #expect(queue.dropped == 1)
        #expect(queue.isEmpty)
    }

    @Test("A batch has as many lines as fit, and at least one", arguments: [(1, 1), (7, 1), (8, 2), (11, 2), (12, 3)])
    func batch(limit: Int, lines: Int) {
        var queue = LogQueue(lineLimit: 10, byteLimit: 1000)
        for number in 0..<3 { queue.append(Self.line(number)) }
        #expect(queue.beginBatch(limit: limit)?.lines == lines)
    }

    @Test("Lines are settled when those before them are written or dropped, not when later ones are")
    func settled() {
        var queue = LogQueue(lineLimit: 2, byteLimit: 1000)
        queue.append(Self.line(0))
        #expect(queue.isSettled(upTo: 0) && !queue.isSettled(upTo: 1))
        _ = queue.beginBatch(limit: 1)
        for number in 1...4 { queue.append(Self.line(number)) }
        #expect(queue.dropped == 2)
        #expect(!queue.isSettled(upTo: 1))
        queue.endBatch(givenUp: 0)
        #expect(queue.isSettled(upTo: 3) && !queue.isSettled(upTo: 4))
        #expect(queue.appended == 5)
    }

    @Test("What is given up, and what comes after the close, counts as dropped")
    func close() {
        var queue = LogQueue(lineLimit: 10, byteLimit: 1000)
        queue.append(Self.line(0))
        queue.close()
        queue.append(Self.line(1))
        #expect(queue.dropped == 1)
        let batch = queue.beginBatch(limit: 100)
        #expect(batch?.lines == 1)
        queue.endBatch(givenUp: 1)
        #expect(queue.dropped == 2)
    }
}
