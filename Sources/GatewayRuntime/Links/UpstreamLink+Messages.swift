// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayTransport
import GatewayWire
import Logging
import NIOCore

// MARK: - From the upstream

extension UpstreamLink {
    func channelReceived(_ message: ByteBuffer) {
        guard let envelope = AnswerReader.read(message, depth: self.loop.limits.jsonDepth) else {
            return self.receivedGarbage(message)
        }
        if envelope.isResponse { self.timeoutsInARow = 0 }
        switch self.bridge.delivery(message.readableBytesUInt8Span, envelope) {
        case .answer(let call, let edits): self.answered(call, message, edits)
        case .ownAnswer(let call): self.endOwn(call, message)
        case .answerToNoCall:
            self.settings.logger.debug("answer to no call", metadata: ["upstream": "\(self.upstream.name)"])
        case .caller(let recipient, let matter, let edits): self.deliver(message.edited(edits), to: recipient, matter)
        case .callers(let callers): for caller in callers { self.deliver(message, to: caller) }
        case .pong(let id): self.channel?.send(ClientMessage.emptyResult(id)) { _ in }
        case .refuse(let id): self.channel?.send(ClientMessage.methodNotFound(id)) { _ in }
        case .nobody(let isLogged): if isLogged { self.log(message) }
        }
    }

    func channelPaused() {
        let calls = self.unflushed
        self.unflushed.removeAll(keepingCapacity: true)
        for call in calls { self.calls[call]?.execute { $0.flush() } }
    }

    private func answered(_ call: Int64, _ message: ByteBuffer, _ edits: [MessageEdit]) {
        self.upstream.conclude(.usable)
        self.written.remove(call)
        self.slowCallers.remove(call)
        self.resumeReading()
        guard let exchange = self.calls.removeValue(forKey: call) else { return }
        defer { self.endIfDrained() }
        let answer = message.edited(edits)
        self.hand(answer, to: exchange) { $0.received(answer, as: .answer) }
    }

    /// Gives one caller what is for it alone: along its call, or where it listens.
    private func deliver(_ message: ByteBuffer, to recipient: MessageRouter.Recipient, _ matter: MessageRouter.Matter) {
        guard let call = recipient.call, let exchange = self.calls[call] else {
            if let caller = recipient.caller { self.deliver(message, toListener: caller, matter) }
            return
        }
        self.unflushed.insert(call)
        let link = self.handle
        self.hand(message, to: exchange) { exchange in
            guard !exchange.received(message, as: matter == .progress ? .progress : .message), matter.mayGoElsewhere,
                let caller = recipient.caller
            else { return }
            link.execute { $0.deliver(message, toListener: caller, matter) }
        }
    }

    /// Gives a caller what is for it alone where it listens; the upstream is told of a question that nobody gets.
    private func deliver(_ message: ByteBuffer, toListener caller: Int, _ matter: MessageRouter.Matter) {
        guard case .question(let number) = matter else {
            self.deliver(message, to: caller)
            return
        }
        guard self.bridge.isOpen(question: number), !self.deliver(message, to: caller),
            let literal = self.bridge.undelivered(number)
        else { return }
        self.channel?.send(ClientMessage.methodNotFound(literal)) { _ in }
    }

    /// Gives a caller's call a message, on the caller's event loop.
    private func hand(
        _ message: ByteBuffer,
        to exchange: NIOLoopBound<any CallSink>,
        _ body: @escaping @Sendable (any CallSink) -> Void
    ) {
        if exchange.eventLoop.inEventLoop { return body(exchange.value) }
        let count = message.readableBytes
        let transit = self.transit
        if transit.left(count) { self.resumeReading() }
        exchange.eventLoop.execute {
            body(exchange.value)
            transit.arrived(count)
        }
    }

    /// Gives a caller a message on the stream that it listens on; false if it has none.
    @discardableResult
    private func deliver(_ message: ByteBuffer, to caller: Int) -> Bool {
        guard let session = self.callers[caller] else { return false }
        let count = message.readableBytes
        let transit = self.transit
        if transit.left(count) { self.resumeReading() }
        return session.deliver(message) { transit.arrived(count) }
    }

    private func log(_ message: ByteBuffer) {
        self.settings.logger.debug(
            "upstream log message",
            metadata: [
                "upstream": "\(self.upstream.name)",
                "text": "\(String(decoding: message.readableBytesView.prefix(500), as: UTF8.self))",
            ]
        )
    }

    private func receivedGarbage(_ message: ByteBuffer) {
        let fault = MessageFault(of: message.readableBytesUInt8Span)
        self.lastFault = (fault, self.now)
        if MessageFault.wasMessage(message.readableBytesUInt8Span) { self.openingSawFault() }
        // Once of each kind: a program that prints at all prints often.
        self.settings.logger.log(
            level: self.upstream.saw(fault) ? .warning : .debug,
            self.settings.kind.nonsense,
            metadata: [
                "upstream": "\(self.upstream.name)", "kind": "\(fault.rawValue)",
                "line": .peer(message.readableBytesView, limit: Self.excerptBytes), "advice": "\(fault.advice)",
            ]
        )
        guard self.badLines.exceeds(at: .now()) else { return }
        self.settings.logger.warning(
            "upstream writes what is no message and is restarted",
            metadata: ["upstream": "\(self.upstream.name)"]
        )
        self.restart()
    }
}

// MARK: - Time

extension UpstreamLink: Sweepable {
    /// So much of what is no message is shown.
    private static let excerptBytes = 80

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
        let tuned = self.loop.settings(of: self.upstream)
        self.liveness.tune(interval: tuned.pingInterval, callTime: tuned.timeout)
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
