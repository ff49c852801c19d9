// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayTransport
import NIOCore
import Testing

@Suite("Buffers that a connection reads into") struct ReceiveBuffersTests {
    /// The size of the next buffer after reads of these sizes, a full buffer being -1.
    private static func size(after reads: [Int]) -> Int {
        var buffers = ReceiveBuffers()
        let size = { buffers.buffer(allocator: ByteBufferAllocator()).capacity }
        for read in reads { _ = buffers.record(actualReadBytes: read < 0 ? size() : read) }
        return size()
    }

    @Test(
        "A buffer grows with what fills it, and shrinks when little came twice",
        arguments: [
            ([], 2048), ([400, 400], 2048), ([-1], 8192), ([-1, -1], 32_768), ([-1, -1, -1], 65_536),
            ([-1, -1, -1, -1], 65_536), ([-1, -1, -1, 300], 65_536), ([-1, -1, -1, 300, -1, 300], 65_536),
            ([-1, -1, -1, 300, 30_000, 300], 65_536), ([-1, -1, -1, 300, 300], 16_384),
            ([-1, -1, -1, 300, 300, 300, 300], 4096), ([-1, -1, -1, 300, 300, 300, 300, 300, 300], 2048),
        ]
    )
    func sizes(reads: [Int], size: Int) {
        #expect(Self.size(after: reads) == size)
    }

    @Test("A channel that read a large answer keeps no large buffer for it")
    func kept() {
        var pool = NIOPooledRecvBufferAllocator(capacity: 1, recvAllocator: ReceiveBuffers())
        func read(_ count: Int) -> ByteBuffer {
            let (buffer, _) = pool.buffer(allocator: ByteBufferAllocator()) { buffer in
                buffer.writeRepeatingByte(0, count: min(count, buffer.writableBytes))
            }
            pool.record(actualReadBytes: buffer.readableBytes)
            return buffer
        }
        var sizes: [Int] = []
        for _ in 0..<8 { sizes.append(read(.max).capacity) }
        #expect(sizes == [2048, 8192, 32_768] + Array(repeating: 65_536, count: 5))
        #expect(pool.count == 1)
        for _ in 0..<6 { _ = read(300) }
        // What it kept all the time is the small one of the beginning.
        #expect(read(300).capacity == 2048)
    }
}
