// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// Where finished log lines go.
package protocol LogSink: Sendable {
    /// Takes one line with its line feed; never blocks and never fails.
    func append(_ line: [UInt8])
}

/// Keeps the last lines in memory, for tests.
package final class InMemoryLogSink: LogSink {
    private let limit: Int
    private let kept = Mutex<[String]>([])

    package init(limit: Int = 10_000) {
        self.limit = limit
    }

    package func append(_ line: [UInt8]) {
        self.kept.withLock { kept in
            if kept.count >= self.limit { kept.removeFirst() }
            kept.append(String(decoding: line, as: UTF8.self))
        }
    }

    /// The lines so far, each with its line feed.
    package var lines: [String] { self.kept.withLock { $0 } }
}
