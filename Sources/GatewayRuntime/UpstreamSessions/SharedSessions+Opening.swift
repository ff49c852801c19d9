// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession

/// Opens the session that a new caller is at home in.
extension SharedSessions {
    /// A session that is open.
    struct Home: Sendable {
        let session: SharedSession
        /// What the upstream answered to our `initialize`.
        let result: InitializeResult
    }

    /// Opens the session of the slot whose turn it is, or of those after it; `completion` is called anywhere.
    func open(_ completion: @escaping @Sendable (Result<Home, GatewayError>) -> Void) {
        var failover = CredentialFailover(self.http.credentials, choosing: .home)
        let step = failover.next()
        self.open(failover, step, completion)
    }

    private func open(
        _ failover: CredentialFailover,
        _ step: CredentialFailover.Step,
        _ completion: @escaping @Sendable (Result<Home, GatewayError>) -> Void
    ) {
        var failover = failover
        switch step {
        case .giveUp(let error):
            completion(.failure(error))
        case .attempt(let slot):
            guard let session = self.session(slot) else {
                let next = failover.next()
                return self.open(failover, next, completion)
            }
            session
                .whenOpen { [failover] opened in
                    var failover = failover
                    switch opened {
                    case .open(let result, let isFirst):
                        // Of a session that was open before nothing new is known.
                        failover.accepted(isNew: isFirst)
                        completion(.success(Home(session: session, result: result)))
                    case .failed(let error):
                        failover.ended()
                        // A credential that was removed meanwhile opens nothing: the next one does.
                        guard !self.http.contains(slot) else { return completion(.failure(error)) }
                        let next = failover.next()
                        self.open(failover, next, completion)
                    case .refused(let status, let isFirst):
                        let next = failover.refused(with: status, isCounted: isFirst)
                        self.open(failover, next, completion)
                    }
                }
        }
    }
}
