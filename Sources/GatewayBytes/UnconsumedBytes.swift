// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import NIOCore

// A `ByteBuffer` that is only ever read and appended to grows with every byte that a peer sends: what was read stays in
// front of what waits. One connection could so take all memory, and at 4 GiB the process traps. So bytes of a peer
// collect in this type and nowhere else; `scripts/check-buffers` looks for other places.

/// Bytes that came from a peer and that nobody has taken yet.
///
/// What was taken is dropped before anything is added, so that the memory is that of the bytes that wait, however much
/// went through. More than `limit` bytes never wait.
package struct UnconsumedBytes: Sendable {
    /// The bytes that wait, for readers that look at them before they take them.
    package private(set) var bytes = ByteBuffer()
    /// How many bytes may wait.
    package let limit: Int

    /// Memory up to this size is kept for what comes next, even where little waits in it.
    private static let keptCapacity = 4 * 1024

    /// Bytes for which `limit` is the most that may wait.
    package init(limit: Int) {
        self.limit = limit
    }

    /// How many bytes wait.
    package var count: Int { self.bytes.readableBytes }

    package var isEmpty: Bool { self.bytes.readableBytes == 0 }

    // MARK: Adding

    /// Adds what arrived.
    ///
    /// Returns false, and keeps nothing of it, if more than `limit` bytes would wait: the peer breaks a bound, and its
    /// reader ends with it.
    package mutating func append(_ arrived: ByteBuffer) -> Bool {
        guard arrived.readableBytes <= self.limit - self.count else { return false }
        guard !self.isEmpty else {
            // The ordinary case: nothing is copied.
            self.bytes = arrived
            return true
        }
        self.makeRoom(for: arrived.readableBytes)
        self.bytes.writeImmutableBuffer(arrived)
        return true
    }

    /// Adds a part of `buffer`, as ``append(_:)``; `range` counts from its reader index.
    package mutating func append(_ range: Range<Int>, of buffer: ByteBuffer) -> Bool {
        guard range.count <= self.limit - self.count,
            let part = buffer.viewBytes(at: buffer.readerIndex + range.lowerBound, length: range.count)
        else { return false }
        self.makeRoom(for: range.count)
        self.bytes.writeBytes(part)
        return true
    }

    /// Makes room for so many bytes that are about to come, so that memory is not taken in many steps.
    package mutating func reserve(_ count: Int) {
        self.bytes.reserveCapacity(minimumWritableBytes: min(count, self.limit))
    }

    /// Drops what was taken, and memory that is far larger than what it holds.
    private mutating func makeRoom(for count: Int) {
        let needed = self.count + count
        guard self.bytes.storageCapacity <= Self.wastefulCapacity(for: needed) else { return self.move(to: needed) }
        if self.bytes.readerIndex > 0 { self.bytes.discardReadBytes() }
    }

    private static func wastefulCapacity(for count: Int) -> Int { max(4 * count, 64 * 1024) }

    private mutating func move(to capacity: Int) {
        var moved = ByteBufferAllocator().buffer(capacity: capacity)
        moved.writeImmutableBuffer(self.bytes)
        self.bytes = moved
    }

    // MARK: Taking

    /// Drops the first `count` bytes.
    package mutating func consume(_ count: Int) {
        self.bytes.moveReaderIndex(forwardBy: min(max(count, 0), self.count))
        if self.isEmpty { self.bytes = ByteBuffer() }
    }

    /// Takes the first `count` bytes; nil if fewer wait.
    package mutating func take(_ count: Int) -> ByteBuffer? {
        guard let taken = self.bytes.readSlice(length: count) else { return nil }
        if self.isEmpty { self.bytes = ByteBuffer() }
        return taken
    }

    /// Takes everything.
    package mutating func takeAll() -> ByteBuffer {
        defer { self.bytes = ByteBuffer() }
        return self.bytes
    }

    /// The bytes at `range`, counted from the first that waits; nil if they are not there.
    package func slice(_ range: Range<Int>) -> ByteBuffer? {
        self.bytes.getSlice(at: self.bytes.readerIndex + range.lowerBound, length: range.count)
    }

    /// To be called when the reader waits for more: the beginning of a message does not keep the memory of all that was
    /// read with it.
    package mutating func settle() {
        guard !self.isEmpty, self.bytes.storageCapacity > max(4 * self.count, Self.keptCapacity) else { return }
        self.move(to: self.count)
    }
}
