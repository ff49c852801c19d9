// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// One session with us, and one upstream for each credential that it used: where what goes (credentials §2.9).
extension CallerSession {
    /// How the slot of one of its messages is found; nil where nothing of its session goes by slots.
    func choice(for message: CallerMessage, _ credentials: UpstreamCredentials) -> CredentialAttempts.Choice? {
        // Where there is one only, all go to it; what is asked of the session as a whole is kept for its successor.
        if credentials.count == 1, !message.method.belongsToSession, self.isSettled(at: credentials.revision) {
            return nil
        }
        let body = message.body
        let bytes = body.readableBytesUInt8Span
        let envelope = message.envelope
        let value =
            switch envelope.kind {
            case .request: nil as MessageIDValue?
            case .notification: (envelope.cancelledID ?? envelope.progressToken)?.value(in: bytes)
            case .result, .error: envelope.id?.value(in: bytes)
            }
        return self.withRouting { routing in
            let home = routing.choiceOfHome(credentials)
            switch envelope.kind {
            case .request:
                if credentials.affinity == .session || message.method.belongsToSession { return home }
                return .turn
            case .notification:
                guard let value else { return home }
                let slot =
                    message.method == .cancelledNotification
                    ? routing.slot(ofCall: value) : routing.slot(ofToken: value)
                return slot.map { .pinned($0) } ?? home
            case .result, .error:
                return value.flatMap { routing.slot(ofQuestion: $0) }.map { .pinned($0) } ?? home
            }
        }
    }

    /// Whether its home is in the list of credentials of this number, and was accepted last.
    private func isSettled(at revision: UInt64) -> Bool {
        self.withRouting { $0.isSettled(at: revision) } ?? true
    }

    /// How what belongs to the session as a whole finds its slot; nil where the upstream has no pool.
    func choiceOfHome(_ credentials: UpstreamCredentials) -> CredentialAttempts.Choice? {
        self.withRouting { $0.choiceOfHome(credentials) }
    }

    /// A message goes to a slot, after `previous` refused it, if any did; returns the bytes that the slot gets.
    func sending(_ message: CallerMessage, to slot: CredentialID, insteadOf previous: CredentialID?) -> ByteBuffer {
        let body = message.body
        let envelope = message.envelope
        guard let id = envelope.id, let value = envelope.idValue(in: body) else { return body }
        let literal = self.withRouting { routing -> [UInt8]? in
            guard envelope.isResponse else {
                routing.started(value, at: slot, insteadOf: previous)
                return nil
            }
            return routing.answered(value)?.literal
        }
        guard let literal = literal ?? nil, literal != message.bytes(id.range) else { return body }
        return body.edited([MessageEdit(id.range, literal)])
    }

    /// A request of its has its answer, which was sent to this slot last.
    func ended(_ message: CallerMessage, at slot: CredentialID) {
        guard message.isRequest, let value = message.envelope.idValue(in: message.body) else { return }
        self.withRouting { $0.ended(value, at: slot) }
    }

    /// A slot's session asks the caller something; returns the question under an id that no other has.
    private func asked(_ question: ByteBuffer, _ envelope: Envelope, by slot: CredentialID) -> ByteBuffer {
        guard let id = envelope.id, let value = envelope.idValue(in: question) else { return question }
        let literal = question.bytes(id.range)
        let token = envelope.progressToken?.value(in: question.readableBytesUInt8Span)
        let own = self.withRouting { $0.asked(value, literal: literal, token: token, by: slot) }
        guard let own = own ?? nil else { return question }
        return question.edited([MessageEdit(id.range, own)])
    }

    /// A message of a slot's session as its caller may see it: questions have ids that no other has.
    ///
    /// `depth` is `limits.jsonDepth`; what is deeper, or no message, stays as it is.
    func heard(_ message: ByteBuffer, by slot: CredentialID, depth: Int) -> ByteBuffer {
        guard self.withRouting({ _ in true }) == true, let envelope = AnswerReader.read(message, depth: depth) else {
            return message
        }
        return self.heard(message, envelope, by: slot)
    }

    /// A message that came on the stream of a slot other than the home as its caller may see it; nil: not at all, since it
    /// hears the same from its home, or nothing of the kind can come there.
    func heardAside(_ message: ByteBuffer, by slot: CredentialID, depth: Int) -> ByteBuffer? {
        guard let envelope = AnswerReader.read(message, depth: depth) else { return nil }
        let severity =
            envelope.method == .messageNotification
            ? envelope.severity(in: message.readableBytesUInt8Span)?.value : nil
        guard self.withRouting({ $0.hearsAside(envelope, severity: severity) }) == true else { return nil }
        return self.heard(message, envelope, by: slot)
    }

    func heard(_ message: ByteBuffer, _ envelope: Envelope, by slot: CredentialID) -> ByteBuffer {
        if envelope.kind == .request { return self.asked(message, envelope, by: slot) }
        guard envelope.method == .cancelledNotification, let id = envelope.cancelledID else { return message }
        let value = id.value(in: message.readableBytesUInt8Span)
        let literal = message.bytes(id.range)
        guard let own = self.withRouting({ $0.withdrawn(value, literal: literal, by: slot) }), let own else {
            return message
        }
        return message.edited([MessageEdit(id.range, own)])
    }

    /// Whether a message subscribes to more than is kept for a new home.
    func subscribesTooMuch(_ message: CallerMessage) -> Bool {
        guard message.method == .resourcesSubscribe, let name = message.envelope.name else { return false }
        let uri = name.decodedBytes(in: message.body.readableBytesUInt8Span)
        return self.withRouting { $0.canSubscribe(to: uri) } == false
    }

    /// What the caller asked of the session as a whole is kept for a new home.
    func remember(_ message: CallerMessage) {
        let body = message.body
        let uri = message.envelope.name?.decodedBytes(in: body.readableBytesUInt8Span)
        let severity =
            message.method == .loggingSetLevel
            ? message.envelope.severity(in: body.readableBytesUInt8Span)?.value : nil
        self.withRouting { routing in
            switch message.method {
            case .resourcesSubscribe: if let uri { routing.subscribed(to: uri) }
            case .resourcesUnsubscribe: if let uri { routing.unsubscribed(from: uri) }
            case .loggingSetLevel: if let severity { routing.leveled(severity) }
            default: break
            }
        }
    }
}

extension MCPMethod {
    /// Whether a request is about the session that it comes in, so that it goes to the home slot.
    fileprivate var belongsToSession: Bool {
        switch self {
        case .ping, .resourcesSubscribe, .resourcesUnsubscribe, .loggingSetLevel: true
        default: false
        }
    }
}

extension SlotRouting {
    /// Changes it where it is: taken out of its optional it would be copied.
    mutating func change<Result>(_ body: (inout SlotRouting) -> Result) -> Result { body(&self) }

    /// How what belongs home finds its slot: past a home that was refused, or removed.
    fileprivate mutating func choiceOfHome(_ credentials: UpstreamCredentials) -> CredentialAttempts.Choice {
        self.follow(credentials.revision) { credentials.contains($0) }
        return self.lastRefused.map { .after($0) } ?? .session(self.home)
    }
}
