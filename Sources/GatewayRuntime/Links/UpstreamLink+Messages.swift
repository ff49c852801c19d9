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
        switch envelope.kind {
        case .result, .error: self.received(answer: message, envelope)
        case .request: self.received(question: message, envelope)
        case .notification: self.received(notification: message, envelope)
        }
    }

    func channelPaused() {
        let calls = self.unflushed
        self.unflushed.removeAll(keepingCapacity: true)
        for call in calls { self.calls[call]?.execute { $0.flush() } }
    }

    private func received(answer message: ByteBuffer, _ envelope: Envelope) {
        self.timeoutsInARow = 0
        guard let id = envelope.id, let value = envelope.idValue(in: message) else { return }
        switch self.bridge.answered(value) {
        case .unknown:
            self.settings.logger.debug("answer to no call", metadata: ["upstream": "\(self.upstream.name)"])
        case .own(let call):
            self.endOwn(call, message)
        case .answer(let call, let literal):
            self.upstream.conclude(.usable)
            self.written.remove(call)
            self.slowCallers.remove(call)
            self.resumeReading()
            guard let exchange = self.calls.removeValue(forKey: call) else { return }
            defer { self.endIfDrained() }
            var edits = [MessageEdit(id.range, literal)]
            if self.sharing == .stateless, let range = AnswerReader.subscriptionID(of: envelope, in: message) {
                edits.append(MessageEdit(range, literal))
            }
            let answer = message.edited(edits)
            self.hand(answer, to: exchange) { $0.received(answer, as: .answer) }
        }
    }

    /// Gives a caller's call a message, on the caller's event loop.
    private func hand(
        _ message: ByteBuffer,
        to exchange: NIOLoopBound<LinkExchange>,
        _ body: @escaping @Sendable (LinkExchange) -> Void
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
    func deliver(_ message: ByteBuffer, to caller: Int) -> Bool {
        guard let session = self.callers[caller] else { return false }
        let count = message.readableBytes
        let transit = self.transit
        if transit.left(count) { self.resumeReading() }
        return session.deliver(message) { transit.arrived(count) }
    }

    private func received(question message: ByteBuffer, _ envelope: Envelope) {
        guard let id = envelope.id, let value = envelope.idValue(in: message), let method = envelope.method else {
            return
        }
        let literal = message.bytes(id.range)
        if method == .ping {
            self.channel?.send(ClientMessage.emptyResult(literal)) { _ in }
            return
        }
        let token = envelope.progressToken?.value(in: message.readableBytesUInt8Span)
        let asking = self.bridge.asked(method, id: value, literal: literal, token: token)
        guard case .ask(let caller, let call, let number) = asking else {
            self.channel?.send(ClientMessage.methodNotFound(literal)) { _ in }
            return
        }
        let question = message.edited([MessageEdit(id.range, number)])
        if let call, let exchange = self.calls[call] {
            self.unflushed.insert(call)
            let link = self.handle
            self.hand(question, to: exchange) { exchange in
                guard !exchange.received(question, as: .message) else { return }
                link.execute { $0.askElsewhere(question, number, to: caller) }
            }
        } else if !self.deliver(question, to: caller) {
            self.undelivered(number)
        }
    }

    private func received(notification message: ByteBuffer, _ envelope: Envelope) {
        let bytes = message.readableBytesUInt8Span
        switch envelope.method {
        case .progressNotification:
            guard let token = envelope.progressToken, let own = self.bridge.progressed(token.value(in: bytes)) else {
                return
            }
            let progress = message.edited([MessageEdit(token.range, own.token)])
            self.unflushed.insert(own.call)
            if let exchange = self.calls[own.call] {
                self.hand(progress, to: exchange) { $0.received(progress, as: .progress) }
            }
        case .cancelledNotification:
            guard let id = envelope.cancelledID, let own = self.bridge.cancelled(id.value(in: bytes)) else { return }
            // The question may have gone to where its caller listens.
            self.deliver(message.edited([MessageEdit(id.range, own.id)]), to: own.audience, orElsewhere: true)
        case .messageNotification:
            let severity = AnswerReader.severity(of: envelope, in: message)?.value
            self.deliver(message, to: self.bridge.logged(severity))
        case .subscriptionsAcknowledgedNotification where self.sharing == .stateless,
            .tasksNotification where self.sharing == .stateless:
            self.deliverSubscribed(message, envelope)
        case .toolsListChangedNotification, .promptsListChangedNotification, .resourcesListChangedNotification,
            .resourcesUpdatedNotification:
            if self.sharing == .stateless { return self.deliverSubscribed(message, envelope) }
            if envelope.method == .resourcesUpdatedNotification {
                let uri = envelope.name.map { $0.decodedBytes(in: bytes) }
                return self.deliver(message, to: uri.map { self.bridge.updated($0) } ?? .nobody(isLogged: false))
            }
            self.deliver(message, to: self.bridge.listChanged)
        default:
            if envelope.subscriptionID != nil { return self.deliverSubscribed(message, envelope) }
            self.deliver(message, to: self.bridge.unknownNotification)
        }
    }

    /// What belongs to a `subscriptions/listen`: its caller knows it under its own id.
    private func deliverSubscribed(_ message: ByteBuffer, _ envelope: Envelope) {
        guard let id = envelope.subscriptionID,
            case .integer(let call) = id.value(in: message.readableBytesUInt8Span),
            let literal = self.bridge.literal(of: call)
        else { return }
        self.deliver(message.edited([MessageEdit(id.range, literal)]), to: .call(call))
    }

    /// `orElsewhere`: a caller that does not take it beside the answer to its call gets it where it listens.
    private func deliver(_ message: ByteBuffer, to audience: SessionBridge.Audience, orElsewhere: Bool = false) {
        switch audience {
        case .call(let call):
            self.unflushed.insert(call)
            if let exchange = self.calls[call] {
                self.hand(message, to: exchange) { $0.received(message, as: .message) }
            }
        case .caller(let caller, let call):
            if let call, let exchange = self.calls[call] {
                self.unflushed.insert(call)
                let link = self.handle
                self.hand(message, to: exchange) { exchange in
                    guard !exchange.received(message, as: .message), orElsewhere else { return }
                    link.execute { $0.deliver(message, to: caller) }
                }
            } else {
                self.deliver(message, to: caller)
            }
        case .callers(let callers):
            for caller in callers { self.deliver(message, to: caller) }
        case .nobody(let isLogged):
            guard isLogged else { return }
            self.settings.logger.debug(
                "upstream log message",
                metadata: [
                    "upstream": "\(self.upstream.name)",
                    "text": "\(String(decoding: message.readableBytesView.prefix(500), as: UTF8.self))",
                ]
            )
        }
    }

    private func receivedGarbage(_ message: ByteBuffer) {
        let fault = MessageFault(of: message.readableBytesUInt8Span)
        self.lastFault = (fault, self.now)
        if MessageFault.wasMessage(message.readableBytesUInt8Span) { self.openingSawFault() }
        // Once of each kind: a program that prints at all prints often.
        self.settings.logger.log(
            level: self.upstream.saw(fault) ? .warning : .debug,
            self.settings.isProcess ? "standard output has a line that is no message" : "event is no message",
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
