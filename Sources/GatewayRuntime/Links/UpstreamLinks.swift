// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewaySession
import GatewayTransport
import GatewayWire
import Logging
import NIOCore

/// The links of one upstream that all callers share: one for each era that it speaks.
///
/// A process is locked to the era of its first request (protocol §3). The first one is asked for the handshake, at the
/// start, and serves the callers of the handshake era. The first caller of the stateless era has a second one started,
/// which is a trial: if it does not answer `server/discover`, or does not run beside the first, the program speaks the
/// handshake only, for as long as the gateway runs. Whatever becomes of it, the first goes on. Of two that run, one that
/// nobody uses is stopped (contract U2, decision 0018).
///
/// Confined to one event loop.
final class UpstreamLinks: Sweepable {
    private let upstream: Upstream
    private let settings: LinkSettings
    private let loop: LoopResources
    private var handshake: UpstreamLink?
    private var stateless: UpstreamLink?
    /// Those that were told to end and have not yet.
    private var ending: [ObjectIdentifier: UpstreamLink] = [:]
    private var handshakeUse = EraUse()
    private var statelessUse = EraUse()
    /// How long the program needs to start: what its first process needed.
    private var startTime = Duration.zero
    private let origin = NIODeadline.now()
    private var isOver = false
    var sweepIndex = -1

    /// What a process has to answer `server/discover`, beside the time that it needs to start.
    private static let trialTime = Duration.seconds(10)

    init(_ upstream: Upstream, settings: LinkSettings, on loop: LoopResources) {
        self.upstream = upstream
        self.settings = settings
        self.loop = loop
    }

    private var now: Duration { Duration(NIODeadline.now() - self.origin) }

    // MARK: For callers

    /// Opens the first link; where every caller has its own, it is closed again unless it is of the stateless era.
    func start(_ completion: @escaping (GatewayError?) -> Void) {
        guard !self.isOver else { return completion(self.settings.gone) }
        self.first().whenOpen(completion)
    }

    /// Finds or opens the link of an era; nil if the upstream does not speak it.
    func link(of era: CallerEra, _ completion: @escaping (Result<UpstreamLink?, GatewayError>) -> Void) {
        guard !self.isOver else { return completion(.failure(self.settings.gone)) }
        switch era {
        case .handshake: self.handshakeLink(completion)
        case .stateless: self.statelessLink(completion)
        }
    }

    private func handshakeLink(_ completion: @escaping (Result<UpstreamLink?, GatewayError>) -> Void) {
        guard self.upstream.eras.handshake != false else { return completion(.success(nil)) }
        self.handshakeUse.observe(isInUse: true, now: self.now)
        let link = self.first()
        link.whenOpen { error in
            completion(error.map(Result.failure) ?? .success(link.sharing == .shared ? link : nil))
        }
    }

    private func statelessLink(_ completion: @escaping (Result<UpstreamLink?, GatewayError>) -> Void) {
        guard self.upstream.eras.stateless != false else { return completion(.success(nil)) }
        self.statelessUse.observe(isInUse: true, now: self.now)
        if let stateless { return self.open(stateless, completion) }
        // Where every caller has its own process, none has to run for the question.
        let isHandshakeKnown = self.upstream.eras.handshake == true
        guard !isHandshakeKnown || self.upstream.isShared else { return self.open(self.beginTrial(), completion) }
        let first = self.first()
        first.whenOpen { [weak self] error in
            if let error { return completion(.failure(error)) }
            guard let self, !self.isOver else { return completion(.failure(first.settings.gone)) }
            if first.sharing == .stateless { return completion(.success(first)) }
            // Others that waited as well have the same trial.
            guard self.upstream.eras.stateless != false else { return completion(.success(nil)) }
            self.open(self.beginTrial(), completion)
        }
    }

    private func open(
        _ stateless: UpstreamLink,
        _ completion: @escaping (Result<UpstreamLink?, GatewayError>) -> Void
    ) {
        let upstream = self.upstream
        stateless.whenOpen { error in
            guard let error else { return completion(.success(stateless)) }
            completion(upstream.eras.stateless == false ? .success(nil) : .failure(error))
        }
    }

    // MARK: Processes

    /// The link that the upstream is started with: of the handshake era, unless it is known to speak the other one alone.
    private func first() -> UpstreamLink {
        if let handshake { return handshake }
        if self.upstream.eras.handshake == false { return self.stateless ?? self.makeStateless() }
        let isOpenToBoth = self.settings.kind.isOpenToBothEras && self.upstream.eras.handshake == nil
        let link = self.makeLink(isOpenToBoth ? .both : .handshake)
        self.handshake = link
        link.onOpened = { [weak self, weak link] in
            guard let self, let link, link === self.handshake else { return }
            self.startTime = link.openingTime
            if link.sharing == .stateless {
                (self.handshake, self.stateless) = (nil, link)
            } else if !self.upstream.isShared {
                // It was to find out what the program speaks; those who wait for it still hear that it is open.
                let links = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
                self.loop.eventLoop.execute { links.value.retireHandshake() }
            } else {
                self.beganToServe()
            }
        }
        return link
    }

    private func makeStateless(trialTime: TimeAmount? = nil) -> UpstreamLink {
        let link = self.makeLink(.stateless, trialTime: trialTime)
        self.stateless = link
        link.onOpened = { [weak self] in self?.beganToServe() }
        return link
    }

    /// Starts a process to find out whether the program speaks the stateless era, or finds the one that runs.
    private func beginTrial() -> UpstreamLink {
        if let stateless { return stateless }
        let link = self.makeStateless(trialTime: TimeAmount(Self.trialTime + self.startTime))
        link.onTrialFailed = { [weak self] error, lastErrors in self?.trialFailed(error, lastErrors) }
        return link
    }

    private func makeLink(_ scope: EraProbe.Scope, trialTime: TimeAmount? = nil) -> UpstreamLink {
        let link = UpstreamLink(
            self.upstream,
            settings: self.settings,
            scope: scope,
            trialTime: trialTime,
            on: self.loop
        )
        link.hasOpenSibling = { [weak self, weak link] in
            [self?.handshake, self?.stateless]
                .contains { other in
                    guard let other, other !== link, case .open = other.state else { return false }
                    return true
                }
        }
        return link
    }

    /// A second process was not what callers of the stateless era need, for whatever reason; the first goes on.
    private func trialFailed(_ error: GatewayError, _ lastErrors: Logger.MetadataValue?) {
        defer {
            if let link = self.stateless { self.retire(link) }
            self.stateless = nil
        }
        // What we had no descriptors for says nothing of the program.
        guard error.reason != .overloaded else { return }
        self.upstream.learn { $0.stateless = false }
        var metadata: Logger.Metadata = [
            "upstream": "\(self.upstream.name)", "cause": "\(error.cause)", "detail": "\(error.message)",
        ]
        if let lastErrors { metadata["stderr_tail"] = lastErrors }
        self.settings.logger.info("upstream does not speak 2026-07-28", metadata: metadata)
    }

    // MARK: The end of what nobody uses

    private func beganToServe() {
        guard self.handshake != nil, self.stateless != nil, self.sweepIndex < 0 else { return }
        self.loop.sweeper.add(self)
        self.sweep(now: .now())
    }

    func sweep(now: NIODeadline) {
        guard let handshake, let stateless, case .open = handshake.state, case .open = stateless.state else { return }
        let now = self.now
        self.handshakeUse.observe(isInUse: handshake.isInUse, now: now)
        self.statelessUse.observe(isInUse: stateless.isInUse, now: now)
        switch EraUse.spare(handshake: self.handshakeUse, stateless: self.statelessUse, now: now) {
        case .handshake: self.retireHandshake()
        case .stateless:
            self.stateless = nil
            self.retire(stateless)
        case nil: break
        }
    }

    private func retireHandshake() {
        guard let handshake else { return }
        self.handshake = nil
        self.handshakeUse = EraUse()
        self.retire(handshake)
    }

    private func retire(_ link: UpstreamLink) {
        if self.sweepIndex >= 0 { self.loop.sweeper.remove(self) }
        self.ending[ObjectIdentifier(link)] = link
        link.close { [weak self, weak link] in
            guard let link else { return }
            self?.ending[ObjectIdentifier(link)] = nil
        }
    }

    /// Ends all of them; `completion` hears when their upstreams are gone.
    func close(_ completion: @escaping () -> Void) {
        self.isOver = true
        let links = [self.handshake, self.stateless].compactMap(\.self) + Array(self.ending.values)
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
