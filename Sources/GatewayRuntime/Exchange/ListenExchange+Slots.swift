// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// The streams of a caller's session in slots other than its home, and sessions that come and go under its streams.
extension ListenExchange {
    /// Listens in every slot in which the session has an upstream session.
    func listenElsewhere() {
        guard let sessions, self.session?.withRouting({ _ in true }) == true else { return }
        for own in sessions.slots where own.slot != self.slot {
            guard let id = own.id, self.isAccepted(own.slot) else { continue }
            self.join(own.slot, id: id)
        }
    }

    private func isAccepted(_ slot: CredentialID) -> Bool { self.session?.withRouting { !$0.isRefused(slot) } ?? true }

    /// A slot's session is open upstream, for the first time or again, and is not used yet: it is listened to first, so that
    /// what the upstream asks for the first call in it finds a stream.
    func opened(_ slot: CredentialID, id: String, _ goOn: @escaping @Sendable () -> Void) {
        guard self.isAtWork, !self.isAboutToListen(in: slot) else { return goOn() }
        self.restart(slot, id: id)
        let listening = slot == self.slot ? self.first : self.others[slot]
        if let listening { listening.whenAnswered(goOn) } else { goOn() }
    }

    /// A slot whose credential was refused is accepted again.
    func returned(_ slot: CredentialID) {
        guard self.isAtWork, slot != self.slot, let id = self.sessions?.session(slot)?.id else { return }
        self.join(slot, id: id)
    }

    /// The stream of another slot than the first one's does not stand.
    func stopped(_ listening: UpstreamListening, _ stop: UpstreamListening.Stop) {
        let slot = listening.slot
        guard self.others[slot] === listening else { return }
        switch stop {
        case .interrupted:
            break
        case .unavailable where listening.hasStood:
            listening.askAgain()
        case .unavailable, .gone:
            self.leave(slot)
        case .refused(let status):
            self.refusedElsewhere(slot, with: status, isCounted: true)
        case .lost:
            self.reopen(listening)
        }
    }

    private func refusedElsewhere(_ slot: CredentialID, with status: Int, isCounted: Bool) {
        self.leave(slot)
        self.session?.withRouting { $0.refused(slot) }
        self.http.credentials?.refused(at: slot, with: status, isCounted: isCounted)
    }

    /// The field lines of a GET that is in no session.
    var fieldsWithoutSession: String {
        var fields = ByteBuffer()
        if let revision = self.session?.revision {
            fields.writeString(revision.headerLine)
        } else if let version = self.request.value(.mcpProtocolVersion) {
            fields.writeStaticString("MCP-Protocol-Version: ")
            fields.writeBytes(version)
            fields.writeStaticString("\r\n")
        }
        self.request.appendForwarded(self.upstream.forwardHeaders, to: &fields)
        return String(buffer: fields)
    }

    // MARK: Sessions that the upstream forgot

    /// The upstream has forgotten the session of a stream: it is opened again, and its stream in it.
    func reopen(_ listening: UpstreamListening) {
        guard let id = listening.session, let own = self.sessions?.session(listening.slot) else {
            return listening.askAgain()
        }
        let listen = self.bound
        SessionOpening.reopen(own, lost: id, isCertain: true, self.http, of: self.upstream, on: self.loop) {
            opened,
            isFirst in
            listen.value.reopened(own.slot, opened, isFirst: isFirst)
        }
    }

    private func reopened(_ slot: CredentialID, _ opened: HTTPUpstreamSession.Opened, isFirst: Bool) {
        guard self.isAtWork else { return }
        let isFirstStream = slot == self.slot
        switch opened {
        case .open(let id), .kept(let id):
            // Ordinarily its stream was asked for before anybody was told.
            let listening = isFirstStream ? self.first : self.others[slot]
            if listening?.session != id { self.restart(slot, id: id) }
        case .refused(let status) where isFirstStream:
            self.refused(with: status, isCounted: isFirst)
        case .refused(let status):
            self.refusedElsewhere(slot, with: status, isCounted: isFirst)
        case .failed where !isFirstStream, .over where !isFirstStream:
            self.leave(slot)
        case .failed, .over:
            self.sessionOver()
        }
    }

    /// The session cannot come back: told so, the caller opens a new one (protocol §1.1).
    func sessionOver() {
        if let session {
            if session.isLegacy { session.endWhenIdle() } else { self.calls.sessions.close(session, on: self.loop) }
        }
        self.end()
    }
}
