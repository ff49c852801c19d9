// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import NIOCore

/// Opens a forgotten upstream session again, with the caller's own `initialize` (contract §4).
enum SessionRenewal {
    /// Runs on `loop`; everybody who waits for the session is told, and `completion` as well: the new id, or nil.
    static func run(
        _ session: HTTPUpstreamSession,
        _ http: HTTPAccess,
        of upstream: Upstream,
        on loop: GatewayLoop,
        completion: @escaping (String?) -> Void
    ) {
        func end(_ id: String?) {
            if let id { session.renewed(id: id) } else { session.renewalFailed() }
            completion(id)
        }
        guard session.initialize.readableBytes > 0 else { return end(nil) }
        UpstreamCall.send(
            http,
            of: upstream,
            on: loop,
            body: session.initialize,
            fields: String(decoding: session.forwarded, as: UTF8.self),
            timeout: Self.timeout
        ) { result in
            guard case .success(let answer) = result, (200..<300).contains(answer.status), let id = answer.sessionID,
                AnswerReader.read(answer.body, depth: 64)?.kind == .result
            else { return end(nil) }
            UpstreamCall.send(
                http,
                of: upstream,
                on: loop,
                body: ClientMessage.initialized,
                session: id,
                fields: session.fields,
                timeout: Self.timeout
            ) { _ in
                // A server that does not take it refuses the message that waits, whose caller then hears of it.
                end(id)
            }
        }
    }

    private static let timeout = TimeAmount.seconds(10)
}
