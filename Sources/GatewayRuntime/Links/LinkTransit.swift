// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import NIOCore
import Synchronization

/// Bytes of one link on their way to callers on other event loops.
///
/// A loop that comes late to its work must not make the queue in front of it grow: above the limit the link reads no
/// more until half of it is taken.
final class LinkTransit: Sendable {
    private static let limit = 4 * 1024 * 1024

    private let bytes = Atomic<Int>(0)
    private let full = Atomic<Bool>(false)
    /// Told, anywhere, when there is room again.
    private let onRoom: @Sendable () -> Void

    init(onRoom: @escaping @Sendable () -> Void) {
        self.onRoom = onRoom
    }

    var isFull: Bool { self.full.load(ordering: .acquiring) }

    /// So many bytes go to another event loop; returns whether that makes it full.
    func left(_ count: Int) -> Bool {
        guard self.bytes.add(count, ordering: .acquiringAndReleasing).newValue > Self.limit else { return false }
        self.full.store(true, ordering: .releasing)
        // They may all have been taken meanwhile.
        if self.bytes.load(ordering: .acquiring) <= Self.limit / 2 { self.room() }
        return true
    }

    /// So many bytes were taken there.
    func arrived(_ count: Int) {
        let left = self.bytes.subtract(count, ordering: .acquiringAndReleasing).newValue
        if left <= Self.limit / 2 { self.room() }
    }

    private func room() {
        if self.full.exchange(false, ordering: .acquiringAndReleasing) { self.onRoom() }
    }
}
