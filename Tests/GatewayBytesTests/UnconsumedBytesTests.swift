// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayTestRandom
import NIOCore
import Testing

@Suite("Bytes that nobody has taken yet") struct UnconsumedBytesTests {
    /// A piece as a socket gives it: little in a large buffer.
    private func piece(_ count: Int, capacity: Int = 0) -> ByteBuffer {
        var buffer = ByteBufferAllocator().buffer(capacity: max(count, capacity))
        buffer.writeBytes((0..<count).map { UInt8(truncatingIfNeeded: $0) })
        return buffer
    }

    @Test(
        "The memory is that of the bytes that wait, however many went through",
        arguments: [(piece: 1_000, left: 1), (1_000, 999), (65_536, 1), (65_536, 30_000), (300_000, 299_999)]
    )
    func memoryDoesNotGrow(piece count: Int, left: Int) throws {
        var waiting = UnconsumedBytes(limit: 1_000_000)
        var largest = 0
        for _ in 0..<200 {
            let isTaken = waiting.append(self.piece(count))
            #expect(isTaken)
            waiting.consume(waiting.count - left)
            #expect(waiting.count == left)
            largest = max(largest, waiting.bytes.storageCapacity)
        }
        #expect(largest <= max(8 * (count + left), 64 * 1024))
    }

    @Test("Bytes come out as they went in, however they are cut and taken", arguments: 1...50)
    func order(seed: UInt64) throws {
        var random = SplitMix(seed: seed)
        var waiting = UnconsumedBytes(limit: 1 << 20)
        var (sent, got): ([UInt8], [UInt8]) = ([], [])
        for _ in 0..<300 {
            switch Int.random(in: 0..<5, using: &random) {
            case 0, 1:
                let bytes = (0..<Int.random(in: 0...5_000, using: &random))
                    .map { _ in UInt8.random(in: 0...255, using: &random) }
                sent += bytes
                let isTaken = waiting.append(ByteBuffer(bytes: bytes))
                #expect(isTaken)
            case 2:
                let whole = ByteBuffer(bytes: (0..<100).map { UInt8($0) })
                let range = Int.random(in: 0...50, using: &random)..<Int.random(in: 50...100, using: &random)
                sent += Array(whole.readableBytesView)[range]
                let isTaken = waiting.append(range, of: whole)
                #expect(isTaken)
            case 3:
                if let taken = waiting.take(Int.random(in: 0...waiting.count, using: &random)) {
                    got += taken.readableBytesView
                }
            default:
                let count = Int.random(in: 0...waiting.count, using: &random)
                got += waiting.slice(0..<count)?.readableBytesView ?? ByteBuffer().readableBytesView
                waiting.consume(count)
                waiting.settle()
            }
        }
        got += waiting.takeAll().readableBytesView
        #expect(got == sent)
        #expect(waiting.isEmpty)
    }

    @Test("One byte under and at the limit is kept, one over is not, and nothing of it", arguments: [-1, 0, 1])
    func limit(over: Int) {
        for first in [0, 1, 60] {
            var waiting = UnconsumedBytes(limit: 100)
            let isFirstTaken = waiting.append(self.piece(first))
            let isSecondTaken = waiting.append(self.piece(100 - first + over))
            #expect(isFirstTaken)
            #expect(isSecondTaken == (over <= 0))
            #expect(waiting.count == (over <= 0 ? 100 + over : first))
        }
    }

    @Test("The beginning of a message does not keep the memory of all that was read with it")
    func settle() {
        var waiting = UnconsumedBytes(limit: 1 << 20)
        let isTaken = waiting.append(self.piece(65_536))
        #expect(isTaken)
        waiting.consume(65_000)
        waiting.settle()
        #expect(waiting.count == 536)
        #expect(waiting.bytes.storageCapacity <= 4 * 1024)
    }

    @Test("What is taken of more than there is, is nothing")
    func bounds() {
        var waiting = UnconsumedBytes(limit: 10)
        let isTaken = waiting.append(self.piece(5))
        let tooMuch = waiting.take(6)
        #expect(isTaken)
        #expect(tooMuch == nil)
        #expect(waiting.slice(3..<6) == nil)
        waiting.consume(100)
        #expect(waiting.isEmpty)
    }
}
