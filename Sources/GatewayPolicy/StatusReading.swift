// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// What an HTTP status of 400 and above says about a request: is it the answer, is the session gone, or is the credential
// refused?
//
// A server that lost its sessions, by a restart or because they were idle, should say 404 (MCP 2025-11-25, Transports,
// Session Management). Servers in the field also say 400 or 401, with a text, with a JSON-RPC error under another id, or
// with -32000 or -32001 under the right one. A session that is gone has run nothing, so it is opened again, once, and the
// request is sent again. A 404 says enough for that, and so does a body that speaks of the session. The other answers may
// as well be about this one message, which may have run: a ping in the same session tells, and until then it is in doubt.
//
// A JSON-RPC answer to this very request is the answer, whatever its status, but for the codes above and for errors that
// speak of the session. 401 and 403 are about the credential, but not a 401 in a session that was opened with this
// credential: only if the session cannot be opened again with it is the credential refused. 407 is the word of a proxy.

/// What a status of 400 and above means for the request that it answers.
package enum StatusReading: Hashable, Sendable {
    /// The answer to this request, to be passed on.
    case answer
    /// The upstream does not know the session: nothing ran.
    case sessionLost
    /// It may not know the session; whether a ping in it is answered tells.
    case sessionInDoubt
    /// The credential is refused.
    case credentialRefused
    /// The message failed, or was refused for itself.
    case failure

    /// What the body is to the request.
    package enum Body: Hashable, Sendable {
        /// No JSON-RPC answer to this request: nothing, a text, an error under another id or none.
        case foreign
        /// The same, with the word `session` in it.
        case sessionRefusal
        case result
        /// An error under this request's id; `code` is nil if it is no integer, `namesSession` is whether the word `session`
        /// stands in the body.
        case error(code: Int?, namesSession: Bool)
    }

    /// The upstream session that the request went in.
    package enum Session: Hashable, Sendable {
        case none
        /// One that the upstream accepted this credential for.
        case open
        /// One that was opened again for this request, or found to be there, a moment ago.
        case proven
    }

    /// Reads a status of 400 and above.
    package init(status: Int, body: Body, session: Session) {
        let mayBeLoss = session == .open && (status == 401 || status == 404 || Self.doubtful.contains(status))
        let body = mayBeLoss && body.mayBeOfSession ? .foreign : body
        switch (status, body) {
        case (401, .foreign) where session == .open: self = .sessionInDoubt
        case (401, .sessionRefusal) where session == .open: self = .sessionLost
        case _ where Self.refusesCredential(status): self = .credentialRefused
        case (407, _): self = .failure
        case (_, .result), (_, .error): self = .answer
        case (404, _) where session != .none: self = .sessionLost
        case _ where !mayBeLoss: self = .failure
        case (_, .foreign): self = .sessionInDoubt
        case (_, .sessionRefusal): self = .sessionLost
        }
    }

    /// Whether a status is about the credential: 401 or 403.
    package static func refusesCredential(_ status: Int) -> Bool { status == 401 || status == 403 }

    /// Statuses that servers give for a session that they do not know, beside 401 and 404.
    private static let doubtful: Set<Int> = [400, 409, 410, 412, 422, 428]

    /// Whether the word `session` stands, in any letter case, near the beginning of a body.
    package static func namesSession(_ body: Span<UInt8>) -> Bool {
        let word = Array("session".utf8)
        let end = min(body.count, 4096)
        var index = 0
        while index + word.count <= end {
            var matched = 0
            while matched < word.count, body[index + matched] | 0x20 == word[matched] { matched += 1 }
            if matched == word.count { return true }
            index += 1
        }
        return false
    }
}

extension StatusReading.Body {
    /// Whether it may be an error of what carries the messages, though it is under the id of the request.
    fileprivate var mayBeOfSession: Bool {
        guard case .error(let code, let namesSession) = self else { return false }
        return code == -32_000 || code == -32_001 || namesSession
    }
}
