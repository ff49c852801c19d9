// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Whose answer it is that an HTTP proxy gives to a request in absolute form (RFC 9112 §3.2.2): its own, or the
/// upstream's (credentials §3.5).
///
/// Only 401, 403 and 407 are in question: by them an upstream refuses a credential.
package struct ForwardedAnswer: Sendable {
    private let status: Int
    private var isSquid = false
    private var hasProxyError = false
    private var hasVia = false
    private var challenges = AuthChallenges()
    private var proxyChallenges = AuthChallenges()

    /// nil for a status that is not in question.
    package init?(status: Int) {
        guard [401, 403, 407].contains(status) else { return nil }
        self.status = status
    }

    /// Takes one field of the answer; `name` in lower case.
    package mutating func read(_ name: String, _ value: some Sequence<UInt8>) {
        switch name {
        case "x-squid-error": self.isSquid = true
        case "via": self.hasVia = true
        // RFC 9209 §2.1.1.
        case "proxy-status" where String(decoding: Array(value), as: UTF8.self).contains("error="):
            self.hasProxyError = true
        case "www-authenticate": self.challenges.read(value)
        case "proxy-authenticate": self.proxyChallenges.read(value)
        default: break
        }
    }

    /// Whose answer it is, when all of its fields are read.
    ///
    /// - Parameters:
    ///   - target: host and port of the upstream.
    ///   - hasCredentials: whether user and password for the proxy were sent.
    ///   - refusedTunnel: the status with which the proxy refused the tunnel, if that is why requests are forwarded and
    ///     nothing else marked the refusal as the proxy's.
    /// - Returns: what the proxy refused; nil if the answer is the upstream's.
    package func proxyError(target: String, hasCredentials: Bool, refusedTunnel: Int?) -> OutboundProxyError? {
        switch self.status {
        case 407:
            return .login("407", challenges: self.proxyChallenges, hasCredentials: hasCredentials, status: 407)
        case 401 where self.isProxys(hasCredentials: hasCredentials):
            return .login("401", challenges: self.challenges, hasCredentials: hasCredentials, status: 401)
        // The rule of the proxy that refused the tunnel with 403 refuses the request with 403 as well. An answer of the
        // upstream would have `Via`, since it went through the proxy (RFC 9110 §7.6.3), or say which credential it wants.
        case 403
        where self.isProxys(hasCredentials: hasCredentials)
            || refusedTunnel == 403 && !self.hasVia && self.challenges.isEmpty:
            return OutboundProxyError(.tunnelDenied, "refused the request to \(target) (403)", status: 403)
        default:
            return nil
        }
    }

    private func isProxys(hasCredentials: Bool) -> Bool {
        self.isSquid || self.hasProxyError
            || hasCredentials && !self.challenges.isEmpty && !self.challenges.schemes.contains(.bearer)
    }
}
