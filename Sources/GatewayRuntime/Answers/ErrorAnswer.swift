// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// The one place where an error becomes what a caller sees: JSON-RPC code, HTTP status, body (contract §4).
package enum ErrorAnswer {
    /// The JSON-RPC code of a reason.
    static func code(_ reason: GatewayError.Reason) -> Int {
        switch reason {
        case .unreachable: -31001
        case .outboundProxy: -31002
        case .upstreamTimeout: -31003
        case .upstreamClosed: -31004
        case .upstreamProtocol: -31005
        case .upstreamStatus: -31006
        case .credentialsExhausted, .credentialRejected: -31007
        case .rateLimited: -31008
        case .overloaded: -31009
        case .childExited: -31010
        }
    }

    /// The HTTP status for a caller of the stateless era; handshake callers get 200, since their SDKs end the whole
    /// session on anything else.
    static func status(_ reason: GatewayError.Reason, era: CallerEra) -> Int {
        guard era == .stateless else { return 200 }
        return switch reason {
        case .upstreamTimeout: 504
        case .rateLimited: 429
        case .overloaded: 503
        default: 502
        }
    }

    /// The JSON-RPC message for a gateway error; `id` is the raw bytes of the caller's id, nil where there is none.
    static func body(_ error: GatewayError, upstream: String, id: [UInt8]?) -> [UInt8] {
        var data = #"{"gateway":true,"reason":"\#(error.reason.rawValue)","cause":\#(JSONText.quoted(error.cause))"#
        data += #","upstream":"#
        data += JSONText.quoted(upstream)
        data += #","executed":"\#(error.executed.rawValue)","retryable":\#(error.isRetryable)"#
        data += #","attempts":\#(error.attempts)"#
        if !error.statuses.isEmpty {
            data += #","statuses":[\#(error.statuses.map(String.init).joined(separator: ","))]"#
        }
        if let status = error.status { data += #","status":\#(status)"# }
        if let proxy = error.outboundProxy {
            data += #","stage":"\#(proxy.stage.rawValue)","proxyError":"\#(proxy.code.rawValue)""#
        }
        if let wait = error.retryAfterMilliseconds { data += #","retryAfterMs":\#(wait)"# }
        data += "}"
        return Self.body(code: Self.code(error.reason), message: error.message, data: data, id: id)
    }

    /// A JSON-RPC error message.
    ///
    /// `data` is JSON text; an unknown id is left out (protocol §1.1).
    package static func body(code: Int, message: String, data: String? = nil, id: [UInt8]? = nil) -> [UInt8] {
        var body = Array(#"{"jsonrpc":"2.0""#.utf8)
        if let id {
            body += #","id":"#.utf8
            body += id
        }
        body += #","error":{"code":\#(code),"message":\#(JSONText.quoted(message))"#.utf8
        if let data { body += #","data":\#(data)"#.utf8 }
        body += "}}".utf8
        return body
    }
}

extension ErrorAnswer {
    /// What is said where every place for sessions is taken by one in use.
    static let sessionLimit = "too many sessions; try again later"

    /// Every place for sessions is taken by one in use.
    static func tooManySessions(id: [UInt8]? = nil) -> [UInt8] {
        Self.body(code: Self.code(.overloaded), message: Self.sessionLimit, id: id)
    }

    /// Answers a message whose answer has not begun with a gateway error, in its caller's era.
    ///
    /// Returns the HTTP status that it gets.
    static func send(
        _ error: GatewayError,
        to responder: any DownstreamResponder,
        upstream: Upstream,
        message: CallerMessage
    ) -> Int {
        if message.era == .handshake, !message.isRequest {
            // Nobody waits for an answer, and a failure status would end the session of a 1.x SDK.
            responder.respond(status: 202, body: nil) { _ in }
            return 202
        }
        let wait = error.reason == .overloaded ? 1_000 : error.retryAfterMilliseconds
        let status = Self.status(error.reason, era: message.era)
        let body = Self.body(error, upstream: upstream.name, id: message.idBytes)
        responder.respond(status: status, json: body) { fields in
            if let wait { fields.writeString("Retry-After: \((wait + 999) / 1000)\r\n") }
        }
        return status
    }

    /// The answer to a message whose era or headers are refused (protocol §1.2).
    ///
    /// `data.supported` of -32022 always names something that the caller may ask for instead (contract U9).
    static func body(_ rejection: EraRejection, eras: UpstreamEras, envelope: Envelope, in body: ByteBuffer) -> [UInt8]
    {
        var data: String?
        if rejection.code == .unsupportedVersion {
            let supported = eras.versions(insteadOf: rejection.refusedEra).map(JSONText.quoted).joined(separator: ",")
            let requested = rejection.requested.map { JSONText.quoted($0.decoded(in: body.readableBytesUInt8Span)) }
            data = #"{"supported":[\#(supported)]\#(requested.map { #","requested":\#($0)"# } ?? "")}"#
        }
        let id = envelope.kind == .request ? envelope.id : nil
        return Self.body(
            code: rejection.code.rawValue,
            message: rejection.message,
            data: data,
            id: id.flatMap { body.getBytes(at: body.readerIndex + $0.range.lowerBound, length: $0.range.count) }
        )
    }
}

extension EraRejection {
    /// A request of the stateless era at an upstream that is known not to speak it (contract §4).
    static func handshakeOnly(_ envelope: Envelope) -> EraRejection {
        EraRejection(
            .unsupportedVersion,
            "this server speaks the handshake era only",
            requested: envelope.statelessVersion,
            refusedEra: .stateless
        )
    }

    /// An `initialize` at an upstream that is known not to speak the handshake era.
    static func statelessOnly(_ envelope: Envelope) -> EraRejection {
        EraRejection(
            .unsupportedVersion,
            "this server speaks the stateless era only",
            requested: envelope.initializeVersion,
            refusedEra: .handshake
        )
    }
}

extension ErrorAnswer {
    /// `string` as a JSON literal with its quotes.
    package static func quoted(_ string: some StringProtocol) -> String { JSONText.quoted(string) }
}
