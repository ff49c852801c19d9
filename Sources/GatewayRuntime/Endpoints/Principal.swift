// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession

/// Who a session belongs to: nobody else finds it (contract §3).
package struct Principal: Hashable, Sendable {
    /// What the caller addresses.
    let endpoint: EndpointID
    /// The inbound token that it presented; nil without tokens.
    let token: TokenDigest?
    /// The forwarded field lines, in the order in which they came; empty without `forwardHeaders`.
    let forwarded: [UInt8]
}

extension Principal: SessionPrincipal {
    /// Whose sessions are counted together.
    package enum Owner: Hashable, Sendable {
        /// All that come with one inbound token, whatever they forward and wherever they call.
        case token(TokenDigest)
        /// Callers without a token, who are told apart by what they forward, if at all.
        case caller(endpoint: EndpointID, forwarded: [UInt8])
    }

    package var owner: Owner {
        self.token.map(Owner.token) ?? .caller(endpoint: self.endpoint, forwarded: self.forwarded)
    }
}
