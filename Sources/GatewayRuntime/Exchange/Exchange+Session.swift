// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore

/// Handshake sessions: opened by `initialize`, opened again when the upstream forgot them, never shown its ids.
extension Exchange {
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
            if self.isHalfClosed { self.gateway.sessions.closeUnlessUsed(session, on: self.loop) }
            self.sendInitialized(body, sessionID: session.isLegacy ? nil : session.id.text)
        case .none: self.sendInitialized(body, sessionID: nil)
        case .refused: break
        }
    }

    private enum Opening {
        case open(CallerSession)
        /// The upstream issues no sessions.
        case none
        /// There can be none, and the exchange has ended.
        case refused
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
                    forwarded: self.principal.forwarded
                )
            )
        }
        let home = sessions != nil && self.http.credentials != nil ? self.slot : nil
        if let session {
            // A caller of the old transport has its session already.
            guard session.bind(.http(sessions), revision: revision, home: home) else {
                self.upstream.end(.http(sessions), on: self.loop)
                self.refuse(status: 404, code: -32_600, "the session is initialized, or over", outcome: .sessionLost)
                return .refused
            }
            if sessions != nil { self.gateway.listen(for: session, self.http, self.request, on: self.loop) }
            return .open(session)
        }
        guard let sessions else { return .none }
        let session = CallerSession(
            id: self.gateway.sessions.makeID(),
            principal: self.principal,
            upstream: self.upstream,
            buffers: self.gateway.buffers
        )
        _ = session.bind(.http(sessions), revision: revision, home: home)
        guard self.responder != nil, self.gateway.sessions.open(session, on: self.loop) else {
            self.gateway.sessions.close(session, on: self.loop)
            self.gateway.refused(
                .sessions,
                status: 503,
                ErrorAnswer.sessionLimit,
                at: self.upstream,
                from: self.request.peer
            )
            self.reply(status: 503, json: ErrorAnswer.tooManySessions(id: self.message.idBytes)) {
                $0.writeStaticString("Retry-After: 5\r\n")
            }
            self.finish(CallOutcome(.overloaded))
            return .refused
        }
        return .open(session)
    }

    private func sendInitialized(_ body: ByteBuffer, sessionID: String?) {
        guard self.answer.mediaType == .eventStream, self.takesMessages, !self.isMessageWise else {
            return self.respond(body, sessionID: sessionID)
        }
        self.startEvents(sessionID: sessionID)
        self.finishEvents(with: body)
    }

    /// The upstream session that the last attempt went in.
    var sessionState: StatusReading.Session {
        guard self.sentSessionID != nil, let upstreamSession else { return .none }
        return upstreamSession === self.renewedSession ? .proven : .open
    }

    /// The upstream does not know the session, or maybe not: it is opened again with the same credential and the message,
    /// which did not run, sent again (contract §4); a second time it is over.
    func sessionLost(isCertain: Bool) {
        self.abandonUpstream()
        self.isOverUpstream = true
        guard self.sessionState == .open, let upstreamSession, let lostID = self.sentSessionID else {
            return self.sessionOver()
        }
        self.phase = .waiting
        self.isSessionInDoubt = !isCertain
        let exchange = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        let binding = self.binding
        SessionOpening.reopen(
            upstreamSession,
            lost: lostID,
            isCertain: isCertain,
            self.http,
            of: self.upstream,
            on: self.loop
        ) { opened, isFirst in
            if isFirst, case .open = opened, case .shared(let caller) = binding {
                caller.session(upstreamSession.slot)?.renewed()
            }
            exchange.value.sessionReopened(opened, isFirst: isFirst)
        }
    }

    private func sessionReopened(_ opened: HTTPUpstreamSession.Opened, isFirst: Bool) {
        self.isSessionInDoubt = false
        guard case .waiting = self.phase, !self.isGone else { return }
        switch opened {
        case .open:
            self.renewedSession = self.upstreamSession
            self.forgetCollected()
            self.goOn()
        case .kept:
            // What was refused is the message, or its credential for this message.
            let status = self.answer.status
            switch StatusReading(status: status, body: self.readBody(), session: .proven) {
            case .answer: self.answered(with: status)
            case .credentialRefused: self.credentialRefused()
            case .sessionLost, .sessionInDoubt, .failure: self.failed(status)
            }
        case .refused where self.answer.status == 401:
            self.credentialRefused()
        case .refused(let status):
            self.refused(with: status, as: .rejected, isCounted: isFirst)
        case .failed where self.movesOn(), .over where self.movesOn():
            break
        case .failed, .over:
            self.sessionOver()
        }
    }

    /// The caller's session ends; told so, the caller opens a new one (protocol §1.1).
    func sessionOver() {
        // Another unit may serve the session by now, to which this means nothing.
        if let session, session.upstream !== self.upstream { return self.fail(.upstreamIsGone(executed: .no)) }
        if let session {
            if case .shared(let caller) = self.binding { caller.session(self.slot)?.lost(self.upstreamSession) }
            if !session.isLegacy { self.gateway.sessions.close(session, on: self.loop) }
        }
        self.refuse(status: 404, code: -32_600, "session not found: initialize again", outcome: .sessionLost)
        // The stream of such a caller is all that it has: this answer, and those of its other calls, come there first.
        if let session, session.isLegacy { session.endWhenIdle() }
    }
}
