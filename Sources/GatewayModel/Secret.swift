// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A value that must never be printed: a token, a password, a header value.
///
/// Whatever turns it into text (interpolation, `dump`, a mirror, a log line) gets `•••`. There is no literal and no
/// `Codable`, so that a secret cannot come into being, or go out, by accident.
package struct Secret: Hashable, Sendable {
    /// What is shown in place of any secret, everywhere.
    package static let mask = "•••"

    private let value: String

    package init(_ value: String) {
        self.value = value
    }

    /// The value itself, for the one place where it has to go: a request head, an environment, a comparison.
    ///
    /// A test holds the list of callers.
    package func reveal() -> String { self.value }

    /// Whether there is nothing to keep secret.
    package var isEmpty: Bool { self.value.isEmpty }

    /// Whether `presented` is this secret, in time that depends on the lengths only.
    package func matches(_ presented: Span<UInt8>) -> Bool {
        let own = self.value.utf8
        var difference = own.count ^ presented.count
        if presented.isEmpty || own.isEmpty { return false }
        var index = 0
        for byte in own {
            difference |= Int(byte ^ presented[index])
            index = index + 1 == presented.count ? 0 : index + 1
        }
        return difference == 0
    }
}

extension Secret: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    package var description: String { Self.mask }
    package var debugDescription: String { Self.mask }
    package var customMirror: Mirror { Mirror(reflecting: Self.mask) }
}
