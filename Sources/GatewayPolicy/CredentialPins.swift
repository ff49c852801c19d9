// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Remembers which credential made something that only it can be asked for again: a `requestState`, a task id
/// (credentials §2.9).
///
/// Pure and bounded: what was not asked for in the longest time is forgotten first, and everything after ``lifetime``.
/// Whoever asks for what is forgotten goes to the current one, and the upstream decides; so does whoever asks for
/// what a removed credential made, since that is asked nothing any more. Keys are hashes, so that
/// nothing of a message is kept.
package struct CredentialPins: Sendable {
    /// What a key is of; equal text of two kinds is two keys.
    package enum Kind: Hashable, Sendable {
        case requestState
        case task
    }

    private struct Pin: Sendable {
        let credential: CredentialID
        let expiry: Duration
    }

    /// The python SDK's servers forget a state after as long.
    package static let lifetime = Duration.seconds(600)

    private let half: Int
    /// What came or was asked for lately; when it is half the capacity it becomes `old`, and what was old is forgotten.
    private var recent: [Int: Pin] = [:]
    private var old: [Int: Pin] = [:]

    package init(capacity: Int = 10_000) {
        self.half = max(capacity / 2, 1)
    }

    package var count: Int { self.recent.count + self.old.count }

    /// The key of a decoded text.
    package static func key(_ kind: Kind, _ text: [UInt8]) -> Int {
        var hasher = Hasher()
        hasher.combine(kind)
        hasher.combine(text)
        return hasher.finalize()
    }

    package mutating func pin(_ key: Int, to credential: CredentialID, at now: Duration) {
        self.insert(key, Pin(credential: credential, expiry: now + Self.lifetime))
    }

    /// The credential that made it; nil if that is not known any more.
    package mutating func credential(of key: Int, at now: Duration) -> CredentialID? {
        guard let pin = self.recent[key] ?? self.old[key] else { return nil }
        guard pin.expiry > now else {
            self.recent[key] = nil
            self.old[key] = nil
            return nil
        }
        if self.recent[key] == nil { self.insert(key, pin) }
        return pin.credential
    }

    private mutating func insert(_ key: Int, _ pin: Pin) {
        self.old[key] = nil
        self.recent[key] = pin
        guard self.recent.count >= self.half else { return }
        self.old = self.recent
        self.recent = [:]
    }
}
