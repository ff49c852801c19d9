// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayStdio
import GatewayTransport
import GatewayWire
import Logging
import NIOCore

// MARK: - When

/// Opens the link: when it may, and what its upstream is asked then.
extension UpstreamLink {
    /// Tells `waiter` when the link is open, or why it is not.
    func whenOpen(_ waiter: @escaping Waiter) {
        switch self.state {
        case .open: return waiter(nil)
        case .over: return waiter(self.settings.gone)
        case .opening, .draining, .ending: self.waiters.append(waiter)
        case .idle:
            self.waiters.append(waiter)
            guard self.settings.kind.isSupervised else { return self.openAgain() }
            let postponed = self.postponed
            self.postponed = nil
            self.obey(postponed ?? self.supervisor.demanded(now: self.now))
            // It may be too early for another start.
            if case .idle = self.state { self.failWaitersUnlessSoon() }
        }
    }

    /// Opens a stream at once when it is wanted, but not all the time: a server may be back at any moment, and looking costs
    /// little.
    private func openAgain() {
        self.reopen(after: max(Self.shortestPause - (self.now - self.lastStart), .zero))
    }

    func reopen(after delay: Duration) {
        self.reopening?.cancel()
        guard delay > .zero else { return self.openChannel() }
        let link = self.handle
        self.reopening = self.loop.eventLoop.scheduleTask(in: TimeAmount(delay)) { link.value.openChannel() }
    }

    static let shortestPause = Duration.milliseconds(200)

    /// What ran will run again in a moment; what never came up is not waited for.
    private func failWaitersUnlessSoon() {
        let delay = self.supervisor.nextStart.map { $0 - self.now }
        if let delay, self.wasOpen, delay <= .seconds(2) { return }
        self.failWaiters(self.failure(retryAfter: delay))
    }

    func obey(_ action: ProcessSupervisor.Action) {
        switch action {
        case .spawn:
            self.openChannel()
        case .wait(let until):
            let delay = until - self.now
            self.failWaitersUnlessSoon()
            self.reopening?.cancel()
            let link = self.handle
            self.reopening = self.loop.eventLoop.scheduleTask(in: TimeAmount(max(delay, .milliseconds(1)))) {
                let link = link.value
                link.obey(link.supervisor.timerFired(now: link.now))
            }
        case .reportFailed:
            self.settings.logger.error(
                "upstream failed too often; it is tried again when somebody calls it",
                metadata: ["upstream": "\(self.upstream.name)"]
            )
            self.failWaiters(self.failure(retryAfter: nil))
        case .none:
            break
        }
    }

    /// Why the link is not open, for calls that meet it so.
    func failure(retryAfter delay: Duration?) -> GatewayError {
        var error = self.lastFailure ?? self.settings.gone
        error.executed = .no
        error.retryAfterMilliseconds = delay.map { Int($0.components.seconds) * 1000 + 1000 }
        return error
    }

    private func openChannel() {
        guard case .idle = self.state else { return }
        self.state = .opening
        if self.opening == nil { self.opening = LinkOpening.StateMachine(scope: self.scope) }
        if self.starts > 0, self.settings.kind.countsAsChild { self.upstream.metrics.childRestarts.increment() }
        self.starts += 1
        self.lastStart = self.now
        self.lastFault = nil
        self.refusals = []
        if self.sweepIndex < 0 { self.loop.sweeper.add(self) }
        let channel = self.settings.kind.makeChannel(of: self, after: self.lastCredential)
        if self.trialTime != nil { channel.isTrial = true }
        self.channel = channel
        channel.open()
    }
}

// MARK: - What is asked

extension UpstreamLink {
    func channelOpened() {
        guard case .opening = self.state else { return }
        if let owner {
            // The first time its caller's own `initialize` comes next; after that the caller knows nothing of a loss.
            guard let initialize = owner.initialize else { return self.opened() }
            return self.send(own: initialize, timeout: self.settings.openingTimeout) { [weak self] answer in
                guard let self, case .opening = self.state else { return }
                guard answer != nil else { return self.openingFailed(.silent) }
                self.channel?.send(ClientMessage.initialized) { _ in }
                self.opened()
            }
        }
        guard let action = self.opening?.started() else { return }
        self.obey(action)
    }

    private func obey(_ action: LinkOpening.Action) {
        switch action {
        case .sendDiscover:
            self.question = "server/discover"
            // swift-format-ignore: OnlyOneTrailingClosureArgument
            self.openingCall = self.send(
                own: { ClientMessage.discover(id: $0, self.settings.identity) },
                timeout: self.discoveryTimeout
            ) { [weak self] in self?.discovered($0) }
        case .sendInitialize:
            self.question = "initialize"
            let identity = self.settings.identity
            // swift-format-ignore: OnlyOneTrailingClosureArgument
            self.openingCall = self.send(
                own: { ClientMessage.initialize(id: $0, identity, capabilities: ClientMessage.sharedCapabilities) },
                timeout: self.settings.openingTimeout
            ) { [weak self] in self?.initialized($0) }
        case .openedHandshake:
            self.sharing = .shared
            self.scope = .handshake
            self.channel?.send(ClientMessage.initialized) { _ in }
            self.opened()
        case .openedStateless(let versions):
            self.upstream.learn { eras in
                eras.stateless = true
                eras.statelessVersions = versions
                // It was asked for the handshake first.
                if self.scope == .both { eras.handshake = false }
            }
            self.sharing = .stateless
            self.scope = .stateless
            self.bridge.becameStateless()
            self.opened()
        case .fail(let failure):
            self.openingFailed(failure)
        }
    }

    /// A trial has its own time; a process that has answered something is up, and any other may have to be downloaded first.
    private var discoveryTimeout: TimeAmount {
        self.trialTime ?? (self.scope == .both ? .seconds(10) : self.settings.openingTimeout)
    }

    private func discovered(_ message: ByteBuffer?) {
        self.answered(message) { message, envelope in
            if envelope.kind == .result, let versions = AnswerReader.supportedVersions(of: envelope, in: message) {
                return .discovered(versions: versions)
            }
            guard envelope.errorCode == -32_022 else { return .other }
            return .discovered(versions: AnswerReader.refusedVersions(of: envelope, in: message))
        }
    }

    private func initialized(_ message: ByteBuffer?) {
        self.answered(message) { message, envelope in
            guard let result = InitializeResult(message, envelope) else { return .other }
            guard result.hasHandshake else { return .initialized(version: result.version) }
            self.initializeResult = result
            self.upstream.learn { eras in
                eras.handshake = true
                eras.issuesSessions = true
                eras.handshakeVersions = [result.version]
            }
            return .initialized(version: result.version)
        }
    }

    /// Something came that was to be a message: nothing but the answer can have been meant, so it is not waited for as long.
    func openingSawFault() {
        guard case .opening = self.state, let call = self.openingCall else { return }
        self.openingCall = nil
        let link = self.handle
        self.loop.eventLoop.scheduleTask(in: Self.faultGrace) { link.value.endOwn(call, nil) }
    }

    private static let faultGrace = TimeAmount.seconds(2)

    private func answered(_ message: ByteBuffer?, _ read: (ByteBuffer, Envelope) -> LinkOpening.Answer) {
        guard case .opening = self.state else { return }
        var answer = LinkOpening.Answer.silence
        if let message, let envelope = AnswerReader.read(message, depth: self.loop.limits.jsonDepth) {
            answer = read(message, envelope)
            self.refusals.append("\(self.question)" + (envelope.errorCode.map { " with the error \($0)" } ?? ""))
        }
        guard let action = self.opening?.answered(answer) else { return }
        self.obey(action)
    }

    private func opened() {
        self.state = .open
        self.opening = nil
        self.openingTime = self.now - self.lastStart
        self.trialTime = nil
        self.channel?.isTrial = false
        self.obey(self.supervisor.becameReady(now: self.now))
        self.upstream.conclude(.usable)
        self.restoreSubscriptions()
        self.onOpened?()
        let waiters = self.waiters
        self.waiters = []
        for waiter in waiters { waiter(nil) }
    }

    /// What it says is not the protocol, or nothing came in time.
    private func openingFailed(_ failure: LinkOpening.Failure) {
        let fault = self.lastFault.map { self.settings.kind.text(of: $0.fault) }
        let text =
            switch failure {
            case .silent: "the server does not answer \(self.question)" + (fault ?? ": is it an MCP server?")
            case .refused: "the server refuses \(self.refusals.joined(separator: " and "))" + (fault ?? "")
            }
        // A refusal says more than that there is no answer.
        let error =
            self.openingFailure
            ?? GatewayError(
                self.settings.kind.reasonOfSilence,
                executed: .no,
                text,
                cause: "no_handshake"
            )
        if self.trialTime != nil { return self.endTrial(error) }
        self.openingFailure = error
        self.channel?.kill()
    }

    /// The upstream session that all share was opened anew: what callers asked it for is asked for again.
    private func restoreSubscriptions() {
        guard self.sharing == .shared else { return }
        self.ask(for: self.bridge.resources, self.bridge.severity)
    }

    /// A caller came from another unit with what it asked that for; a link that is not open yet asks for it when it opens.
    func came(_ caller: Int, with wishes: SessionBridge.Wishes) {
        let news = self.bridge.came(caller, with: wishes)
        if case .open = self.state { self.ask(for: news.resources, news.severity) }
    }

    private func ask(for resources: some Sequence<[UInt8]>, _ severity: LogSeverity?) {
        for uri in resources {
            // swift-format-ignore: OnlyOneTrailingClosureArgument
            self.send(own: { ClientMessage.subscription(.resourcesSubscribe, id: $0, uri: uri) }, timeout: .seconds(30))
            {
                _ in
            }
        }
        guard let severity else { return }
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        self.send(own: { ClientMessage.setLevel(severity, id: $0) }, timeout: .seconds(30)) { _ in }
    }
}
