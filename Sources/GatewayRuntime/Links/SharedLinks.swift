// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import NIOCore

/// The links of one upstream that all callers share, as every event loop sees them.
final class SharedLinks: UpstreamPart {
    private let upstream: Upstream
    let settings: LinkSettings
    /// Whether the upstream is reached by opening the first of them.
    private let opensAtStart: Bool
    /// Touched on the home loop only, where they are made when they are wanted.
    private let box: NIOLoopBoundBox<UpstreamLinks?>

    init(_ upstream: Upstream, _ kind: any LinkKind, opensAtStart: Bool) {
        self.upstream = upstream
        self.settings = LinkSettings(upstream, kind)
        self.opensAtStart = opensAtStart
        self.box = .makeBoxSendingValue(nil, eventLoop: upstream.home.eventLoop)
    }

    /// The links, made if there are none yet; asked for on the home loop.
    ///
    /// Of a unit that is over there are only such as are over.
    var links: UpstreamLinks {
        if let links = self.box.value { return links }
        let links = UpstreamLinks(self.upstream, settings: self.settings, on: self.upstream.home)
        if self.upstream.isOver { links.close {} } else { self.box.value = links }
        return links
    }

    /// Those that were made, if any were; asked for on the home loop.
    var made: UpstreamLinks? { self.box.value }

    /// Opens what all callers share; from then on that looks after itself.
    func run(concluded: @escaping @Sendable (EraProbe.Verdict) -> Void) async {
        guard self.opensAtStart else { return }
        let verdict: EraProbe.Verdict = await withCheckedContinuation { continuation in
            self.upstream.home.eventLoop.execute {
                self.links.start { continuation.resume(returning: Self.verdict($0)) }
            }
        }
        concluded(verdict)
    }

    private static func verdict(_ error: GatewayError?) -> EraProbe.Verdict {
        switch error?.reason {
        case nil: .usable
        case .credentialRejected?, .credentialsExhausted?: .rejected
        case .unreachable?, .outboundProxy?, .upstreamClosed?, .upstreamTimeout?, .overloaded?: .unreachable
        default: .unusable
        }
    }

    /// Children get the time that it takes to end those that do not listen.
    func end(within limit: TimeAmount) async {
        await withCheckedContinuation { continuation in
            self.upstream.home.eventLoop.execute {
                guard let links = self.box.value else { return continuation.resume() }
                self.box.value = nil
                links.close { continuation.resume() }
            }
        }
    }
}

extension Upstream {
    /// The links that callers share; nil for an upstream that is never a stream of messages, and for one that is over.
    var sharedLinks: SharedLinks? { self.part(SharedLinks.self) }
}
