// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Which upstream unit: minted for each, and never used again, so that a unit that took the place of another one is never
/// taken for it.
package struct UpstreamID: Hashable, Sendable {
    private static let minted = Atomic<UInt64>(0)

    private let number: UInt64

    package init() {
        self.number = Self.minted.add(1, ordering: .relaxed).newValue
    }

    /// One of these, so that units that are made one after the other have different ones.
    func choose<Choice>(of choices: [Choice]) -> Choice {
        choices[Int(truncatingIfNeeded: self.number % UInt64(choices.count))]
    }
}
