// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A setting that is understood and validated, and refused at start because nothing carries it out yet.
///
/// A disabled server is exempt. Building a feature ends with deleting its line from `current`.
package enum NotBuiltYet: String, CaseIterable, Sendable {
    /// `options.proxy` with a url, or with `useEnv: true`; and the proxies of the environment.
    case outboundProxies

    /// What this version refuses.
    package static let current: Set<NotBuiltYet> = [.outboundProxies]

    /// What a finding says is not built.
    var subject: String {
        switch self {
        case .outboundProxies: "outbound proxies"
        }
    }
}
