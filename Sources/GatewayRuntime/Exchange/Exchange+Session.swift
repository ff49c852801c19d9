// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore

/// Handshake sessions: opened by `initialize`, opened again when the upstream forgot them, never shown its ids.
extension Exchange {
    /// The upstream answered `initialize`. Only a success with a session id opens a session (protocol §2 C19).
    func initialized(_ body: ByteBuffer, _ envelope: Envelope) {
        let version = AnswerReader.protocolVersion(of: envelope, in: body)
        guard envelope.kind == .result else { return self.sendInitialized(body, sessionID: nil) }
        self.upstream.learn { eras in
            eras.handshake = true
            eras.issuesSessions = self.answer.sessionID != nil
            // Callers may ask for older ones; the newest says most.
            if let version, version > eras.handshakeVersions.first ?? "" { eras.handshakeVersions = [version] }
        }
        guard let upstreamID = self.answer.sessionID else { return self.sendInitialized(body, sessionID: nil) }
        let session = CallerSession(
            id: self.gateway.sessions.makeID(),
            principal: self.principal,
            revision: version.flatMap(ProtocolRevision.init(rawValue:)),
            initialize: self.message.body,
            upstreamID: upstreamID
        )
        let isOpen = self.responder != nil
            && self.gateway.sessions.open(session) { self.gateway.end($0, on: self.loop) }
        guard isOpen else {
            self.gateway.end(session, on: self.loop)
            self.gateway.count(rejected: .sessions)
            self.reply(
                status: 503,
                json: ErrorAnswer.body(code: -31009, message: "too many sessions; try again later", id: self.message.idBytes)
            ) { $0.writeStaticString("Retry-After: 5\r\n") }
            return self.finish(CallOutcome(.overloaded))
        }
        self.upstream.metrics.sessions.add(1)
        self.sendInitialized(body, sessionID: session.id.text)
    }

    private func sendInitialized(_ body: ByteBuffer, sessionID: String?) {
        guard self.answer.mediaType == .eventStream else { return self.respond(body, sessionID: sessionID) }
        self.startEvents(sessionID: sessionID)
        self.sendEvent(Array(body.readableBytesView))
        self.responder?.finish()
        self.finish(.ok)
    }

    /// 404 to a request with a session: it was not processed, so the session is opened again and the request sent again
    /// (contract §4); a second time it is over.
    func sessionLost() {
        self.connection?.cancel()
        self.connection = nil
        guard let session, let lostID = self.sentSessionID, !self.isSessionRenewed else { return self.sessionOver() }
        self.isSessionRenewed = true
        self.phase = .waiting
        let exchange = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        let waiter = CallerSession.Waiter(eventLoop: self.loop.eventLoop) { id in
            if id == nil { exchange.value.sessionOver() } else { exchange.value.resume() }
        }
        switch session.lost(id: lostID, waiter: waiter) {
        case .retry: self.resume()
        case .wait: break
        case .over: self.sessionOver()
        case .renew:
            SessionRenewal.run(session, upstream: self.upstream, on: self.loop) { id in
                waiter.resume(id)
            }
        }
    }

    /// The caller's session ends; told so, the caller opens a new one (protocol §1.1).
    private func sessionOver() {
        if let session { self.gateway.end(session, on: self.loop) }
        self.refuse(status: 404, code: -32_600, "session not found: initialize again", outcome: .sessionLost)
    }

    /// A `tools/list` answer without the tools that the filter hides; nil if it cannot be read.
    func filtered(_ body: ByteBuffer, _ envelope: Envelope) -> ByteBuffer? {
        guard let filter = self.upstream.configuration.toolFilter, envelope.kind == .result else { return body }
        do {
            let removals = try ToolCatalogue.removals(in: body.readableBytesUInt8Span) { filter.admits($0) }
            guard let removals else { return body }
            var filtered = self.loop.buffer(capacity: body.readableBytes)
            var index = body.readerIndex
            for range in removals {
                let end = body.readerIndex + range.lowerBound
                if let kept = body.viewBytes(at: index, length: end - index) { filtered.writeBytes(kept) }
                index = body.readerIndex + range.upperBound
            }
            if let kept = body.viewBytes(at: index, length: body.writerIndex - index) { filtered.writeBytes(kept) }
            return filtered
        } catch {
            return nil
        }
    }
}
