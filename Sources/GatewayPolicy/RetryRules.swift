// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// What a failed attempt says about the request: can the upstream have run it, and may the gateway send it again?
//
// All of MCP is POST, so the HTTP method says nothing and the JSON-RPC method decides. A call is sent again only where
// it is known that it did not run (RFC 9110 §9.2.2: "A proxy MUST NOT automatically retry non-idempotent requests");
// reading again is harmless. One automatic retry is all ("A client SHOULD NOT automatically retry a failed automatic
// retry"), and only while there is time for it.
//
// Not decided here, and never `resend` here: 401 and 403 belong to the credential pool, 404 to a request with a session
// belongs to the session machine. What the driver knows and these rules do not: that nothing of the answer has gone to
// the caller, that the caller is still there, that the body is held complete, and the `RetryBudget`.
// A status that comes with a JSON-RPC answer to the request is an answer, not a failed attempt (contract §4).

/// The retry rules for one attempt of one request.
package enum RetryRules {
    /// How an attempt ended, as far as it is known.
    package enum Ending: Hashable, Sendable {
        /// It failed before the first byte of the request: queue, DNS, connect, outbound proxy, TLS, spawn.
        case failedBeforeFirstByte
        /// The connection was lost when fewer bytes than announced were written, or not a whole line to a child.
        case partiallyWritten
        /// The request was written whole and the connection was lost before any status, or the child ended.
        case lost
        /// The request was written whole and no status came in time.
        case timedOut
        /// A status without an answer to this request; `hadSession`: the request carried an upstream session id.
        case status(Int, hadSession: Bool)
        /// A successful status was seen, and no complete answer.
        case answerBegan
    }

    /// What is at stake if a message runs twice.
    package enum MessageClass: Hashable, CaseIterable, Sendable {
        /// `tools/call`, `sampling/*`, `elicitation/*`, `tasks/update` and every unknown method.
        case call
        /// Methods that may run twice.
        ///
        /// `initialize` (the orphan session is ended), `ping`, `server/discover`, `*/list`, `resources/read`,
        /// `resources/subscribe`, `resources/unsubscribe`, `prompts/get`, `completion/complete`, `logging/setLevel`,
        /// `tasks/get`, `tasks/result`, `tasks/cancel`, and `subscriptions/listen` before its first event.
        case safe
        /// A notification or a response, which gets no answer.
        case oneWay
    }

    /// Whether the upstream can have run the request: `data.executed` of a gateway error (contract §4).
    package enum Executed: String, Hashable, CaseIterable, Sendable {
        case no
        case unknown
        case yes
    }

    /// What to do after a failed attempt.
    package struct Decision: Hashable, Sendable {
        package var executed: Executed
        /// Whether the same message may go out once more, on a new connection or to a new child.
        package var resend: Bool

        package init(executed: Executed, resend: Bool) {
            self.executed = executed
            self.resend = resend
        }
    }

    /// The least time that must be left for a retry.
    package static let leastTimeLeft = Duration.milliseconds(500)
    /// The part of the whole time that must be left for a retry, as its divisor: a quarter.
    package static let leastPartLeft = 4
    /// Automatic retries that one request may have, besides token fail-over.
    package static let retryLimit = 1

    /// Decides about one attempt.
    ///
    /// - Parameters:
    ///   - ending: how the attempt ended.
    ///   - message: what was sent.
    ///   - retries: automatic retries that this request already had; token fail-over does not count.
    ///   - timeLeft: until the deadline of the request.
    ///   - timeout: the whole time that the request was given.
    /// - Returns: whether it can have run, and whether it may be sent again.
    package static func decide(
        _ ending: Ending,
        message: MessageClass,
        retries: Int,
        timeLeft: Duration,
        timeout: Duration
    ) -> Decision {
        var decision = Self.decide(ending, message: message)
        if retries >= Self.retryLimit || timeLeft < Self.leastTimeLeft || timeLeft < timeout / Self.leastPartLeft {
            decision.resend = false
        }
        return decision
    }

    /// The decision table alone, without the conditions that every retry has to meet.
    package static func decide(_ ending: Ending, message: MessageClass) -> Decision {
        switch ending {
        case .failedBeforeFirstByte:
            // Nothing was sent, so nothing ran.
            Decision(executed: .no, resend: true)
        case .partiallyWritten:
            // A server reads the announced length, or the whole line, before it runs anything.
            Decision(executed: .no, resend: true)
        case .lost:
            // RFC 9112 §9.3.1: a connection that closes without an answer does not say whether the request ran.
            Decision(executed: .unknown, resend: message == .safe)
        case .timedOut:
            // It may still be running, and sending it again would add to the load that made it late.
            Decision(executed: .unknown, resend: false)
        case .answerBegan:
            // A successful status means that it ran; part of the answer may have reached the caller.
            Decision(executed: .yes, resend: false)
        case .status(let status, let hadSession):
            Self.decide(status: status, hadSession: hadSession, message: message)
        }
    }

    private static func decide(status: Int, hadSession: Bool, message: MessageClass) -> Decision {
        switch status {
        case 200..<300:
            Self.decide(.answerBegan, message: message)
        case _ where StatusReading.refusesCredential(status):
            // RFC 9110 §15.5.2, §15.5.4: not applied, the credentials were refused. Sending again is up to the pool.
            Decision(executed: .no, resend: false)
        case 404 where hadSession:
            // The session was ended, so the message was not processed (MCP 2025-11-25, Transports, Session Management).
            Decision(executed: .no, resend: false)
        case 404, 405, 406, 411, 413, 414, 415, 417, 431:
            // RFC 9110 §15.5, RFC 6585 §5: refused by what its head says, and would be refused again.
            Decision(executed: .no, resend: false)
        case 408, 421, 425:
            // RFC 9110 §15.5.9, §15.5.20, RFC 8470 §5.2: not processed, may be repeated on another connection.
            Decision(executed: .no, resend: true)
        case 429:
            // RFC 6585 §4: not now. Sending again at once is what the upstream asked us not to do.
            Decision(executed: .no, resend: false)
        case 502, 503, 504:
            // Something in front of the upstream speaks, which cannot know; none of them promises that nothing ran.
            Decision(executed: .unknown, resend: message == .safe)
        default:
            // 400, 422 and 500 may come from the middle of a run. Redirects are never followed.
            Decision(executed: .unknown, resend: false)
        }
    }
}
