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

    /// Slots are those of the upstream's pool, of which there are as many.
    func session(_ slot: Int) -> SharedSession { self.sessions[min(max(slot, 0), self.sessions.count - 1)] }

    /// The caller's number in a slot's session, which it uses from now on.
    func number(in slot: Int, of session: CallerSession) -> Int {
        self.numbers.withLock { numbers in
            if let number = numbers[slot] { return number }
            let number = self.session(slot).join(session, capabilities: self.capabilities)
            numbers[slot] = number
            return number
        }
    }

    /// The caller's session is over.
    func leave() {
        let numbers = self.numbers.withLock { numbers in
            defer { numbers = [:] }
            return numbers
        }
        for (slot, number) in numbers { self.session(slot).leave(number) }
    }
}
