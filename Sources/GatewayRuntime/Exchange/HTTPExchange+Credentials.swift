// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// Credentials: the slot of each attempt, and what a refusal means (credentials §2.4, §2.9).
extension HTTPExchange {
    /// Takes the slot of the next attempt.
    func choose() {
        guard let pool = self.http.credentials else { return }
        if self.credentials == nil { self.credentials = pool.attempts(self.choice(in: pool)) }
        let slot = pool.begin(&self.credentials)
        if let slot { self.slot = slot }
        self.tell { $0.chosen(slot != nil) }
    }

    private func choice(in pool: UpstreamCredentials) -> CredentialAttempts.Choice {
        if self.message.method == .initialize { return .home }
        let choice = self.session?.choice(for: self.message, pool)
        self.hasRouting = choice != nil
        guard pool.count > 1 else { return choice ?? .turn }
        if let slot = pool.pinnedSlot(of: self.message) { return .pinned(slot) }
        return choice ?? (self.message.isRequest ? .turn : .idle)
    }

    /// Sends the message in the session of another credential if the one of this attempt was removed.
    ///
    /// `isLost`: where the session is opened again, whether the upstream is known not to have it. Returns whether that is
    /// so.
    func movesOn(isLost: Bool) -> Bool {
        guard let pool = self.http.credentials, !pool.contains(self.slot) else { return false }
        pool.release(&self.credentials, as: nil)
        if self.hasRouting { self.session?.withRouting { [slot] in $0.refused(slot) } }
        self.tell { $0.credentialRemoved(isLost: isLost) }
        return true
    }

    /// The upstream answered with a status from 200 to 299.
    func credentialAccepted() {
        guard let pool = self.http.credentials else { return }
        pool.succeeded(&self.credentials)
        guard self.hasRouting, let session else { return }
        session.remember(self.message)
        if let leg { self.calls.accepted(self.slot, by: session, leg, self.http, on: self.loop) }
    }

    /// The credential was refused: the pool says whether there may be another attempt.
    func judge(_ status: Int, _ refusal: CallMachine.Refusal) {
        self.abandon()
        guard let pool = self.http.credentials else { return }
        let (kind, isCounted) =
            switch refusal {
            case .answer: (self.answer.refusalKind(self.messageOfRefusal), true)
            case .opening(let isFirst): (RefusalKind.rejected, isFirst)
            }
        self.forgetBody()
        let answer = pool.refused(&self.credentials, with: status, as: kind, isCounted: isCounted)
        if self.hasRouting { self.session?.withRouting { [slot] in $0.refused(slot) } }
        if pool.areAllRefused {
            self.upstream.conclude(.rejected, because: .rejected(status: status, slot: self.usedSlot))
        } else {
            self.upstream.conclude(.usable)
        }
        self.tell { $0.judged(answer.verdict, status: status) }
    }

    /// The message that came with a refusal.
    private var messageOfRefusal: Envelope? {
        guard self.answer.mediaType == .json else { return nil }
        return AnswerReader.read(self.collected.bytes, depth: self.jsonDepth)
    }

    /// Remembers which slot made what an answer holds that can only be asked there.
    func pin(_ answer: ByteBuffer, _ envelope: Envelope?) {
        guard let pool = self.http.credentials, pool.count > 1 else { return }
        if self.message.method == .toolsList, self.hasRouting, let session {
            session.listed(answer, self.message, depth: self.jsonDepth)
        }
        guard self.message.canBePinned, AnswerReader.mayHavePins(answer),
            let envelope = envelope ?? AnswerReader.read(answer, depth: self.jsonDepth)
        else { return }
        pool.pin(AnswerReader.pinKeys(of: envelope, in: answer), to: self.slot)
    }
}
