// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Cuts the standard error of a child into lines of a bounded length.
struct ErrorLines {
    /// The bytes that are kept of one line, and one more that tells that it went on.
    let limit: Int
    private var line: [UInt8] = []

    init(limit: Int) {
        self.limit = limit
    }

    /// Gives `body` every line that `bytes` completes, without its end; blank ones are left out.
    mutating func take(_ bytes: some Collection<UInt8>, _ body: ([UInt8]) -> Void) {
        var rest = bytes[...]
        while let end = rest.firstIndex(of: 0x0a) {
            self.append(rest[..<end])
            self.finish(body)
            rest = rest[rest.index(after: end)...]
        }
        self.append(rest)
    }

    /// Gives `body` what has come without an end.
    mutating func finish(_ body: ([UInt8]) -> Void) {
        if self.line.last == 0x0d { self.line.removeLast() }
        if !self.line.isEmpty { body(self.line) }
        self.line.removeAll(keepingCapacity: true)
    }

    /// Forgets what has come without an end; returns how much it was.
    mutating func discard() -> Int {
        defer { self.line.removeAll(keepingCapacity: true) }
        return self.line.count
    }

    private mutating func append(_ bytes: some Collection<UInt8>) {
        self.line += bytes.prefix(max(self.limit + 1 - self.line.count, 0))
    }
}

/// The last lines of a child's standard error.
///
/// Only whole lines are dropped at the front: the redactor would not know half a secret for a secret.
struct ErrorTail {
    let limit: Int
    /// How many lines there may be.
    let lineLimit: Int
    private var lines: [[UInt8]] = []
    private var count = 0

    init(limit: Int, lines: Int) {
        self.limit = limit
        self.lineLimit = lines
    }

    mutating func add(_ line: [UInt8]) {
        let line = Array(line.prefix(self.limit + 1))
        self.lines.append(line)
        self.count += line.count + 1
        while self.lines.count > 1, self.count > self.limit + 1 || self.lines.count > self.lineLimit {
            self.count -= self.lines.removeFirst().count + 1
        }
    }

    /// All lines, at most one byte more than the limit; nil: there was none.
    var text: [UInt8]? { self.lines.isEmpty ? nil : Array(self.lines.joined(separator: [0x0a])) }
}

/// How much of a child's standard error is logged: so many bytes a second.
struct ErrorRate {
    let bytesPerSecond: Int
    /// Bytes that each line counts beside its own: the log writes so much around it, and a flood of short lines costs most.
    let bytesPerLine: Int
    private var used = 0
    private var suppressed = 0
    /// When the current second ends, on any monotonic clock.
    private(set) var end: Duration?

    init(bytesPerSecond: Int, bytesPerLine: Int) {
        self.bytesPerSecond = bytesPerSecond
        self.bytesPerLine = bytesPerLine
    }

    /// Whether a line of `count` bytes is logged; after the end of a second, `takeSuppressed` is to be called first.
    mutating func admits(_ count: Int, now: Duration) -> Bool {
        if self.end == nil { self.end = now + .seconds(1) }
        guard self.used + count + self.bytesPerLine <= self.bytesPerSecond else {
            self.suppressed += count
            return false
        }
        self.used += count + self.bytesPerLine
        return true
    }

    /// Whether nothing more is logged in this second.
    func isExhausted(now: Duration) -> Bool {
        guard let end = self.end else { return false }
        return now < end && self.suppressed > 0
    }

    /// Counts bytes that are left out of the log.
    mutating func suppress(_ count: Int) { self.suppressed += count }

    /// Ends the current second; returns the bytes that were not logged in it.
    mutating func takeSuppressed() -> Int {
        defer {
            self.used = 0
            self.suppressed = 0
            self.end = nil
        }
        return self.suppressed
    }
}
