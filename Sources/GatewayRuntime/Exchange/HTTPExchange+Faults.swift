// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayWire

/// What is wrong with an answer, in the words of the gateway's errors (contract §4), and what that says of the upstream.
extension HTTPExchange {
    func error(_ fault: CallMachine.Fault) -> GatewayError {
        let error = self.words(for: fault)
        self.observe(fault, error)
        return error
    }

    /// What a fault says of the upstream.
    private func observe(_ fault: CallMachine.Fault, _ error: GatewayError) {
        switch fault {
        case .credentialRejected where self.http.credentials == nil:
            self.upstream.conclude(.rejected, because: error)
        case .redirected:
            self.http.redirects.observe(self.redirection, self.answer.status)
            self.doubtUpstream()
        case .status(404), .status(405):
            // There may be nothing at its URL any more. Other statuses are about a call more often than about the server.
            self.doubtUpstream()
            self.http.redirects.observe(self.redirection, self.answer.status)
        default:
            break
        }
    }

    /// Whether the message can have run is the machine's to say.
    private func words(for fault: CallMachine.Fault) -> GatewayError {
        switch fault {
        case .credentialRejected(let status):
            return .rejected(status: status, slot: self.usedSlot)
        case .credentialsExhausted:
            let statuses = self.credentials?.statuses ?? []
            return statuses.isEmpty ? .noSuchSlot : .exhausted(statuses)
        case .redirected:
            let place = self.redirection.place(of: self.answer.location, from: self.http.configuration.url)
            return .redirected(to: place, status: self.answer.status)
        case .rateLimited:
            return self.rateLimited
        case .status(let status):
            return self.statusFailure(status)
        case .undecodable:
            let coding = self.answer.unsupportedCoding ?? "a coding"
            let text = "the answer has \(coding), which the gateway did not ask for and cannot decode"
            return self.failure(text, "bad_encoding")
        case .noBody:
            return self.failure("the answer to a request has no body", "no_response_body")
        case .wrongContentType:
            return self.failure("the answer is neither JSON nor an event stream", "bad_content_type")
        case .webPage:
            return self.failure(GatewayError.webPageText, "web_page")
        case .notJSON:
            return self.failure("the answer is no JSON", "bad_json")
        case .truncated:
            return Self.incomplete(.upstreamClosed, "truncated_body")
        case .flawed(.message) where self.answer.mediaType == .eventStream:
            return self.failure("an event is no JSON-RPC message", "bad_json")
        case .flawed(.message):
            return Self.incomplete(.upstreamProtocol, "bad_json")
        case .flawed(.toolList):
            return self.failure("the list of tools cannot be read", "bad_json")
        case .flawed(.largeEvent):
            return self.failure("an event is larger than limits.eventBytes", "event_too_large")
        case .tooLarge:
            let what = self.call.reply.isMessageWise ? "the answers of this batch are" : "the answer is"
            return self.failure("\(what) larger than limits.responseBufferBytes", "too_large")
        case .endlessStream:
            return self.failure("the stream goes on and on without the answer", "too_large")
        case .streamEnded(let isTruncated):
            return Self.closed(
                "the stream ended before the answer",
                isTruncated ? "sse_truncated" : "sse_no_response"
            )
        case .streamLost:
            return Self.closed("the stream broke before the answer and could not be taken up again", "sse_truncated")
        case .queueFull, .reported, .timedOut, .noRoom, .drained, .upstreamGone:
            // The exchange has words for these.
            return Self.closed("the connection to the server was lost", nil)
        }
    }

    private func failure(_ text: String, _ cause: String) -> GatewayError {
        GatewayError(.upstreamProtocol, executed: .unknown, text, cause: cause, status: self.answer.status)
    }

    private static func closed(_ text: String, _ cause: String?) -> GatewayError {
        GatewayError(.upstreamClosed, executed: .unknown, text, cause: cause)
    }

    private static func incomplete(_ reason: GatewayError.Reason, _ cause: String) -> GatewayError {
        GatewayError(reason, executed: .unknown, "the answer is no complete JSON-RPC message", cause: cause)
    }

    private var rateLimited: GatewayError {
        GatewayError(
            .rateLimited,
            executed: .no,
            "the server limits our rate; try again later",
            cause: "rate_limited",
            status: self.answer.status,
            retryAfterMilliseconds: self.answer.retryAfterMilliseconds
        )
    }

    private func statusFailure(_ status: Int) -> GatewayError {
        GatewayError(
            .upstreamStatus,
            executed: .unknown,
            "the server answered HTTP \(status)",
            cause: "http_\(status / 100)xx",
            status: status,
            retryAfterMilliseconds: status == 503 ? self.answer.retryAfterMilliseconds : nil
        )
    }
}
