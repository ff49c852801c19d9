// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewaySession
import GatewayWire
import NIOCore

/// The links of one upstream that all callers share: one for each era that it speaks.
///
/// The first is opened at the start, to find out what the upstream speaks; a process is locked to the era of its first
/// request, so the other era gets a link of its own when a caller wants it (protocol §3). Confined to one event loop.
final class UpstreamLinks {
    private let upstream: Upstream
    private let settings: LinkSettings
    private let loop: GatewayLoop
    private var first: UpstreamLink?
    private var second: UpstreamLink?
    private var isOver = false

    init(_ upstream: Upstream, settings: LinkSettings, on loop: GatewayLoop) {
        self.upstream = upstream
        self.settings = settings
        self.loop = loop
    }

    /// Opens the first link; where every caller has its own, it is closed again unless it is of the stateless era.
    func start(_ completion: @escaping (GatewayError?) -> Void) {
        let link = self.openFirst()
        link.whenOpen { error in
            completion(error)
            if error == nil, link.sharing == .shared, self.upstream.configuration.isolation == .session {
                self.first = nil
                link.close()
            }
        }
    }

    private func openFirst() -> UpstreamLink {
        if let first { return first }
        let scope: EraProbe.Scope =
            switch self.upstream.configuration.protocolPin {
            case .auto: self.settings.isProcess ? .both : .handshake
            case .handshake: .handshake
            case .stateless: .stateless
            }
        let link = UpstreamLink(self.upstream, settings: self.settings, scope: scope, on: self.loop)
        self.first = link
        return link
    }

    /// Finds or opens the link of an era.
    func link(of era: CallerEra, _ completion: @escaping (Result<UpstreamLink, GatewayError>) -> Void) {
        guard !self.isOver else { return completion(.failure(self.settings.gone)) }
        let wanted: SessionBridge.Sharing = era == .stateless ? .stateless : .shared
        let first = self.openFirst()
        first.whenOpen { error in
            if let error { return completion(.failure(error)) }
            if first.sharing == wanted { return completion(.success(first)) }
            let second = self.openSecond(era)
            second.whenOpen { error in completion(error.map(Result.failure) ?? .success(second)) }
        }
    }

    private func openSecond(_ era: CallerEra) -> UpstreamLink {
        if let second { return second }
        let link = UpstreamLink(
            self.upstream,
            settings: self.settings,
            scope: era == .stateless ? .stateless : .handshake,
            on: self.loop
        )
        self.second = link
        return link
    }

    /// Ends all of them; `completion` hears when their upstreams are gone.
    func close(_ completion: @escaping () -> Void) {
        self.isOver = true
        let links = [self.first, self.second].compactMap(\.self)
        var left = links.count
        guard left > 0 else { return completion() }
        for link in links {
            link.close {
                left -= 1
                if left == 0 { completion() }
            }
        }
    }
}
