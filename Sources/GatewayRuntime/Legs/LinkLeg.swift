// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import NIOCore

/// A stream of messages, a child or an HTTP+SSE stream, its own or one that callers share, in which it is one caller.
final class LinkLeg: Leg {
    private let link: LinkHandle
    /// The number of the caller in the link.
    private let caller: Int
    private let settings: LinkSettings
    /// Whether others use the link as well.
    private let isShared: Bool

    init(_ link: LinkHandle, _ settings: LinkSettings, caller: Int, isShared: Bool) {
        self.link = link
        self.settings = settings
        self.caller = caller
        self.isShared = isShared
    }

    func start(
        _ call: Call,
        _ calls: Calls,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        calls.start(call, self.link, self.settings, caller: self.caller, isShared: self.isShared, responder)
    }

    /// What comes unasked comes on the link.
    var ownStream: OwnStream? { nil }

    // MARK: Succession

    var standing: CallerSession.Standing {
        get async {
            await self.link.asked { [caller = self.caller] link in
                CallerSession.Standing(
                    capabilities: link.bridge.capabilities(of: caller),
                    lastNumber: link.bridge.lastNumber
                )
            }
        }
    }

    func moved() async -> SessionBridge.Wishes {
        await self.link.asked { [caller = self.caller] in $0.bridge.moved(caller) }
    }

    func heard(_ message: CallerMessage, of session: CallerSession) -> Bool {
        self.link.execute { [caller = self.caller] in $0.heard(message, of: caller) }
        return false
    }

    // MARK: The end

    func end(on loop: LoopResources, timeout: TimeAmount, _ completion: @escaping @Sendable () -> Void) {
        self.link.execute { [caller = self.caller] link in
            guard link.sharing == .exclusive else {
                link.leave(caller)
                return completion()
            }
            link.close { completion() }
        }
    }
}
