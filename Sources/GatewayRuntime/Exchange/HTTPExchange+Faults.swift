// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import GatewayWire

/// What is wrong with an answer, in the words of the gateway's errors (contract §4).
extension HTTPExchange {
    func error(_ fault: CallMachine.Fault, executed: GatewayError.Executed) -> GatewayError {
        switch fault {
        case .credentialRejected(let status):
            self.rejected(status)
        case .credentialsExhausted:
            .exhausted(self.credentials?.statuses ?? [])
        case .redirected:
            self.redirected()
        case .rateLimited:
            self.rateLimited()
        case .status(let status):
            self.statusFailure(status, executed)
        case .undecodable:
            self.failure(
                "the answer has \(self.answer.unsupportedCoding ?? "a coding"), which the gateway did not ask for and cannot "
                    + "decode",
                "bad_encoding",
                executed
            )
        case .noBody:
            self.failure("the answer to a request has no body", "no_response_body", executed)
        case .wrongContentType:
            self.failure("the answer is neither JSON nor an event stream", "bad_content_type", executed)
        case .webPage:
            self.failure(GatewayError.webPageText, "web_page", executed)
        case .notJSON:
            self.failure("the answer is no JSON", "bad_json", executed)
        case .truncated:
            GatewayError(
                .upstreamClosed,
                executed: executed,
                "the answer is no complete JSON-RPC message",
                cause: "truncated_body"
            )
        case .flawed(.message) where self.answer.mediaType == .eventStream:
            self.failure("an event is no JSON-RPC message", "bad_json", executed)
        case .flawed(.message):
            GatewayError(
                .upstreamProtocol,
                executed: executed,
                "the answer is no complete JSON-RPC message",
                cause: "bad_json"
            )
        case .flawed(.toolList):
            self.failure("the list of tools cannot be read", "bad_json", executed)
        case .flawed(.largeEvent):
            self.failure("an event is larger than limits.eventBytes", "event_too_large", executed)
        case .tooLarge:
            self.failure(
                self.call.reply.isMessageWise
                    ? "the answers of this batch are larger than limits.responseBufferBytes"
                    : "the answer is larger than limits.responseBufferBytes",
                "too_large",
                executed
            )
        case .endlessStream:
            self.failure("the stream goes on and on without the answer", "too_large", executed)
        case .streamEnded(let isTruncated):
            GatewayError(
                .upstreamClosed,
                executed: executed,
                "the stream ended before the answer",
                cause: isTruncated ? "sse_truncated" : "sse_no_response"
            )
        case .streamLost:
            GatewayError(
                .upstreamClosed,
                executed: executed,
                "the stream broke before the answer and could not be taken up again",
                cause: "sse_truncated"
            )
        case .queueFull, .reported, .timedOut, .noRoom, .gatewayStops:
            // The exchange has words for these.
            GatewayError(.upstreamClosed, executed: executed, "the connection to the server was lost")
        }
    }

    private func failure(_ text: String, _ cause: String, _ executed: GatewayError.Executed) -> GatewayError {
        GatewayError(.upstreamProtocol, executed: executed, text, cause: cause, status: self.answer.status)
    }

    private func rejected(_ status: Int) -> GatewayError {
        let failure = GatewayError.rejected(status: status, slot: self.usedSlot)
        if self.http.credentials == nil { self.upstream.conclude(.rejected, because: failure) }
        return failure
    }

    private func redirected() -> GatewayError {
        self.http.redirects.observe(self.redirection, self.answer.status)
        self.doubtUpstream()
        let place = self.redirection.place(of: self.answer.location, from: self.http.configuration.url)
        return .redirected(to: place, status: self.answer.status)
    }

    private func rateLimited() -> GatewayError {
        GatewayError(
            .rateLimited,
            executed: .no,
            "the server limits our rate; try again later",
            cause: "rate_limited",
            status: self.answer.status,
            retryAfterMilliseconds: self.answer.retryAfterMilliseconds
        )
    }

    private func statusFailure(_ status: Int, _ executed: GatewayError.Executed) -> GatewayError {
        if status == 404 || status == 405 {
            // There may be nothing at its URL any more. Other statuses are about a call more often than about the server.
            self.doubtUpstream()
            self.http.redirects.observe(self.redirection, status)
        }
        return GatewayError(
            .upstreamStatus,
            executed: executed,
            "the server answered HTTP \(status)",
            cause: "http_\(status / 100)xx",
            status: status,
            retryAfterMilliseconds: status == 503 ? self.answer.retryAfterMilliseconds : nil
        )
    }
}
