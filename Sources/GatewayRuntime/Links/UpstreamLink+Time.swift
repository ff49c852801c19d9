// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import GatewayTransport
import Logging
import NIOCore

/// What happens as time passes: callers that are slow, and an upstream that says nothing.
extension UpstreamLink: Sweepable {
    /// Callers that do not take what is for them hold up the upstream, but where others wait only for a while.
    func isSlow(_ call: Int64, _ isSlow: Bool) {
        if !isSlow {
            self.slowCallers.remove(call)
        } else if self.calls[call] != nil {
            // One whose answer is on its way to it holds up nobody, and nobody would say that it takes messages again.
            self.slowCallers.add(call, now: .now())
        }
        self.resumeReading()
    }

    /// Reads the channel, or does not, as callers take what is for them.
    func resumeReading() {
        let patience: TimeAmount? = self.sharing == .exclusive ? nil : SlowCallers.patience
        let isPaused = self.transit.isFull || self.slowCallers.holdsUp(now: .now(), patience: patience)
        if let channel, channel.isReadingPaused != isPaused { channel.isReadingPaused = isPaused }
    }

    func sweep(now: NIODeadline) {
        if !self.slowCallers.isEmpty { self.resumeReading() }
        self.age(now: now)
        guard case .open = self.state, self.owner == nil, let channel, !channel.isReadingPaused,
            self.liveness.asks(lastByte: self.time(of: channel.lastReceived), now: self.time(of: now))
        else { return }
        let identity = self.settings.identity
        let isStateless = self.sharing == .stateless
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        self.send(
            own: { isStateless ? ClientMessage.discover(id: $0, identity) : ClientMessage.ping(id: $0) },
            timeout: .seconds(10)
        ) { [weak self] answer in
            guard let self else { return }
            guard answer == nil, let channel = self.channel, case .open = self.state else {
                return self.liveness.answered()
            }
            let lastByte = self.time(of: channel.lastReceived)
            guard self.liveness.unanswered(lastByte: lastByte, isBusy: self.isBusy, now: self.now) else { return }
            self.settings.logger.warning(
                "upstream does not answer a ping and is restarted",
                metadata: ["upstream": "\(self.upstream.name)"]
            )
            self.restart()
        }
    }

    /// Whether there is a reason for its silence: a call that it is at work on, or that we do not read what it says.
    private var isBusy: Bool { self.bridge.isWorking || self.channel?.isReadingPaused == true }
}
