// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import GatewayWire
import Logging
import NIOCore

/// A caller's session whose home slot was refused finds a new home: the next slot that is accepted (credentials §2.9).
extension Calls {
    /// A slot's credential was accepted to a session, on the leg `leg`.
    func accepted(
        _ slot: CredentialID,
        by session: CallerSession,
        _ leg: any Leg,
        _ http: HTTPAccess,
        on loop: LoopResources
    ) {
        let station = session.station
        // What came of a call of a unit that was replaced says nothing of the one that serves the session now.
        guard station.leg === leg else { return }
        let upstream = station.upstream
        let (isNewHome, isBack) = session.withRouting { ($0.accepted(slot), $0.returned(slot)) } ?? (false, false)
        guard isNewHome else { return isBack ? session.slotReturned(slot) : () }
        let position = http.position(of: slot).map(String.init) ?? ""
        self.logger.info("session moved", metadata: ["upstream": "\(upstream.name)", "to": "\(position)"])
        guard leg.settle(session, at: slot, on: loop) else { return }
        session.movedHome()
        self.compareTools(of: session, upstream, http, leg.upstreamSession(in: slot), slot: slot, on: loop)
    }

    /// Tells the caller if the tools are others than those that it knows.
    private func compareTools(
        of session: CallerSession,
        _ upstream: Upstream,
        _ http: HTTPAccess,
        _ upstreamSession: HTTPUpstreamSession?,
        slot: CredentialID,
        on loop: LoopResources
    ) {
        let known = session.toolsDigest
        guard known != 0 else { return }
        UpstreamCall.send(
            http,
            of: upstream,
            slot: slot,
            on: loop,
            body: ClientMessage.list(.tools, id: ClientMessage.homeID),
            session: upstreamSession?.id,
            fields: upstreamSession?.origin.fields ?? "",
            timeout: .seconds(30)
        ) { result in
            guard case .success(let answer) = result,
                let digest = AnswerReader.resultDigest(of: answer.body, answer.envelope), digest != known
            else { return }
            session.toolsDigest = digest
            session.deliver(ClientMessage.listChanged(.tools))
        }
    }
}

extension CallerSession {
    /// The caller has a list of tools, the first page of it.
    func listed(_ answer: ByteBuffer, _ message: CallerMessage, depth: Int) {
        let body = message.body
        let cursor = message.envelope.params.flatMap {
            Envelope.member("cursor", at: $0.lowerBound, in: body.readableBytesUInt8Span)
        }
        guard cursor == nil, let digest = AnswerReader.resultDigest(of: answer, AnswerReader.read(answer, depth: depth))
        else { return }
        self.toolsDigest = digest
    }
}

extension AnswerReader {
    /// A number that is the same for equal results, and never 0; nil if the message is no result.
    ///
    /// `envelope` is that of the message, if it is one.
    static func resultDigest(of message: ByteBuffer, _ envelope: Envelope?) -> Int? {
        guard let result = envelope?.result else { return nil }
        var hasher = Hasher()
        hasher.combine(message.bytes(result))
        let digest = hasher.finalize()
        return digest == 0 ? 1 : digest
    }
}
