// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Writes log lines to a file descriptor from one thread of its own.
///
/// A full disk, a slow or vanished reader, or a closed descriptor costs log lines and nothing else (faults S13.3):
/// lines wait in a bounded queue, the oldest are dropped and counted, the writer waits between attempts, and goes on when
/// it can. The descriptor is duplicated, so that whatever takes its number later is never written to.
package final class DescriptorLogSink: LogSink {
    /// Bytes that are written at once.
    private static let batchBytes = 64 * 1024

    /// How the writer writes, which tests replace.
    struct Writer: Sendable {
        var write: @Sendable (ArraySlice<UInt8>) -> Platform.WriteResult
        /// Waits until something can be written, or a second.
        var waitUntilWritable: @Sendable () -> Void
        /// Called once, after the last write.
        var close: @Sendable () -> Void
    }

    private let queue: Monitor<LogQueue>

    /// - Parameters:
    ///   - descriptor: where lines go; it stays open and the caller's. If it is closed, every line is dropped.
    ///   - lineLimit: lines that may wait.
    ///   - byteLimit: bytes that may wait.
    package init(descriptor: Int32 = 2, lineLimit: Int = 4096, byteLimit: Int = 4 * 1024 * 1024) {
        self.queue = Monitor(LogQueue(lineLimit: lineLimit, byteLimit: byteLimit))
        guard let copy = Platform.duplicate(descriptor) else {
            self.queue.withLock { $0.close() }
            return
        }
        self.start(
            Writer(
                write: { Platform.write(copy, $0) },
                waitUntilWritable: { Platform.waitUntilWritable(copy, milliseconds: 1000) },
                close: { Platform.close(copy) }
            )
        )
    }

    init(writer: Writer, lineLimit: Int, byteLimit: Int) {
        self.queue = Monitor(LogQueue(lineLimit: lineLimit, byteLimit: byteLimit))
        self.start(writer)
    }

    deinit { self.close() }

    package func append(_ line: [UInt8]) {
        let isFirst = self.queue.withLock { queue in
            let wasEmpty = queue.isEmpty
            queue.append(line)
            return wasEmpty
        }
        if isFirst { self.queue.wakeAll() }
    }

    /// Lines that were never written, since the start.
    package var droppedLines: Int { self.queue.withLock { $0.dropped } }

    /// Blocks the thread until every line that came before is written or dropped; false: not within `timeout`.
    package func flush(timeout: Duration) -> Bool {
        let count = self.queue.withLock { $0.appended }
        return self.queue.wait(milliseconds: max(0, timeout.wholeNanoseconds / 1_000_000)) { queue in
            queue.isSettled(upTo: count) ? true : nil
        } ?? false
    }

    /// Takes no more lines; those that wait are still written if that goes without waiting.
    package func close() {
        self.queue.withLock { $0.close() }
        self.queue.wakeAll()
    }

    // MARK: - The writer

    /// Starts the thread, which holds the queue but not the sink, so that a sink that nobody holds ends it.
    private func start(_ writer: Writer) {
        let queue = self.queue
        let isStarted = Platform.startThread {
            Self.run(queue, writer)
            writer.close()
        }
        if !isStarted {
            queue.withLock { $0.close() }
            writer.close()
        }
    }

    private static func run(_ queue: Monitor<LogQueue>, _ writer: Writer) {
        while true {
            // An empty batch stands for the end.
            let batch = queue.wait { queue in
                queue.beginBatch(limit: Self.batchBytes) ?? (queue.isClosed ? LogQueue.Batch() : nil)
            }
            guard let batch, batch.lines > 0 else { return }
            let isWritten = Self.write(batch.bytes, with: writer, queue)
            queue.withLock { $0.endBatch(givenUp: isWritten ? 0 : batch.lines) }
            queue.wakeAll()
        }
    }

    /// Writes all bytes, for as long as it takes; false: the sink was closed meanwhile.
    private static func write(_ bytes: [UInt8], with writer: Writer, _ queue: Monitor<LogQueue>) -> Bool {
        var rest = bytes[...]
        var pause: Int64 = 0
        while !rest.isEmpty {
            switch writer.write(rest) {
            case .written(let count) where count > 0:
                rest = rest.dropFirst(count)
                pause = 0
                continue
            case .interrupted:
                continue
            case .wouldBlock where pause == 0:
                // Tried again as soon as it is ready, but only once: a descriptor may claim to be ready and take nothing, and
                // then pauses keep this thread from running all the time.
                writer.waitUntilWritable()
            default:
                break
            }
            if queue.withLock({ $0.isClosed }) { return false }
            _ = queue.wait(milliseconds: pause) { $0.isClosed ? true : nil }
            pause = min(1000, max(50, pause * 2))
        }
        return true
    }
}
