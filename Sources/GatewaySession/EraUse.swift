// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// A program that speaks both eras may have to run twice, and what one process keeps in its memory the other does not
// know. So the second runs only while somebody needs it (contract U2, decision 0018).

/// How much the process of one era is used by callers that share it.
package struct EraUse: Hashable, Sendable {
    /// How long a process is kept that nobody uses, while that of the other era runs.
    package static let patience = Duration.seconds(300)

    /// Whether callers have sessions with it or calls in flight, or wait for it.
    package private(set) var isInUse = false
    /// When it was in use last; nil: it never was, and keeps nothing for anybody.
    package private(set) var lastUse: Duration?

    package init() {}

    /// Notes whether it is in use at this moment; times are on one monotonic clock, from any origin.
    package mutating func observe(isInUse: Bool, now: Duration) {
        self.isInUse = isInUse
        if isInUse { self.lastUse = now }
    }

    /// The process that may be stopped of two that run; nil: neither.
    ///
    /// One that a caller ever used is given ``patience``; of two that may both be stopped it is the one that was used
    /// longer ago.
    package static func spare(handshake: EraUse, stateless: EraUse, now: Duration) -> Spare? {
        switch (handshake.isSpare(now: now), stateless.isSpare(now: now)) {
        case (true, true): Self.isEarlier(stateless.lastUse, than: handshake.lastUse) ? .stateless : .handshake
        case (true, false): .handshake
        case (false, true): .stateless
        case (false, false): nil
        }
    }

    package enum Spare: Hashable, Sendable {
        case handshake
        case stateless
    }

    private func isSpare(now: Duration) -> Bool {
        guard !self.isInUse else { return false }
        return self.lastUse.map { now - $0 >= Self.patience } ?? true
    }

    private static func isEarlier(_ one: Duration?, than other: Duration?) -> Bool {
        guard let other else { return false }
        return one.map { $0 < other } ?? true
    }
}
