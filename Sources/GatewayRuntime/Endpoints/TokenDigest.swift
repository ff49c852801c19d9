// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel

/// Which inbound token a caller presented, without the token: a keyed digest of its value.
///
/// The same value has the same digest for as long as the process lives, wherever it stands in the configuration and at
/// however many servers. Sessions are found by it, so that another order of the tokens gives nobody another's session.
package struct TokenDigest: Hashable, Sendable {
    /// Drawn once: a digest says nothing to whoever does not have this.
    private static let key: [UInt64] = {
        var generator = SystemRandomNumberGenerator()
        return (0..<4).map { _ in generator.next() }
    }()

    /// Together 128 bits, so that no two tokens that anybody configures have the same.
    private let high: Int
    private let low: Int

    package init(of token: Secret) {
        self.high = Self.hash(token, prefix: 1)
        self.low = Self.hash(token, prefix: 2)
    }

    private static func hash(_ token: Secret, prefix: UInt8) -> Int {
        var hasher = Hasher()
        hasher.combine(prefix)
        hasher.combine(Self.key)
        hasher.combine(token)
        hasher.combine(Self.key)
        return hasher.finalize()
    }
}
