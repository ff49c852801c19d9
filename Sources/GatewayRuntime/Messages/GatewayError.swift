// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayPolicy
import GatewaySession
import GatewayTransport
package import GatewayWire

/// Why the gateway itself, and not the upstream, answers a call (contract §4).
package struct GatewayError: Error, Sendable {
    /// The closed list of reasons, as in `data.reason`.
    package enum Reason: String, CaseIterable, Sendable {
        case unreachable
        case outboundProxy = "outbound_proxy"
        case upstreamTimeout = "upstream_timeout"
        case upstreamClosed = "upstream_closed"
        case upstreamProtocol = "upstream_protocol"
        case upstreamStatus = "upstream_status"
        case credentialsExhausted = "credentials_exhausted"
        case credentialRejected = "credential_rejected"
        case rateLimited = "rate_limited"
        case overloaded
        case childExited = "child_exited"
    }

    /// Whether the upstream can have run the call.
    package typealias Executed = RetryRules.Executed

    package let reason: Reason
    package var executed: Executed
    /// What happened and what to do about it; never bytes of a peer, never a secret.
    package let message: String
    /// The narrower cause, from a closed list, as in `data.cause`.
    package let cause: String
    /// Times the call was sent, or tried to be.
    package var attempts = 1
    /// The upstream's HTTP status, where there was one.
    package var status: Int?
    /// The statuses with which every credential was refused that the call might use, attempt by attempt.
    package var statuses: [Int] = []
    package var retryAfterMilliseconds: Int?
    /// Whether the session that the message went in is good all the same.
    package var isOfMessageAlone = false
    /// What the outbound proxy did, for that reason; nil for the others.
    package var outboundProxy: OutboundProxyError?

    package init(
        _ reason: Reason,
        executed: Executed,
        _ message: String,
        cause: String? = nil,
        status: Int? = nil,
        retryAfterMilliseconds: Int? = nil
    ) {
        self.reason = reason
        self.executed = executed
        self.message = message
        self.cause = cause ?? reason.rawValue
        self.status = status
        self.retryAfterMilliseconds = retryAfterMilliseconds
    }

    /// There is no room for what is held for this call: `limits.bufferedBytes`.
    static func noRoom(executed: Executed) -> GatewayError {
        GatewayError(
            .overloaded,
            executed: executed,
            "the gateway holds as much as limits.bufferedBytes allows, and most of it for this call; try again later",
            cause: "buffered_bytes"
        )
    }

    /// The upstream unit is over: its server was taken out of the configuration or replaced, and what was under way had its
    /// time, or the process ends.
    static func upstreamIsGone(executed: Executed) -> GatewayError {
        GatewayError(
            .upstreamClosed,
            executed: executed,
            "the server was taken out of the configuration or replaced, or the gateway stops; initialize again",
            cause: "session_ended"
        )
    }

    /// Whether the same call may be sent again by the caller without risk of running twice.
    package var isRetryable: Bool {
        if let outboundProxy { return self.executed == .no && outboundProxy.code.isRetryable }
        return self.executed == .no && self.reason != .credentialRejected && self.reason != .credentialsExhausted
    }

    /// The same of something that came before the call: that cannot have run.
    var beforeTheCall: GatewayError {
        var error = self
        error.executed = .no
        return error
    }

    /// The upstream refused our credential with 401 or 403, and no other may be tried; `slot` is nil without a pool.
    static func rejected(status: Int, slot: Int?) -> GatewayError {
        let text =
            slot.map { "the server refused the token in slot \($0) with \(status); check auth.tokens" }
            ?? "the server refused our credentials with \(status); check its headers or tokens"
        return GatewayError(.credentialRejected, executed: .no, text, cause: "auth_\(status)", status: status)
    }

    /// The message belongs to a credential that there is not, and goes out with no other.
    static let noSuchSlot = GatewayError(
        .credentialRejected,
        executed: .no,
        "the token that this message belongs to is not configured; initialize again",
        cause: "no_such_slot"
    )

    /// The upstream redirects to a place where nothing of ours is sent; `place` is that place for people, nil: none.
    static func redirected(to place: String?, status: Int) -> GatewayError {
        let text =
            place.map {
                "the server redirects (HTTP \(status)) to \($0), which is not followed; set url to that if it is right"
            } ?? "the server redirects (HTTP \(status)) to nowhere that can be followed; check url"
        return GatewayError(.upstreamProtocol, executed: .no, text, cause: "redirect", status: status)
    }

    /// What a page of HTML in the place of an answer means.
    static let webPageText =
        "the server answered with a web page, as a login or a wrong path does; check url and the credentials"

    /// A caller subscribes to more than is kept for it.
    static let tooManySubscriptions = GatewayError(
        .overloaded,
        executed: .no,
        SessionBridge.subscriptionBounds,
        cause: "subscriptions"
    )

    /// The upstream refused every credential that the call might use.
    static func exhausted(_ statuses: [Int]) -> GatewayError {
        let attempts = statuses.count == 1 ? "1 attempt" : "\(statuses.count) attempts"
        let list = statuses.map(String.init).joined(separator: ", ")
        var error = GatewayError(
            .credentialsExhausted,
            executed: .no,
            "all authentication tokens failed after \(attempts) (statuses: \(list))",
            cause: "exhausted"
        )
        error.attempts = statuses.count
        error.statuses = statuses
        return error
    }

    /// Sorts a failure of the transport.
    init(_ error: TransportError) {
        let executed: Executed =
            switch (error.progress, error.answerBegan) {
            case (.nothing, _), (.partly, false): .no
            case (_, true) where [.truncatedBody, .badEncoding, .noRoom].contains(error.code): .yes
            default: .unknown
            }
        let reason: Reason =
            switch error.code {
            case .resolve, .connectRefused, .connectTimeout, .connectFailed, .tlsVerification, .tlsHandshake:
                .unreachable
            case .outboundProxy:
                .outboundProxy
            case .noDescriptors, .noRoom:
                .overloaded
            case .closedBeforeResponse, .staleConnection, .truncatedHead, .truncatedBody, .cancelled:
                .upstreamClosed
            case .badHTTP, .badEncoding:
                .upstreamProtocol
            }
        self.init(
            reason,
            executed: executed,
            error.message,
            cause: error.outboundProxy?.code.rawValue ?? error.code.rawValue,
            status: error.outboundProxy?.status,
            retryAfterMilliseconds: error.outboundProxy?.retryAfterSeconds.map { $0 * 1000 }
        )
        self.outboundProxy = error.outboundProxy
    }

    /// The same in the words that all share who tell of an upstream's state.
    var upstreamCause: UpstreamCause {
        let code = UpstreamCause.Code(rawValue: self.cause) ?? UpstreamCause.Code(rawValue: self.reason.rawValue)
        return UpstreamCause(code ?? .other, detail: self.message, status: self.status)
    }
}

extension RetryRules.Ending {
    /// How an attempt ended, by what the transport knows.
    init(_ error: TransportError) {
        self =
            switch (error.progress, error.answerBegan) {
            case (.nothing, _): .failedBeforeFirstByte
            case (.partly, false): .partiallyWritten
            case (_, true): .answerBegan
            case (.fully, false): error.code == .cancelled ? .timedOut : .lost
            }
    }
}
