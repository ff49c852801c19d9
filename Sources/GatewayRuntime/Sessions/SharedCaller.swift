// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import Synchronization

/// One caller of sessions that all callers of an upstream share: its number in the session of each slot that it used.
final class SharedCaller: Sendable {
    private let sessions: SharedSessions
    /// Those that there were at the beginning, to be found without a lock.
    private let known: [SharedSession]
    private let capabilities: Set<SessionBridge.Capability>
    private let numbers: Mutex<[CredentialID: Int]>

    init(_ sessions: SharedSessions, capabilities: Set<SessionBridge.Capability>) {
        self.sessions = sessions
        self.known = sessions.current
        self.capabilities = capabilities
        self.numbers = Mutex([:])
    }

    /// nil for a slot that the upstream's pool does not have: no other's session stands in for it.
    func session(_ slot: CredentialID) -> SharedSession? {
        self.known.first { $0.slot == slot } ?? self.sessions.session(slot)
    }

    /// The caller's number in the session of a slot, which it uses from now on.
    func number(in shared: SharedSession, of session: CallerSession) -> Int {
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
