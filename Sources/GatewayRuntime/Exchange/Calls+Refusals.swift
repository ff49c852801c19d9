// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore
import Synchronization

/// What is counted, logged and answered where the gateway refuses a request by itself.
extension Calls {
    /// A request was refused before it belonged to an upstream.
    ///
    /// `detail` is a constant text of ours, `upstream` the one that it was for, nil where it was for none.
    func refused(
        _ reason: RejectionReason,
        status: Int,
        _ detail: String,
        at upstream: Upstream?,
        from peer: SocketAddress?
    ) {
        self.rejections.increment(reason)
        self.logRefusal(reason.rawValue, status: status, detail, at: upstream, from: peer)
    }

    /// A message was refused by a rule of ours for its server: the log has it, and it counts as one of that server's.
    func logRefusal(
        _ reason: String,
        status: Int,
        _ detail: String,
        at upstream: Upstream?,
        from peer: SocketAddress?
    ) {
        // One that was for no server concerns whoever logs calls at all.
        self.refusals.record(
            isProminent: upstream?.settings.isLogEnabled ?? self.isAnyLogEnabled.load(ordering: .relaxed),
            now: self.uptime,
            RefusedRequest(
                status: status,
                reason: reason,
                detail: detail,
                server: upstream?.name,
                address: peer?.plainAddress ?? "local",
                port: peer?.port
            )
        )
    }

    // MARK: Answers

    func refuse(
        _ error: EnvelopeError,
        _ request: InboundRequest,
        _ upstream: Upstream,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        self.refused(.message, status: 400, error.reason, at: upstream, from: request.peer)
        let id = error.id.map { request.body.bytes($0.range) }
        responder.respond(status: 400, json: ErrorAnswer.body(code: error.code.rawValue, message: error.reason, id: id))
        return nil
    }

    func refuse(
        _ rejection: EraRejection,
        _ envelope: Envelope,
        _ request: InboundRequest,
        _ body: ByteBuffer,
        _ upstream: Upstream,
        _ responder: any DownstreamResponder,
        status: Int? = nil
    ) -> (any DownstreamExchange)? {
        let status = status ?? rejection.status
        self.logRefusal("era", status: status, rejection.message, at: upstream, from: request.peer)
        upstream.metrics.requests.increment(envelope.method ?? .other, .refused)
        let answer = ErrorAnswer.body(rejection, eras: upstream.eras, envelope: envelope, in: body)
        responder.respond(status: status, json: answer)
        return nil
    }

    func refuse(
        _ error: GatewayError,
        _ message: CallerMessage,
        _ upstream: Upstream,
        _ responder: any DownstreamResponder
    ) {
        self.report(error, upstream: upstream, method: message.method)
        upstream.metrics.requests.increment(message.method, CallOutcome(error.reason))
        _ = ErrorAnswer.send(error, to: responder, upstream: upstream, message: message)
    }

    func refuseSession(
        _ id: [UInt8]?,
        _ request: InboundRequest,
        _ upstream: Upstream,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        let text = "session not found: initialize again"
        self.refused(.session, status: 404, text, at: upstream, from: request.peer)
        responder.respond(status: 404, json: ErrorAnswer.body(code: -32_600, message: text, id: id))
        return nil
    }
}

extension SocketAddress {
    /// The address without its port; that of IPv4 as such, also where it was mapped into IPv6.
    fileprivate var plainAddress: String? {
        guard let address = self.ipAddress else { return nil }
        return address.hasPrefix("::ffff:") && address.contains(".") ? String(address.dropFirst(7)) : address
    }
}
