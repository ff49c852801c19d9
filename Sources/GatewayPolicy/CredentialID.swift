// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The identity of one credential in the pool of one upstream.
///
/// The pool mints one for each value that it is given, and never the same twice: what was made with a credential cannot
/// be mistaken for something of another, however often the list changes, nor for something of another pool. The number of
/// a slot is a position in the list of today, for people, logs and metrics only.
package struct CredentialID: Hashable, Sendable {
    private let number: UInt64

    init(number: UInt64) {
        self.number = number
    }

    /// What messages to an upstream without a pool go with: nothing of ours.
    ///
    /// No pool has it.
    package static let none = CredentialID(number: .max)
}
