// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import NIOCore

/// The way to one upstream for one caller: what carries the messages of the caller's session there (docs/decisions/0042-legs.md).
///
/// It is made when the session is bound to the upstream, and never for a call. What the kinds of upstream sessions do differently is
/// in the types that conform, and nowhere else. Used on every event loop.
protocol Leg: AnyObject, Sendable {
    /// Begins a call of the session; returns what works on it from now on, or nil if it was answered at once.
    func start(
        _ call: Call,
        _ calls: Calls,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)?

    /// The stream that the upstream has for this caller alone; nil where what comes unasked is brought on another way.
    var ownStream: OwnStream? { get }

    // MARK: Slots

    /// The caller's session is at home in another slot from now on: what it asked of the session as a whole is asked for there.
    ///
    /// Returns false, and asks for nothing, if there is no such slot.
    func settle(_ session: CallerSession, at slot: CredentialID, on loop: LoopResources) -> Bool
    /// The upstream session of a slot; nil without one.
    func upstreamSession(in slot: CredentialID) -> HTTPUpstreamSession?

    // MARK: Succession

    /// What another unit has to know before it serves the caller.
    var standing: CallerSession.Standing { get async }
    /// Another unit serves the caller from now on; returns what the caller asked of the one that did.
    func moved() async -> SessionBridge.Wishes
    /// What a caller says that another unit serves now; returns whether it is known to be about something that is under way
    /// here.
    func heard(_ message: CallerMessage, of session: CallerSession) -> Bool

    // MARK: The end

    /// The session is over; `completion` hears, anywhere, when the upstream has heard of it, or did not answer within `timeout`.
    func end(on loop: LoopResources, timeout: TimeAmount, _ completion: @escaping @Sendable () -> Void)
}

/// How what an upstream sends unasked to one caller is read: on the stream of a GET, in a session or in none.
struct OwnStream {
    let http: HTTPAccess
    /// The caller's sessions, of which each may have a stream; nil where there are none.
    let sessions: HTTPUpstreamSessions?
}

extension Leg {
    // Where nothing goes by slots, nothing moves.
    func settle(_ session: CallerSession, at slot: CredentialID, on loop: LoopResources) -> Bool { false }
    func upstreamSession(in slot: CredentialID) -> HTTPUpstreamSession? { nil }

    /// The session is over, and nobody waits until the upstream has heard of it.
    func end(on loop: LoopResources) { self.end(on: loop, timeout: .seconds(10)) {} }
}

extension CallerSession.Station {
    /// Ends what the session used there, within `limit`.
    func end(within limit: TimeAmount) async {
        guard let leg else { return }
        await withCheckedContinuation { continuation in
            self.upstream.home.eventLoop.execute {
                leg.end(on: self.upstream.home, timeout: limit) { continuation.resume() }
            }
        }
    }
}
