// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayObservability
import GatewayPolicy

/// The attempts of one request with the credentials of its upstream, and what the one under way puts into its head.
///
/// Only `UpstreamCredentials` moves it on.
struct CredentialUse: Sendable {
    let choice: CredentialAttempts.Choice
    /// nil before the first attempt, which begins under the rules of that moment.
    var attempts: CredentialAttempts?
    /// That of the last attempt; nil before the first.
    var member: CredentialMember?
    /// Where that was in the list when the attempt began: for people.
    var position: Int?

    init(_ choice: CredentialAttempts.Choice) {
        self.choice = choice
    }

    /// Whether an attempt is under way.
    var isUnderWay: Bool { self.attempts?.credential != nil }
    /// With what credentials were refused, one for each attempt that was.
    var statuses: [Int] { self.attempts?.statuses ?? [] }
    var credential: RequestCredential? { self.member?.credential }
}

/// A credential in the list of one moment: how it is sent, and where its attempts are counted.
final class CredentialMember: Sendable {
    let id: CredentialID
    let credential: RequestCredential
    /// Its name, or its position where it has none: the label of its series.
    let label: String
    let requests: CounterFamily<CredentialOutcome>

    init(
        id: CredentialID,
        credential: RequestCredential,
        label: String,
        requests: CounterFamily<CredentialOutcome>
    ) {
        self.id = id
        self.credential = credential
        self.label = label
        self.requests = requests
    }
}
