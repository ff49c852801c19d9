// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What a 401 or 403 seems to be about; recorded for the operator, not acted on (credentials §2.7).
package enum RefusalKind: String, Sendable, CaseIterable {
    /// The credential itself: expired, revoked, malformed, or not said.
    case rejected
    /// The credential is good, but not for this (RFC 6750 §3.1).
    case insufficientScope = "insufficient_scope"
    /// A limit of rate in the clothes of a 403, as GitHub's are.
    case quota
    /// A rule of the server's that has nothing to do with credentials, such as its check of Origin.
    case policy

    /// What the head and body of a refusal say; the first that fits is it.
    ///
    /// - Parameters:
    ///   - status: 401 or 403.
    ///   - bearerError: `error` of the Bearer challenge; nil without one.
    ///   - hasChallenge: whether there is any challenge.
    ///   - isLimited: whether the head speaks of a limit: `Retry-After`, or nothing remaining.
    ///   - isBareError: whether the body is a JSON-RPC error without an id.
    package init(status: Int, bearerError: String?, hasChallenge: Bool, isLimited: Bool, isBareError: Bool) {
        if bearerError == "insufficient_scope" {
            self = .insufficientScope
        } else if status == 403, isLimited {
            self = .quota
        } else if status == 403, isBareError, !hasChallenge {
            self = .policy
        } else {
            self = .rejected
        }
    }
}
