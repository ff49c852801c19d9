// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import GatewayWire
import NIOCore

/// What a session takes along when another unit takes the place of the one that works for it.
extension CallerSession {
    /// What the other unit has to know before it serves the caller.
    struct Standing: Sendable {
        /// What the caller declared that it can be asked.
        var capabilities: Set<SessionBridge.Capability> = []
        /// The number that a call or a question got last where the session was.
        var lastNumber: Int64 = 0
    }

    /// Gives what the caller says of something that is under way, an answer or a cancellation, to the units where it was before:
    /// it may have come from there.
    ///
    /// Returns whether one of them is known to have been meant.
    func toldFormer(_ message: CallerMessage) -> Bool {
        guard message.isAboutWork else { return false }
        var isTaken = false
        for station in self.former { isTaken = station.leg?.heard(message, of: self) == true || isTaken }
        return isTaken
    }

    /// A message as units know it where the session was before: where that had several credentials, a question may have
    /// another id for the caller than there.
    func asFormer(_ message: CallerMessage) -> CallerMessage {
        guard message.envelope.isResponse, let id = message.envelope.id,
            let value = message.envelope.idValue(in: message.body),
            let literal = self.withRouting({ $0.literal(ofQuestion: value) }) ?? nil
        else { return message }
        let body = message.body.edited([MessageEdit(id.range, literal)])
        guard let envelope = AnswerReader.read(body, depth: self.upstream.jsonDepth) else { return message }
        return CallerMessage(envelope: envelope, era: message.era, body: body)
    }
}
