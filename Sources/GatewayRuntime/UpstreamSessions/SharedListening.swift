// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// Reads the GET stream of a session that callers share, for as long as that is open.
///
/// There is one at a time for a session: it moves to the upstream session that takes the place of a lost one. Whoever
/// only listens must not miss that: the stream itself finds out that the session is lost, and has it opened again.
/// Confined to the home loop of the session.
final class SharedListening: ListeningOwner {
    private let session: SharedSession
    private let loop: LoopResources
    private var listening: UpstreamListening?
    private var isOver = false

    init(_ session: SharedSession, on loop: LoopResources) {
        self.session = session
        self.loop = loop
    }

    /// Listens to the upstream session `id`, from its beginning; `goOn` is called when it has been asked for.
    func restart(in id: String, fields: String, _ goOn: @escaping @Sendable () -> Void) {
        guard !self.isOver else { return goOn() }
        let before = self.listening
        self.listening = nil
        before?.end()
        let listening = UpstreamListening(
            self.session.http,
            of: self.session.upstream,
            slot: self.session.slot,
            session: id,
            fields: fields,
            after: before?.position,
            isOwn: true,
            owner: self,
            on: self.loop
        )
        self.listening = listening
        listening.start()
        listening.whenAnswered(goOn)
    }

    /// Listens no more.
    func end() {
        self.isOver = true
        self.listening?.end()
        self.listening = nil
    }

    func listeningBegan(_ listening: UpstreamListening) {}

    func listening(_ listening: UpstreamListening, heard message: ByteBuffer) {
        if let envelope = AnswerReader.read(message, depth: self.loop.limits.jsonDepth) {
            _ = self.session.route(message, envelope, along: nil)
        }
    }

    func listeningPaused(_ listening: UpstreamListening) {}

    func listening(_ listening: UpstreamListening, stopped stop: UpstreamListening.Stop) {
        guard !self.isOver, listening === self.listening else { return }
        switch stop {
        case .interrupted, .gone:
            break
        case .unavailable:
            // A server that never had it has none; one that had may have it again.
            if listening.hasStood { listening.askAgain() }
        case .refused(let status):
            self.refused(with: status, isCounted: true)
            listening.askAgain()
        case .lost:
            self.reopen(listening)
        }
    }

    private func refused(with status: Int, isCounted: Bool) {
        self.session.http.credentials?.refused(at: self.session.slot, with: status, isCounted: isCounted)
    }

    /// The upstream has forgotten the session.
    private func reopen(_ listening: UpstreamListening) {
        guard let own = self.session.session, let id = listening.session else { return listening.askAgain() }
        let shared = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        SessionOpening.reopen(
            own,
            lost: id,
            isCertain: true,
            self.session.http,
            of: self.session.upstream,
            on: self.loop
        ) { opened, isFirst in
            if isFirst, case .open = opened { shared.value.session.renewed() }
            shared.value.reopened(own, opened, isFirst: isFirst)
        }
    }

    private func reopened(_ own: HTTPUpstreamSession, _ opened: HTTPUpstreamSession.Opened, isFirst: Bool) {
        guard !self.isOver else { return }
        switch opened {
        case .open(let id), .kept(let id):
            // Ordinarily its stream was asked for before anybody was told.
            if self.listening?.session != id { self.restart(in: id, fields: own.origin.fields) {} }
        case .refused(let status):
            self.refused(with: status, isCounted: isFirst)
            self.session.lost(own)
        case .failed, .over:
            self.session.lost(own)
        }
    }
}
