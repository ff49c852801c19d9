// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import Synchronization

/// One caller of sessions that all callers of an upstream share: its number in the session of each slot that it used.
final class SharedCaller: Sendable {
    /// By slot.
    let sessions: [SharedSession]
    private let capabilities: Set<SessionBridge.Capability>
    private let numbers: Mutex<[Int: Int]>

    init(_ sessions: [SharedSession], capabilities: Set<SessionBridge.Capability>) {
        self.sessions = sessions
        self.capabilities = capabilities
        self.numbers = Mutex([:])
    }

    /// nil for a slot that the upstream's pool does not have: no other's session stands in for it.
    func session(_ slot: Int) -> SharedSession? { self.sessions.indices.contains(slot) ? self.sessions[slot] : nil }

    /// The caller's number in the session of a slot, which it uses from now on.
    func number(in shared: SharedSession, of session: any StreamSink) -> Int {
        self.numbers.withLock { numbers in
            if let number = numbers[shared.slot] { return number }
            let number = shared.join(session, capabilities: self.capabilities)
            numbers[shared.slot] = number
            return number
        }
    }

    /// The caller's session is over.
    func leave() {
        let numbers = self.numbers.withLock { numbers in
            defer { numbers = [:] }
            return numbers
        }
        for (slot, number) in numbers { self.session(slot)?.leave(number) }
    }
}
