// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayModel
import GatewayObservability
import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore

/// Handshake sessions: opened by `initialize`, opened again when the upstream forgot them, never shown its ids.
extension Exchange {
    /// The upstream answered `initialize`.
    ///
    /// Only a success with a session id opens a session (protocol §2 C19).
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
            if self.isHalfClosed { self.gateway.endUnlessUsed(session, on: self.loop) }
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
                slotCount: self.http.slotCount,
                origin: SessionOrigin(
                    revision: revision,
                    initialize: self.message.body,
                    forwarded: self.principal.forwarded
                )
            )
        }
        let home = sessions != nil && self.http.slotCount > 1 ? self.slot : nil
        if let session {
            // A caller of the old transport has its session already.
            guard session.bind(.http(sessions), revision: revision, home: home) else {
                self.gateway.endUpstream(.http(sessions), of: self.upstream, on: self.loop)
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
            buffers: self.gateway.buffers
        )
        _ = session.bind(.http(sessions), revision: revision, home: home)
        guard self.responder != nil, self.gateway.open(session, on: self.loop) else {
            self.gateway.end(session, on: self.loop)
            self.gateway.count(rejected: .sessions)
            self.reply(status: 503, json: ErrorAnswer.tooManySessions(id: self.message.idBytes)) {
                $0.writeStaticString("Retry-After: 5\r\n")
            }
            self.finish(CallOutcome(.overloaded))
            return .refused
        }
        return .open(session)
    }

    private func sendInitialized(_ body: ByteBuffer, sessionID: String?) {
        guard self.answer.mediaType == .eventStream, !self.isMessageWise else {
            return self.respond(body, sessionID: sessionID)
        }
        self.startEvents(sessionID: sessionID)
        self.finishEvents(with: body)
    }

    /// 404 to a request with a session: it was not processed, so the session is opened again and the request sent again
    /// (contract §4); a second time it is over.
    func sessionLost() {
        self.abandonUpstream()
        self.isOverUpstream = true
        guard let upstreamSession, let lostID = self.sentSessionID, !self.isSessionRenewed else {
            return self.sessionOver()
        }
        self.isSessionRenewed = true
        self.phase = .waiting
        let exchange = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        let waiter = HTTPUpstreamSession.Waiter(eventLoop: self.loop.eventLoop) { opened, _ in
            if case .open = opened { exchange.value.goOn() } else { exchange.value.sessionOver() }
        }
        switch upstreamSession.lost(id: lostID, waiter: waiter) {
        case .retry: self.goOn()
        case .wait: break
        case .over: self.sessionOver()
        case .renew:
            SessionOpening.run(upstreamSession, self.http, of: self.upstream, on: self.loop) {
                [binding = self.session?.binding] opened in
                if case .open = opened, case .shared(let caller)? = binding {
                    caller.session(upstreamSession.slot)?.renewed()
                }
                waiter.resume(opened, true)
            }
        }
    }

    /// The caller's session ends; told so, the caller opens a new one (protocol §1.1).
    func sessionOver() {
        if let session {
            if case .shared(let caller) = session.binding { caller.session(self.slot)?.lost(self.upstreamSession) }
            if !session.isLegacy { self.gateway.end(session, on: self.loop) }
        }
        self.refuse(status: 404, code: -32_600, "session not found: initialize again", outcome: .sessionLost)
        // The stream of such a caller is all that it has: this answer, and those of its other calls, come there first.
        if let session, session.isLegacy { session.endWhenIdle() }
    }
}
