// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// Handshake sessions, opened by `initialize`: their caller never sees the upstream's id.
extension HTTPExchange {
    /// The upstream answered `initialize`.
    ///
    /// Only a success with a session id opens a session (protocol C19).
    func initialized(_ body: ByteBuffer, _ envelope: Envelope) {
        let version = AnswerReader.protocolVersion(of: envelope, in: body)
        guard envelope.kind == .result else { return self.sendInitialized(body, sessionID: nil) }
        self.upstream.learn { eras in
            eras.handshake = true
            eras.issuesSessions = self.answer.sessionID != nil
            // Callers may ask for older ones; the newest says most.
            if let version, version > eras.handshakeVersions.first ?? "" { eras.handshakeVersions = [version] }
        }
        switch self.openSession(version) {
        case .open(let session):
            if self.call.isHalfClosed { self.calls.sessions.closeUnlessUsed(session, on: self.loop) }
            self.sendInitialized(body, sessionID: session.isLegacy ? nil : session.id.text)
        case .none:
            self.sendInitialized(body, sessionID: nil)
        case .refused(let answer):
            self.prepared = answer
            self.tell { $0.answeredHere() }
        }
    }

    private enum Opening {
        case open(CallerSession)
        /// The upstream issues no sessions.
        case none
        /// There can be none, of which the caller is told so.
        case refused(Prepared)
    }

    private func openSession(_ version: String?) -> Opening {
        let revision = version.flatMap(ProtocolRevision.init(rawValue:))
        let sessions = self.answer.sessionID.map {
            HTTPUpstreamSessions(
                id: $0,
                home: self.slot,
                self.http,
                origin: SessionOrigin(
                    revision: revision,
                    initialize: self.message.body,
                    forwarded: self.call.principal.forwarded
                )
            )
        }
        let leg = self.calls.makeLeg(self.upstream, self.http, sessions)
        let home = sessions != nil && self.http.credentials != nil ? self.slot : nil
        if let session {
            // A caller of the old transport has its session already.
            guard session.bind(leg, revision: revision, home: home) else {
                leg.end(on: self.loop)
                return .refused(.noSession)
            }
            if sessions != nil { self.calls.listen(for: session, self.call.request, on: self.loop) }
            return .open(session)
        }
        guard sessions != nil else { return .none }
        let session = CallerSession(
            id: self.calls.sessions.makeID(),
            principal: self.call.principal,
            upstream: self.upstream,
            buffers: self.calls.buffers
        )
        _ = session.bind(leg, revision: revision, home: home)
        guard self.call.reply.hasCaller, self.calls.sessions.open(session, on: self.loop) else {
            self.calls.sessions.close(session, on: self.loop)
            self.calls.refused(
                .sessions,
                status: 503,
                ErrorAnswer.sessionLimit,
                at: self.upstream,
                from: self.call.request.peer
            )
            return .refused(.noPlace)
        }
        return .open(session)
    }

    private func sendInitialized(_ body: ByteBuffer, sessionID: String?) {
        let reply = self.call.reply
        if self.answer.mediaType == .eventStream, self.takesMessages, !reply.isMessageWise {
            self.beginEvents(sessionID: sessionID)
            self.prepared = .event(body)
        } else {
            self.prepared = .body(body, sessionID: sessionID)
        }
        self.tell { $0.answered() }
    }
}
