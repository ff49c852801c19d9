// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

internal import DequeModule

/// Lines that wait to be written: bounded in number and bytes, the oldest are dropped first.
///
/// Lines are counted from 0 in the order in which they came, so that a flush knows when those before it are gone.
struct LogQueue: Sendable {
    /// Lines that are being written.
    struct Batch: Sendable {
        var bytes: [UInt8] = []
        var lines = 0
    }

    let lineLimit: Int
    let byteLimit: Int
    private var lines: Deque<[UInt8]> = []
    private var byteCount = 0
    /// The number of the first line in `lines`.
    private var first = 0
    /// The number of the first line of the batch that is being written.
    private var firstInWriting: Int?
    private(set) var dropped = 0
    /// Whether the writer is to end when there is nothing left.
    private(set) var isClosed = false

    init(lineLimit: Int, byteLimit: Int) {
        self.lineLimit = max(1, lineLimit)
        self.byteLimit = max(1, byteLimit)
    }

    /// How many lines have ever come.
    var appended: Int { self.first + self.lines.count }

    var isEmpty: Bool { self.lines.isEmpty }

    /// Takes a line, and drops the oldest ones if there are too many; after the close, drops the line.
    mutating func append(_ line: [UInt8]) {
        guard !self.isClosed else {
            self.dropped += 1
            return
        }
        self.lines.append(line)
        self.byteCount += line.count
        while self.lines.count > self.lineLimit || self.byteCount > self.byteLimit {
            guard let oldest = self.lines.popFirst() else { return }
            self.byteCount -= oldest.count
            self.first += 1
            self.dropped += 1
        }
    }

    /// Hands out the oldest lines, as many as fit into `limit` bytes but at least one; nil: there is none.
    mutating func beginBatch(limit: Int) -> Batch? {
        guard !self.lines.isEmpty else { return nil }
        var batch = Batch()
        self.firstInWriting = self.first
        while let line = self.lines.first, batch.lines == 0 || batch.bytes.count + line.count <= limit {
            batch.bytes.append(contentsOf: line)
            batch.lines += 1
            self.lines.removeFirst()
            self.byteCount -= line.count
            self.first += 1
        }
        return batch
    }

    /// Notes that the batch was written, or given up.
    mutating func endBatch(givenUp lines: Int) {
        self.firstInWriting = nil
        self.dropped += lines
    }

    /// Whether each of the first `count` lines was written or dropped.
    func isSettled(upTo count: Int) -> Bool {
        (self.firstInWriting ?? self.first) >= count
    }

    mutating func close() { self.isClosed = true }
}
