// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Whether an upstream unit is about to go, and why; it only ever goes on from one to the next.
final class Departure: Sendable {
    private enum Stage: UInt8 {
        case serving
        /// Another unit took its place: it keeps the sessions that it has.
        case replaced
        /// What callers addressed is gone: nothing but calls under way needs it.
        case removed
        case over
    }

    private let stage = Atomic<UInt8>(Stage.serving.rawValue)
    private let stream: AsyncStream<Never>
    private let continuation: AsyncStream<Never>.Continuation

    init() {
        (self.stream, self.continuation) = AsyncStream.makeStream()
    }

    var isRemoved: Bool { self.stage.load(ordering: .relaxed) >= Stage.removed.rawValue }
    var isOver: Bool { self.stage.load(ordering: .acquiring) == Stage.over.rawValue }

    func replace() { self.goOn(to: .replaced) }

    func remove() { self.goOn(to: .removed) }

    func end() {
        self.goOn(to: .over)
        self.continuation.finish()
    }

    private func goOn(to next: Stage) { _ = self.stage.max(next.rawValue, ordering: .acquiringAndReleasing) }

    /// Returns when it is over, or the task is cancelled; for one to wait.
    func untilOver() async { for await _ in self.stream {} }
}
