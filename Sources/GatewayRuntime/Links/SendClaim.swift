// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// The one right to decide what becomes of a message that waits to be sent on another event loop: the link takes it to
/// send, the call takes it to say that it was not sent.
final class SendClaim: Sendable {
    private let isTaken = Atomic<Bool>(false)

    /// Takes the right; false if it was taken.
    func take() -> Bool { !self.isTaken.exchange(true, ordering: .acquiringAndReleasing) }
}
