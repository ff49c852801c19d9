// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import NIOCore

/// No session at all: each message goes to the upstream by itself, in an HTTP exchange of its own.
///
/// It is the leg of a caller that initialized where the upstream issues no sessions, and is known to us by an id all the same.
final class NoSessionLeg: Leg {
    private let http: HTTPAccess

    init(_ http: HTTPAccess) {
        self.http = http
    }

    func start(
        _ call: Call,
        _ calls: Calls,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        calls.start(call, self.http, nil, responder)
    }

    var ownStream: OwnStream? { OwnStream(http: self.http, sessions: nil) }

    // The upstream keeps nothing for its caller.
    var standing: CallerSession.Standing { CallerSession.Standing() }
    func moved() -> SessionBridge.Wishes { SessionBridge.Wishes() }
    func heard(_ message: CallerMessage, of session: CallerSession) -> Bool { false }

    func end(on loop: LoopResources, timeout: TimeAmount, _ completion: @escaping @Sendable () -> Void) { completion() }
}

/// How callers come to a streamable-HTTP upstream where each has a session of its own, or none.
struct HTTPEntrance: Entrance {
    let http: HTTPAccess

    var asksBeforeStateless: Bool { true }

    func start(
        _ call: Call,
        _ calls: Calls,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        calls.start(call, self.http, nil, responder)
    }

    /// What the upstream answers says whether there is a session.
    func initialize(
        _ call: Call,
        _ calls: Calls,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        calls.start(call, self.http, nil, responder)
    }

    func sharedPlace() async -> (any SharedPlace)? { nil }
}
