// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayWire

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
        var data = #"{"gateway":true,"reason":"\#(error.reason.rawValue)","upstream":"#
        data += JSONText.quoted(upstream)
        data += #","executed":"\#(error.executed.rawValue)","retryable":\#(error.isRetryable)"#
        data += #","attempts":\#(error.attempts)"#
        if let status = error.status { data += #","status":\#(status)"# }
        if let wait = error.retryAfterMilliseconds { data += #","retryAfterMs":\#(wait)"# }
        data += "}"
        return Self.body(code: Self.code(error.reason), message: error.message, data: data, id: id)
    }

    /// A JSON-RPC error message. `data` is JSON text; an unknown id is left out (protocol §1.1).
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

/// Which of the two ways of speaking a caller uses (protocol §1).
package enum CallerEra: Sendable {
    case handshake
    case stateless
}
