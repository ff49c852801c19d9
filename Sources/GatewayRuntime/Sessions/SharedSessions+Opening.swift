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
        self.open(self.http.credentials?.attempts(.home), completion)
    }

    private func open(
        _ attempts: CredentialUse?,
        _ completion: @escaping @Sendable (Result<Home, GatewayError>) -> Void
    ) {
        let pool = self.http.credentials
        var attempts = attempts
        guard let slot = pool.map({ $0.begin(&attempts) }) ?? CredentialID.none else {
            return completion(.failure(.exhausted(attempts?.statuses ?? [])))
        }
        guard let session = self.session(slot) else { return self.open(attempts, completion) }
        session
            .whenOpen { [attempts] opened in
                guard let pool else { return completion(Self.home(session, opened)) }
                var attempts = attempts
                switch opened {
                case .open(_, let isFirst):
                    // Of a session that was open before nothing new is known.
                    if isFirst { pool.succeeded(&attempts) } else { pool.release(&attempts, as: nil) }
                    completion(Self.home(session, opened))
                case .failed:
                    pool.release(&attempts)
                    // A credential that was removed meanwhile opens nothing: the next one does.
                    guard pool.contains(slot) else { return self.open(attempts, completion) }
                    completion(Self.home(session, opened))
                case .refused(let status, let isFirst):
                    let refusal = pool.refused(&attempts, with: status, isCounted: isFirst)
                    switch refusal.verdict {
                    case .again: self.open(attempts, completion)
                    case .rejected: completion(.failure(.rejected(status: status, slot: attempts?.position)))
                    case .exhausted: completion(.failure(.exhausted(refusal.statuses)))
                    }
                }
            }
    }

    private static func home(_ session: SharedSession, _ opened: SharedSession.Opened) -> Result<Home, GatewayError> {
        switch opened {
        case .open(let result, _): .success(Home(session: session, result: result))
        case .refused(let status, _): .failure(.rejected(status: status, slot: nil))
        case .failed(let error): .failure(error)
        }
    }
}
