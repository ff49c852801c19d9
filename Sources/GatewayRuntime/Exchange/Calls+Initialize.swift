// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// What callers are answered to `initialize` where the gateway itself answers it.
extension Calls {
    /// Answers `initialize` from what the upstream said to ours, and binds the caller's session.
    func establish(
        _ call: Call,
        _ initialized: InitializeResult,
        _ responder: any DownstreamResponder,
        _ made: CallerSession? = nil,
        home: CredentialID? = nil,
        _ makeLeg: (CallerSession) -> any Leg
    ) {
        let message = call.message
        let requested = message.envelope.initializeVersion.map(message.text)
        let version = initialized.negotiated(requested)
        let session = call.session ?? made ?? self.makeSession(for: call)
        let leg = makeLeg(session)
        let isOpen =
            session.bind(leg, revision: ProtocolRevision(rawValue: version), home: home)
            && (session.isLegacy || self.sessions.open(session, on: responder.loop))
        defer { if let session = call.session { self.sessions.end(session) } }
        guard isOpen else {
            leg.end(on: responder.loop)
            return self.refuseSessionLimit(call, responder)
        }
        call.upstream.metrics.requests.increment(message.method, .ok)
        responder.respond(status: 200, body: initialized.message(id: message.idBytes ?? [], version: version)) { head in
            head.writeStaticString("Content-Type: application/json\r\n")
            if !session.isLegacy { head.writeString("Mcp-Session-Id: \(session.id.text)\r\n") }
        }
    }

    private func refuseSessionLimit(_ call: Call, _ responder: any DownstreamResponder) {
        self.refused(.sessions, status: 503, ErrorAnswer.sessionLimit, at: call.upstream, from: call.request.peer)
        call.upstream.metrics.requests.increment(call.message.method, .overloaded)
        responder.respond(
            status: 503,
            json: ErrorAnswer.tooManySessions(id: call.message.idBytes)
        ) { $0.writeStaticString("Retry-After: 5\r\n") }
    }
}
