// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewaySession
import NIOCore
import Synchronization

/// Keeps what is known of one upstream true: probes it at the start, again while it is not usable, and when it was
/// idle for long (`pingInterval`, `autoReconnect`, `reconnectInterval`: contract §2).
final class UpstreamSupervisor: UpstreamWatch {
    private struct Waiter: Sendable {
        let question: UpstreamQuestion
        let eventLoop: any EventLoop
        let resume: @Sendable () -> Void
    }

    private struct State {
        var waiters: [Waiter] = []
        /// Whether a call did not go well since the last look, and when one last made us look.
        var isDoubted = false
        var lastDoubt: NIODeadline?
        /// Until when a server that did not answer it is not asked again about the stateless era, and the time from one
        /// such question to the next.
        var openUntil: NIODeadline?
        var openPause = TimeAmount.zero
    }

    let upstream: Upstream
    private let driver: EraProbeDriver
    private let state = Mutex(State())
    private let alarm = Alarm()

    init(_ upstream: Upstream, _ http: HTTPAccess, on loop: LoopResources) {
        self.upstream = upstream
        self.driver = EraProbeDriver(upstream: upstream, http: http, loop: loop)
    }

    /// Looks again now, as far as the question needs it; `resume` is called on `eventLoop` when that is done.
    func look(for question: UpstreamQuestion, on eventLoop: any EventLoop, _ resume: @escaping @Sendable () -> Void) {
        let mustAsk = self.state.withLock { state in
            // Every caller of the stateless era wants to know it; the server is asked now and then.
            if question == .stateless, let openUntil = state.openUntil, .now() < openUntil { return false }
            state.waiters.append(Waiter(question: question, eventLoop: eventLoop, resume: resume))
            return true
        }
        guard mustAsk else { return eventLoop.execute(resume) }
        self.alarm.ring()
    }

    /// A call met something that a server that is well does not say: looks again soon, if that was long ago.
    func doubt() {
        guard self.upstream.settings.autoReconnect else { return }
        let now = NIODeadline.now()
        let isDue = self.state.withLock { state in
            if let last = state.lastDoubt, now - last < Self.doubtPause { return false }
            state.lastDoubt = now
            state.isDoubted = true
            return true
        }
        if isDue { self.alarm.ring() }
    }

    /// When it looks next is to be thought over.
    func settingsChanged() { self.alarm.ring() }

    private static let doubtPause = TimeAmount.seconds(5)

    /// Runs until the task is cancelled.
    ///
    /// `concluded` hears of the first verdict.
    func run(concluded: @escaping @Sendable (EraProbe.Verdict) -> Void) async {
        var failures = 0
        var isFirst = true
        while !Task.isCancelled {
            let verdict = await self.probe()
            if isFirst, let verdict {
                concluded(verdict)
                isFirst = false
            }
            failures = verdict == .usable ? 0 : failures + 1
            await self.waitForNextProbe(failures: failures)
        }
    }

    /// Whoever runs it cancels it.
    func end(within limit: TimeAmount) async {}

    /// Returns nil if we could not ask: what was known of the upstream is still all that is known.
    private func probe() async -> EraProbe.Verdict? {
        self.state.withLock { $0.isDoubted = false }
        defer { self.wakeWaiters() }
        guard let finding = await self.driver.run() else { return nil }
        let conclusion = finding.conclusion
        if let failure = finding.failure {
            self.upstream.conclude(UpstreamVerdict(conclusion.verdict), because: failure)
            return conclusion.verdict
        }
        self.upstream.learn { $0 = conclusion.eras }
        if self.driver.http.configuration.kind == .detect {
            self.upstream.foundTransport(isEventStream: conclusion.isEventStream)
        }
        self.upstream.conclude(.usable)
        self.heardOfStateless()
        return conclusion.verdict
    }

    /// Wakes those whose question was answered.
    private func wakeWaiters(of questions: Set<UpstreamQuestion> = [.all, .handshake, .stateless]) {
        let waiters = self.state.withLock { state in
            defer { state.waiters.removeAll { questions.contains($0.question) } }
            return state.waiters.filter { questions.contains($0.question) }
        }
        for waiter in waiters { waiter.eventLoop.execute { waiter.resume() } }
    }

    // MARK: One era

    /// What those want to know who wait; empty if nobody does, and everything if a call did not go well.
    private var questions: Set<UpstreamQuestion> {
        self.state.withLock { state in
            state.isDoubted ? [.all] : Set(state.waiters.map(\.question))
        }
    }

    private func ask(_ questions: Set<UpstreamQuestion>) async {
        defer { self.wakeWaiters(of: questions) }
        if questions.contains(.handshake) { await self.askAboutHandshake() }
        if questions.contains(.stateless) { await self.askAboutStateless() }
    }

    private func askAboutHandshake() async {
        guard self.upstream.eras.isHandshakeOpen, let answer = await self.driver.ask(aboutStateless: false) else {
            return
        }
        self.upstream.learn { if $0.isHandshakeOpen { $0.heard(toInitialize: answer) } }
    }

    private func askAboutStateless() async {
        guard self.upstream.eras.isStatelessOpen, let answer = await self.driver.ask(aboutStateless: true) else {
            return
        }
        self.upstream.learn { if $0.isStatelessOpen { $0.heard(toDiscover: answer) } }
        self.heardOfStateless()
    }

    /// A server that did not answer the question about the stateless era is asked again, less and less often: it may have
    /// been busy, and it may be one that never answers.
    private func heardOfStateless() {
        let isOpen = self.upstream.eras.isStatelessOpen
        let first = TimeAmount(self.upstream.settings.reconnectInterval)
        self.state.withLock { state in
            guard isOpen else {
                state.openUntil = nil
                state.openPause = .zero
                return
            }
            state.openPause = state.openPause == .zero ? first : min(state.openPause * 2, max(first, .minutes(10)))
            state.openUntil = .now() + state.openPause
        }
    }

    // MARK: The next look

    /// Returns when it is time to probe: after a failure, when somebody asks, or when a ping found nobody.
    private func waitForNextProbe(failures: Int) async {
        while !Task.isCancelled {
            let settings = self.upstream.settings
            let delay: Duration?
            if failures > 0 {
                let backoff = Duration.seconds(1 << min(failures - 1, 10))
                delay = settings.autoReconnect ? min(backoff, settings.reconnectInterval) : nil
            } else {
                delay = settings.pingInterval.map { $0 - self.idleTime }
            }
            guard await self.alarm.sleep(delay, on: self.driver.loop.eventLoop) else {
                let questions = self.questions
                // Who rang may have been answered by the look that ended just now.
                if questions.isEmpty { continue }
                guard failures == 0, !questions.contains(.all) else { return }
                await self.ask(questions)
                continue
            }
            guard failures == 0 else { return }
            guard let interval = settings.pingInterval, self.idleTime >= interval else { continue }
            // A stream of messages shows by itself whether it lives.
            if self.upstream.showsItsEnd { continue }
            // Whether another credential is accepted, and what else there is, shows when everything is asked.
            guard let isAlive = await self.driver.ping(), isAlive else { return }
            self.upstream.conclude(.usable)
        }
    }

    private var idleTime: Duration { Duration(NIODeadline.now() - self.upstream.lastAnswered) }
}
