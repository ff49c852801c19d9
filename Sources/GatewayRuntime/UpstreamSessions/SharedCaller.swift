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
    let capabilities: Set<SessionBridge.Capability>
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
    func number(in shared: SharedSession, of session: any StreamSink) -> Int {
        self.numbers.withLock { numbers in
            if let number = numbers[shared.slot] { return number }
            let number = shared.join(session, capabilities: self.capabilities)
            numbers[shared.slot] = number
            return number
        }
    }

    // MARK: Succession

    /// The number that a call or a question got last in any of the sessions that it used.
    var lastNumber: Int64 { self.used.map { shared, _ in shared.lastNumber }.max() ?? 0 }

    /// Another unit serves the caller from now on; returns what it asked of the sessions of this one.
    func moved() -> SessionBridge.Wishes {
        var wishes = SessionBridge.Wishes()
        wishes.capabilities = self.capabilities
        for (shared, number) in self.used {
            let own = shared.moved(number)
            wishes.subscriptions += own.subscriptions.filter { !wishes.subscriptions.contains($0) }
            wishes.severity = [wishes.severity, own.severity].compactMap(\.self).min()
        }
        return wishes
    }

    /// What the caller says to another unit; returns whether it was about something that is under way here.
    func heard(_ message: CallerMessage) -> Bool {
        var isTaken = false
        for (shared, number) in self.used where shared.heard(message, of: number) { isTaken = true }
        return isTaken
    }

    /// The sessions that it used, and its number in each.
    private var used: [(SharedSession, Int)] {
        self.numbers.withLock { $0 }.compactMap { slot, number in self.session(slot).map { ($0, number) } }
    }

    // MARK: The end

    /// The caller's session is over.
    func leave() {
        let numbers = self.numbers.withLock { numbers in
            defer { numbers = [:] }
            return numbers
        }
        for (slot, number) in numbers { self.session(slot)?.leave(number) }
    }
}
