// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability

/// One credential of an upstream as requests carry it; without a pool there is one, with nothing of ours.
///
/// Immutable, and made once for each value. Whoever uses it keeps it: when a reload removes it, its last use ends as it
/// would, and with that the redactor forgets the secret.
final class RequestCredential: Sendable {
    /// nil: there is none.
    let token: Secret?
    /// A name for people that tells nothing of the token.
    let fingerprint: String
    private let heads: RequestHeads
    /// The same for a proxy that takes the requests themselves; nil where none may.
    private let forwardedHeads: RequestHeads?
    private let redactor: CurrentRedactor?

    init(token: Secret?, _ template: RequestHeads.Template, redactor: CurrentRedactor?) {
        self.token = token
        self.fingerprint = token.map { Fingerprint.text(of: $0) } ?? ""
        self.heads = RequestHeads(template.http, token: token, agent: template.agent)
        self.forwardedHeads = template.proxy.map {
            RequestHeads(template.http, token: token, agent: template.agent, forwardedBy: $0)
        }
        self.redactor = redactor
        if let token { redactor?.hold(token) }
    }

    deinit {
        if let token { self.redactor?.release(token) }
    }

    /// `isForwarding`: the request goes to a proxy that sends it on; nil where none may.
    func heads(isForwarding: Bool) -> RequestHeads? { isForwarding ? self.forwardedHeads : self.heads }
}

extension RequestHeads {
    /// What the heads to one upstream have in common, whatever their credential.
    struct Template: Sendable {
        let http: HTTPUpstreamConfiguration
        let agent: String
        /// The proxy that gets requests in absolute form; nil: none may.
        let proxy: OutboundProxy?
    }
}

/// A name for a token that is the same throughout this process and means nothing outside (credentials §2.12).
private enum Fingerprint {
    /// Drawn once: whoever has a candidate for the token, but not this, cannot confirm it.
    private static let key: [UInt64] = {
        var generator = SystemRandomNumberGenerator()
        return (0..<4).map { _ in generator.next() }
    }()

    static func text(of token: Secret) -> String {
        var hasher = Hasher()
        hasher.combine(Self.key)
        hasher.combine(token)
        hasher.combine(Self.key)
        let digits = String(UInt32(truncatingIfNeeded: hasher.finalize()), radix: 16)
        return String(repeating: "0", count: 8 - digits.count) + digits
    }
}
