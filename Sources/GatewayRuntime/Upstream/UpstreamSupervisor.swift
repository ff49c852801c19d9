// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewaySession
import Logging
import NIOCore
import Synchronization

/// Keeps what is known of one upstream true: probes it at the start, again while it is not usable, and when it was
/// idle for long (`pingInterval`, `autoReconnect`, `reconnectInterval`: contract §2).
final class UpstreamSupervisor: Sendable {
    private struct Waiter: Sendable {
        let eventLoop: any EventLoop
        let resume: @Sendable () -> Void
    }

    let upstream: Upstream
    private let driver: EraProbeDriver
    private let logger: Logger
    private let waiters = Mutex<[Waiter]>([])
    private let alarm = Alarm()

    init(_ upstream: Upstream, _ http: HTTPAccess, on loop: GatewayLoop, limits: Limits, logger: Logger) {
        self.upstream = upstream
        self.driver = EraProbeDriver(upstream: upstream, http: http, loop: loop, limits: limits)
        self.logger = logger
    }

    /// Looks again now; `resume` is called on `eventLoop` when that is done.
    func probeNow(on eventLoop: any EventLoop, _ resume: @escaping @Sendable () -> Void) {
        self.waiters.withLock { $0.append(Waiter(eventLoop: eventLoop, resume: resume)) }
        self.alarm.ring()
    }

    /// Runs until the task is cancelled.
    ///
    /// `concluded` hears of the first verdict.
    func run(concluded: @Sendable (EraProbe.Verdict) -> Void) async {
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

    /// Returns nil if we could not ask: what was known of the upstream is still all that is known.
    private func probe() async -> EraProbe.Verdict? {
        defer { self.wakeWaiters() }
        guard let conclusion = await self.driver.run() else { return nil }
        if conclusion.verdict == .usable {
            self.upstream.learn { $0 = conclusion.eras }
            if self.driver.http.configuration.kind == .detect {
                self.upstream.foundTransport(isEventStream: conclusion.isEventStream)
            }
        }
        if let before = self.upstream.conclude(UpstreamVerdict(conclusion.verdict)), conclusion.verdict != .usable {
            self.logger.log(
                level: .warning,
                "upstream state changed",
                metadata: [
                    "upstream": "\(self.upstream.name)", "from": "\(before)",
                    "to": "\(UpstreamVerdict(conclusion.verdict))",
                    "versions": "\(conclusion.eras.supportedVersions.joined(separator: " "))",
                ]
            )
        }
        return conclusion.verdict
    }

    private func wakeWaiters() {
        let waiters = self.waiters.withLock { waiters in
            defer { waiters = [] }
            return waiters
        }
        for waiter in waiters { waiter.eventLoop.execute { waiter.resume() } }
    }

    /// Returns when it is time to probe: after a failure, when somebody asks, or when a ping found nobody.
    private func waitForNextProbe(failures: Int) async {
        let configuration = self.upstream.configuration
        while !Task.isCancelled {
            let delay: Duration?
            if failures > 0 {
                let backoff = Duration.seconds(1 << min(failures - 1, 10))
                delay = configuration.autoReconnect ? min(backoff, configuration.reconnectInterval) : nil
            } else {
                delay = configuration.pingInterval.map { $0 - self.idleTime }
            }
            guard await self.alarm.sleep(delay, on: self.driver.loop.eventLoop) else { return }
            guard failures == 0 else { return }
            guard let interval = configuration.pingInterval, self.idleTime >= interval else { continue }
            // A stream of messages shows by itself whether it lives.
            if case .link = self.upstream.route { continue }
            guard let answer = await self.driver.ping() else { return }
            // Whether another credential is accepted shows when all are tried.
            if answer == .unreachable || answer == .refused { return }
            self.upstream.conclude(.usable)
        }
    }

    private var idleTime: Duration { Duration(NIODeadline.now() - self.upstream.lastAnswered) }
}
