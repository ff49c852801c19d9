// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// The upstream session that a message goes in: the caller's own in each slot, or one that callers share.
extension HTTPExchange {
    /// Sends the message in the session that the caller has in the slot, which is opened if it has none there.
    func enterSession() {
        guard let session else { return self.connect() }
        if self.hasRouting, session.subscribesTooMuch(self.message) { return self.failed(.tooManySubscriptions) }
        guard let leg else { return self.connect() }
        leg.enter(self, session)
    }

    /// The session that the message waited for is open, or will not be.
    func sessionOpened(_ opened: HTTPUpstreamSession.Opened, isFirst: Bool) {
        guard self.call.machine.isOpening else { return }
        switch opened {
        case .open, .kept:
            self.connect()
        case .refused(let status):
            self.tell { $0.opened(.refused(status: status, isFirst: isFirst)) }
        case .failed where self.movesOn(isLost: false), .over where self.movesOn(isLost: false):
            break
        case .failed(let error):
            self.failed(error)
        case .over:
            self.tell { $0.opened(.over) }
        }
    }

    /// There is no session of the caller in the slot, and there will be none.
    func hasNoSession() {
        if !self.movesOn(isLost: false) { self.failed(.noSuchSlot) }
    }

    // MARK: Sessions that the upstream forgot

    /// The session is opened again with the same credential.
    func reopen(isCertain: Bool) {
        self.abandon()
        guard let upstreamSession, let lostID = self.sentSessionID else { return }
        let exchange = self.bound
        let leg = self.leg
        SessionOpening.reopen(
            upstreamSession,
            lost: lostID,
            isCertain: isCertain,
            self.http,
            of: self.upstream,
            on: self.loop
        ) { opened, isFirst in
            if isFirst, case .open = opened { leg?.renewed(upstreamSession) }
            exchange.value.sessionReopened(opened, isFirst: isFirst)
        }
    }

    private func sessionReopened(_ opened: HTTPUpstreamSession.Opened, isFirst: Bool) {
        guard self.call.machine.isReopening else { return }
        switch opened {
        // Only one that is lost is opened again, but it may be over for another reason.
        case .failed where self.movesOn(isLost: true), .over where self.movesOn(isLost: false): break
        default: self.tell { $0.reopened(CallMachine.Opening(opened, isFirst: isFirst)) }
        }
    }

    func sessionEnded() { self.leg?.lost(self.upstreamSession, in: self.slot) }
}

extension CallMachine.Opening {
    fileprivate init(_ opened: HTTPUpstreamSession.Opened, isFirst: Bool) {
        self =
            switch opened {
            case .open: .open
            case .kept: .kept
            case .refused(let status): .refused(status: status, isFirst: isFirst)
            case .failed(let error): .failed(executed: error.executed)
            case .over: .over
            }
    }
}
