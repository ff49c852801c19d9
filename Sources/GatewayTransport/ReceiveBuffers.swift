// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import NIOCore

/// Chooses the buffers into which a connection reads: as large as what comes, and small while little does.
///
/// A channel keeps the buffer into which it read last, idle or not, and NIO's own choice grows that to 64 KiB for good:
/// thousands of idle connections that each brought one large message would keep as many times 64 KiB. Here only small
/// buffers are kept by the channel; a large one belongs to whoever has the bytes, and goes with them.
package struct ReceiveBuffers: RecvByteBufferAllocator {
    private static let mostSize = 64 * 1024

    /// Buffers of this size, in bytes, are kept.
    private let leastSize: Int
    /// How large the next buffer is, in bytes.
    private var size: Int
    /// Whether the last read took little of its buffer: one small piece at the end of a large answer says nothing.
    private var wasSmall = false

    /// `leastSize`, in bytes, is what the first read takes.
    package init(leastSize: Int = 2 * 1024) {
        self.leastSize = leastSize
        self.size = leastSize
    }

    /// The size of a buffer that the channel may keep and use again; nil for one that it may not.
    package func nextBufferSize() -> Int? { self.size == self.leastSize ? self.size : nil }

    package func buffer(allocator: ByteBufferAllocator) -> ByteBuffer { allocator.buffer(capacity: self.size) }

    /// Learns from a read.
    ///
    /// Returns whether the buffer that the channel kept is too small for the next one.
    package mutating func record(actualReadBytes count: Int) -> Bool {
        if count >= self.size {
            self.size = min(4 * self.size, Self.mostSize)
            self.wasSmall = false
        } else if count > self.size / 4 || !self.wasSmall {
            self.wasSmall = count <= self.size / 4
        } else {
            self.size = max(self.size / 4, self.leastSize)
            self.wasSmall = false
        }
        return self.size > self.leastSize
    }
}
