// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import DequeModule

/// The newest events of one stream, for a caller that lost its connection (MCP 2025-11-25, Transports, Resumability).
///
/// Pure. Bounded in events and in bytes: the oldest go first, and whoever was away for longer gets what is left
/// (protocol §1.1).
package struct ReplayBuffer<Event: Sendable>: Sendable {
    private struct Entry: Sendable {
        let event: Event
        let size: Int
    }

    private let countLimit: Int
    private let byteLimit: Int
    private var entries = Deque<Entry>()
    package private(set) var bytes = 0
    /// The number of the newest event; 0 before the first.
    package private(set) var last: Int

    /// `last` is the number that the numbers of its events go on from.
    package init(after last: Int = 0, events: Int = 64, bytes: Int = 256 * 1024) {
        self.last = last
        self.countLimit = events
        self.byteLimit = bytes
    }

    /// The number that the next event gets.
    package var next: Int { self.last + 1 }

    /// Keeps an event of `size` bytes under the number `next`.
    ///
    /// One larger than the bound is numbered and not kept.
    package mutating func append(_ event: Event, size: Int) {
        self.last += 1
        self.entries.append(Entry(event: event, size: size))
        self.bytes += size
        while self.entries.count > self.countLimit || self.bytes > self.byteLimit {
            guard let oldest = self.entries.popFirst() else { return }
            self.bytes -= oldest.size
        }
    }

    /// Forgets the oldest events until at most `limit` bytes are kept.
    package mutating func shrink(to limit: Int) {
        while self.bytes > limit, let oldest = self.entries.popFirst() { self.bytes -= oldest.size }
    }

    /// What came after the event with this number and is still there, oldest first.
    package func events(after number: Int) -> [Event] {
        let first = self.last - self.entries.count + 1
        // A number of the future is none of ours.
        guard number <= self.last else { return [] }
        return self.entries.dropFirst(max(0, number - first + 1)).map(\.event)
    }
}

/// The id of an event that we send: which stream of its session, and which event of that.
package struct EventID: Hashable, Sendable {
    package let stream: Int
    package let event: Int

    package init(stream: Int, event: Int) {
        self.stream = stream
        self.event = event
    }

    /// Reads an id that a caller presents in `Last-Event-ID`; nil for what is none of ours.
    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, let stream = Self.number(parts[0]), let event = Self.number(parts[1]) else {
            return nil
        }
        self.init(stream: stream, event: event)
    }

    /// What goes into the `id` field.
    package var text: String { "\(self.stream)-\(self.event)" }

    private static func number(_ text: some StringProtocol) -> Int? {
        guard (1...18).contains(text.utf8.count),
            text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
        else { return nil }
        return Int(text)
    }
}
