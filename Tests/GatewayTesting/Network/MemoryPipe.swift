// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import NIOCore
import Synchronization

/// Bytes on their way from one end of a connection in memory to the other.
///
/// It stands for the buffers of the system on both sides: it takes so many bytes and no more, keeps what the reader has not
/// taken when the writer is gone, and tells each side on its own event loop when there is something for it to do.
final class MemoryPipe: Sendable {
    /// What a writer hears.
    enum Taken {
        /// So many bytes; where that is not all of them, the writer hears when there is room again.
        case bytes(Int)
        /// Nobody will read them.
        case broken
    }

    /// What a reader finds.
    enum Found {
        case bytes(ByteBuffer)
        /// The reader hears when there is something.
        case nothing
        /// All of it was read, and no more comes.
        case end
        /// The same, but the writer broke the connection off.
        case reset
    }

    private enum Ending {
        case end
        case reset
    }

    private struct State {
        var bytes = ByteBuffer()
        var ending: Ending?
        var hasReader = true
        /// Whether the writer has more than there was room for.
        var isWriterWaiting = false
        /// Whether the reader was told of bytes that it has not looked at.
        var isReaderTold = false
        // Ends that are closed are let go.
        var reader: MemoryChannel?
        var writer: MemoryChannel?
    }

    /// How many bytes it takes.
    private let capacity: Int
    private let state: Mutex<State>

    init(capacity: Int) {
        self.capacity = capacity
        self.state = Mutex(State())
    }

    func join(writer: MemoryChannel, reader: MemoryChannel) {
        self.state.withLock { state in
            state.writer = writer
            state.reader = reader
        }
    }

    // MARK: The writer

    func take(_ bytes: ByteBuffer) -> Taken {
        let (taken, reader): (Taken, MemoryChannel?) = self.state.withLock { state in
            guard state.hasReader else { return (.broken, nil) }
            let count = min(bytes.readableBytes, self.capacity - state.bytes.readableBytes)
            state.isWriterWaiting = count < bytes.readableBytes
            guard count > 0 else { return (.bytes(0), nil) }
            state.bytes.writeImmutableBuffer(bytes.getSlice(at: bytes.readerIndex, length: count) ?? ByteBuffer())
            guard !state.isReaderTold else { return (.bytes(count), nil) }
            state.isReaderTold = true
            return (.bytes(count), state.reader)
        }
        reader?.hear { $0.becameReadable() }
        return taken
    }

    /// The writer has no more.
    func end() { self.end(.end) }

    /// The writer is gone, and not in order.
    func reset() { self.end(.reset) }

    private func end(_ ending: Ending) {
        let reader: MemoryChannel? = self.state.withLock { state in
            state.writer = nil
            guard state.ending != .reset, state.ending == nil || ending == .reset else { return nil }
            state.ending = ending
            return state.reader
        }
        reader?.hear { $0.becameEnded() }
    }

    // MARK: The reader

    /// At most so many bytes.
    func find(_ most: Int) -> Found {
        let (found, writer): (Found, MemoryChannel?) = self.state.withLock { state in
            state.isReaderTold = false
            guard let bytes = state.bytes.readSlice(length: min(most, state.bytes.readableBytes)),
                bytes.readableBytes > 0
            else {
                switch state.ending {
                case .end: return (.end, nil)
                case .reset: return (.reset, nil)
                case nil: return (.nothing, nil)
                }
            }
            if state.bytes.readableBytes == 0 { state.bytes = ByteBuffer() } else { state.bytes.discardReadBytes() }
            guard state.isWriterWaiting else { return (.bytes(bytes), nil) }
            state.isWriterWaiting = false
            return (.bytes(bytes), state.writer)
        }
        writer?.hear { $0.becameTaking() }
        return found
    }

    /// Nobody reads any more; returns whether there was something to read.
    func stopReading() -> Bool {
        let (hadBytes, writer): (Bool, MemoryChannel?) = self.state.withLock { state in
            let hadBytes = state.bytes.readableBytes > 0
            state.hasReader = false
            state.reader = nil
            state.bytes = ByteBuffer()
            guard state.isWriterWaiting else { return (hadBytes, nil) }
            state.isWriterWaiting = false
            return (hadBytes, state.writer)
        }
        writer?.hear { $0.becameTaking() }
        return hadBytes
    }
}
