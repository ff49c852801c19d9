// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel

/// The tokens that open an endpoint, with what each is known by once it was presented.
package struct InboundTokens: Sendable {
    private struct Token: Sendable {
        let value: Secret
        let digest: TokenDigest
    }

    private let tokens: [Token]

    package init(_ tokens: [Secret]) {
        self.tokens = tokens.map { Token(value: $0, digest: TokenDigest(of: $0)) }
    }

    /// Whether a caller whom these let in is let in by others too, whatever their order.
    func isWithin(_ others: InboundTokens) -> Bool {
        self.isEmpty ? others.isEmpty : self.tokens.allSatisfy { others.admit($0.digest) }
    }

    /// Whether there are none, so that no token is asked for.
    package var isEmpty: Bool { self.tokens.isEmpty }

    /// Whether a caller is let in who presented this token, or none.
    func admit(_ token: TokenDigest?) -> Bool {
        guard let token else { return self.isEmpty }
        return self.tokens.contains { $0.digest == token }
    }

    /// Compares with every token, without stopping at the first that fits, so that time tells nothing of their order; nil if
    /// it is none of them.
    package func digest(of presented: Span<UInt8>) -> TokenDigest? {
        var found: TokenDigest?
        for token in self.tokens where token.value.matches(presented) { found = found ?? token.digest }
        return found
    }
}
