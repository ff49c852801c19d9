// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A setting that is understood and validated, and refused at start because nothing carries it out yet.
///
/// A disabled server is exempt. Building a feature ends with deleting its line from `current`.
package enum NotBuiltYet: String, CaseIterable, Sendable {
    /// `options.auth.tokens` with a usable token, and the mapping of a server's own `options.authTokens`.
    case credentialPools
    /// `options.proxy` with a url, or with `useEnv: true`; and the proxies of the environment.
    case outboundProxies

    /// What this version refuses.
    package static let current: Set<NotBuiltYet> = [
        .credentialPools,
        .outboundProxies,
    ]

    /// What a finding says is not built.
    var subject: String {
        switch self {
        case .credentialPools: "pools of credentials"
        case .outboundProxies: "outbound proxies"
        }
    }
}
