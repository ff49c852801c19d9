// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy

/// A session that callers share and that is open, in which a caller's session begins.
struct SharedHome: Sendable {
    let slot: Int
    let result: InitializeResult

    /// Opens the session of the slot whose turn it is, or of one after it; `completion` is called once, anywhere.
    static func open(
        _ sessions: [SharedSession],
        _ credentials: UpstreamCredentials?,
        _ completion: @escaping @Sendable (Result<SharedHome, GatewayError>) -> Void
    ) {
        var failover = CredentialFailover(credentials, choosing: .home)
        let step = failover.next()
        Self.open(sessions, failover, step, completion)
    }

    private static func open(
        _ sessions: [SharedSession],
        _ failover: CredentialFailover,
        _ step: CredentialFailover.Step,
        _ completion: @escaping @Sendable (Result<SharedHome, GatewayError>) -> Void
    ) {
        switch step {
        case .giveUp(let error): completion(.failure(error))
        case .attempt(let slot):
            guard sessions.indices.contains(slot) else {
                var failover = failover
                failover.ended()
                return completion(.failure(.noSuchSlot))
            }
            sessions[slot]
                .whenOpen { opened in
                    var failover = failover
                    switch opened {
                    case .open(let result, let isFirst):
                        // Of a session that was open before nothing new is known.
                        failover.accepted(isNew: isFirst)
                        completion(.success(SharedHome(slot: slot, result: result)))
                    case .failed(let error):
                        failover.ended()
                        completion(.failure(error))
                    case .refused(let status, let isFirst):
                        let step = failover.refused(with: status, isCounted: isFirst)
                        Self.open(sessions, failover, step, completion)
                    }
                }
        }
    }
}
