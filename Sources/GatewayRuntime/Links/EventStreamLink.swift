// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewayWire
import Logging
import NIOCore

/// A link that is a stream of the HTTP+SSE transport.
struct EventStreamLink: LinkKind {
    let http: HTTPAccess

    func makeChannel(of link: UpstreamLink, after last: LinkCredential?) -> any LinkChannel {
        SSEChannel(
            link.upstream,
            self.http,
            fields: link.owner?.fields ?? "",
            limits: link.loop.limits,
            buffers: link.upstream.buffers,
            credentials: self.credentials(isCallers: link.owner != nil, after: last),
            isShared: link.owner == nil,
            on: link.loop,
            delegate: link
        )
    }

    /// With which credential a stream is opened: for callers as their pool says; to find out whether the server is there,
    /// with the first that is accepted (credentials §2.3, §2.9).
    ///
    /// In turns nobody else moves on from what was refused here.
    private func credentials(isCallers: Bool, after last: LinkCredential?) -> CredentialFailover {
        guard let pool = self.http.credentials else { return CredentialFailover(nil, choosing: .home) }
        if let last, isCallers || last.wasOpen {
            guard pool.mode == .roundRobin else { return CredentialFailover(pool, choosing: .idle) }
            return CredentialFailover(pool, choosing: last.isRefused ? .after(last.slot) : .session(last.slot))
        }
        guard !isCallers else { return CredentialFailover(pool, choosing: .home) }
        var slots = pool.ids
        // Round the ring, from the last one or the one behind it on.
        if let last, let index = slots.firstIndex(of: last.slot) {
            let start = (index + (last.isRefused ? 1 : 0)) % slots.count
            slots = Array(slots[start...] + slots[..<start])
        }
        return CredentialFailover(looking: pool, at: slots)
    }

    func openingTimeout(_ limits: Limits) -> TimeAmount { TimeAmount(limits.connectTimeout) }

    var countsAsChild: Bool { false }
    var isSupervised: Bool { false }
    var isOpenToBothEras: Bool { false }
    /// A POST may have been read to its end before it is answered.
    var mayRunBeforeSent: Bool { true }

    var reasonOfEnd: GatewayError.Reason { .upstreamClosed }
    var reasonOfSilence: GatewayError.Reason { .unreachable }
    var verdictOnNonsense: UpstreamVerdict { .unusable }

    /// One credential was refused: another may do.
    func verdict(on error: GatewayError, wasOpen: Bool) -> UpstreamVerdict? {
        switch error.reason {
        case .credentialRejected, .credentialsExhausted: break
        case .upstreamClosed where error.cause == SSEChannel.refusedCause: break
        default: return nil
        }
        guard let pool = self.http.credentials else { return .rejected }
        return pool.areAllRefused || !wasOpen ? .rejected : .usable
    }

    var nonsense: Logger.Message { "event is no message" }

    func text(of fault: MessageFault) -> String {
        "; its stream has an event that is no MCP message, see the log"
    }
}
