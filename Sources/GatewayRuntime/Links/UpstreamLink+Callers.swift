// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayWire
import Logging
import NIOCore

/// What callers send, and what becomes of it.
extension UpstreamLink {
    /// Sends a caller's message; the exchange hears what becomes of it.
    ///
    /// `caller` is nil in the stateless era, where every request stands alone.
    ///
    /// `isAgain`: its session was unknown to the upstream, so that it did not run.
    func send(
        _ message: CallerMessage,
        of caller: Int?,
        for exchange: NIOLoopBound<LinkExchange>,
        _ claim: SendClaim,
        isAgain: Bool = false
    ) {
        // As if it were refused: what is in flight ends on the channel, and this waits for the next one.
        if self.channel?.isCredentialGone == true { self.channelRefused() }
        guard case .open = self.state, let channel else {
            return self.whenOpen { error in
                if let error {
                    exchange.execute { $0.failed(error) }
                } else {
                    self.send(message, of: caller, for: exchange, claim, isAgain: isAgain)
                }
            }
        }
        if let caller, self.callers[caller] == nil {
            let gone = self.settings.gone
            return exchange.execute { $0.failed(gone) }
        }
        switch message.envelope.kind {
        case .request:
            // Its call may have been given up while the link was opened.
            guard isAgain || claim.take() else { return }
            self.request(message, caller, exchange, claim, channel, isAgain: isAgain)
        case .notification, .result, .error:
            guard let body = self.oneWay(message, of: caller) else { return exchange.execute { $0.taken() } }
            self.sendOneWay(body, exchange, channel)
        }
    }

    private func request(
        _ message: CallerMessage,
        _ caller: Int?,
        _ exchange: NIOLoopBound<LinkExchange>,
        _ claim: SendClaim,
        _ channel: any LinkChannel,
        isAgain: Bool
    ) {
        let envelope = message.envelope
        guard let id = envelope.id, let value = envelope.idValue(in: message.body) else { return }
        if self.sharing == .shared, let caller, self.answersHere(message, caller, exchange) { return }
        let token = envelope.progressToken.map { message.bytes($0.range) }
        // A request of the stateless era is a caller of its own.
        let call = self.bridge.requested(
            by: caller ?? self.takeStatelessCaller(),
            id: value,
            literal: message.bytes(id.range),
            token: token,
            isListening: message.isListening
        )
        var edits = [MessageEdit(id.range, call)]
        if let range = envelope.progressToken?.range { edits.append(MessageEdit(range, call)) }
        if self.sharing == .shared, let caller, let edit = self.leveled(message, caller) { edits.append(edit) }
        self.calls[call] = exchange
        // A POST may have been read to its end before it is answered; a line that is in the pipe is known to be.
        let isOnItsWay = !self.settings.isProcess
        if isOnItsWay { self.written.insert(call) }
        exchange.execute { [credential = channel.credential] exchange in
            exchange.became(call, with: credential)
        }
        channel.send(message.body.edited(edits), isCallers: true) { [weak self] sending in
            switch sending {
            case .sent:
                guard let self, self.calls[call] != nil else { return }
                self.written.insert(call)
            case .failed(let error):
                guard let self, self.forget(call, mayStillRun: error.executed != .no && error.status != 404) else {
                    return
                }
                if error.status == 404, !isAgain, !error.isOfMessageAlone {
                    return self.sendAgain(message, caller, exchange, claim)
                }
                exchange.execute { $0.failed(error) }
            }
        }
    }

    /// The upstream forgot the session of its stream: it is opened anew, and the message sent there (protocol C19).
    private func sendAgain(
        _ message: CallerMessage,
        _ caller: Int?,
        _ exchange: NIOLoopBound<LinkExchange>,
        _ claim: SendClaim
    ) {
        exchange.execute { $0.attempts += 1 }
        self.channel?.close()
        self.send(message, of: caller, for: exchange, claim, isAgain: true)
    }

    /// In a shared session some requests are about what is kept here; true if the caller has its answer.
    private func answersHere(_ message: CallerMessage, _ caller: Int, _ exchange: NIOLoopBound<LinkExchange>) -> Bool {
        let uri = message.envelope.name.map { $0.decodedBytes(in: message.body.readableBytesUInt8Span) }
        switch message.method {
        case .resourcesSubscribe:
            guard let uri, !self.bridge.subscribed(caller, to: uri) else { return false }
            exchange.execute { $0.failed(.tooManySubscriptions) }
            return true
        case .resourcesUnsubscribe:
            guard let uri, !self.bridge.unsubscribed(caller, from: uri), let id = message.idBytes else { return false }
            let answer = ClientMessage.emptyResult(id)
            exchange.execute { $0.received(answer, as: .answer) }
            return true
        default:
            return false
        }
    }

    /// The level that a shared session is set to: what the most curious of its callers wants.
    private func leveled(_ message: CallerMessage, _ caller: Int) -> MessageEdit? {
        guard message.method == .loggingSetLevel,
            let level = AnswerReader.severity(of: message.envelope, in: message.body)
        else { return nil }
        let lowest = self.bridge.leveled(caller, level.value)
        return MessageEdit(level.range, Array(#""\#(lowest.rawValue)""#.utf8))
    }

    /// A notification or a response as the upstream gets it; nil if it is about nothing that is under way here, or was for
    /// the gateway alone.
    private func oneWay(_ message: CallerMessage, of caller: Int?) -> ByteBuffer? {
        let body = message.body
        guard message.envelope.kind == .notification else { return self.response(message, of: caller) }
        switch message.method {
        case .cancelledNotification:
            // Whatever it names that is not in flight needs no stopping (faults F104).
            guard let caller, let id = message.envelope.cancelledID,
                let call = self.bridge.cancelled(by: caller, id: id.value(in: body.readableBytesUInt8Span))
            else { return nil }
            self.calls[call]?.execute { $0.wasCancelled() }
            return body.edited([MessageEdit(id.range, call)])
        case .initializedNotification where self.sharing == .shared,
            .rootsListChangedNotification where self.sharing == .shared:
            // The session was initialized by us, and its roots are nobody's in particular.
            return nil
        case .progressNotification:
            return self.isAsked(caller, message) ? body : nil
        default:
            return body
        }
    }

    private func response(_ message: CallerMessage, of caller: Int?) -> ByteBuffer? {
        guard let caller, let id = message.envelope.id, let value = message.envelope.idValue(in: message.body),
            let literal = self.bridge.responded(by: caller, id: value)
        else { return nil }
        return message.body.edited([MessageEdit(id.range, literal)])
    }

    /// Whether the progress that a caller reports is that of something that it was asked.
    private func isAsked(_ caller: Int?, _ message: CallerMessage) -> Bool {
        guard let caller, let token = message.envelope.progressToken else { return false }
        return self.bridge.isAsked(caller, token: token.value(in: message.body.readableBytesUInt8Span))
    }

    /// What a caller says that another unit serves now, of something that is under way here or there.
    func heard(_ message: CallerMessage, of caller: Int) {
        guard let channel, let body = self.oneWay(message, of: caller) else { return }
        channel.send(body, isCallers: true) { _ in }
    }

    private func sendOneWay(
        _ body: ByteBuffer,
        _ exchange: NIOLoopBound<LinkExchange>,
        _ channel: any LinkChannel
    ) {
        channel.send(body, isCallers: true) { sending in
            switch sending {
            case .sent: exchange.execute { $0.taken() }
            case .failed(let error): exchange.execute { $0.failed(error) }
            }
        }
    }

    /// The caller does not wait for its answer any more; `isTold`: the upstream is told to stop.
    func withdraw(_ call: Int64, reason: StaticString, isTold: Bool) {
        guard self.forget(call, mayStillRun: true) else { return }
        self.liveness.abandonedCall(now: self.now)
        if isTold { self.tellCancelled(call, reason: reason) }
    }

    /// An upstream that does not answer several calls in a row is stuck (faults F83).
    func timedOut(_ call: Int64, isTold: Bool) {
        if self.forget(call, mayStillRun: true), isTold { self.tellCancelled(call, reason: "timeout") }
        self.restartIfStuck()
    }

    private func tellCancelled(_ call: Int64, reason: StaticString) {
        self.channel?.send(ClientMessage.cancelled(Array("\(call)".utf8), reason: reason)) { _ in }
    }

    private func restartIfStuck() {
        self.timeoutsInARow += 1
        guard self.timeoutsInARow >= 3, self.settings.isProcess else { return }
        self.timeoutsInARow = 0
        self.settings.logger.warning(
            "upstream does not answer and is restarted",
            metadata: ["upstream": "\(self.upstream.name)"]
        )
        self.restart()
    }

    /// Nobody waits for a call any more; false if it is over already.
    ///
    /// `mayStillRun`: the upstream may go on with it.
    private func forget(_ call: Int64, mayStillRun: Bool) -> Bool {
        self.written.remove(call)
        self.slowCallers.remove(call)
        self.resumeReading()
        guard self.calls.removeValue(forKey: call) != nil else { return false }
        defer { self.endIfDrained() }
        if mayStillRun { return self.bridge.withdraw(call) }
        return self.bridge.answered(.integer(call)) != .unknown
    }

    /// A question could not go with the answer to a call: its caller is asked where it listens, if it does.
    func askElsewhere(_ question: ByteBuffer, _ number: Int64, to caller: Int) {
        guard self.bridge.isOpen(question: number) else { return }
        if !self.deliver(question, to: caller) { self.undelivered(number) }
    }

    /// A question could not be given to its caller after all.
    func undelivered(_ question: Int64) {
        guard let literal = self.bridge.undelivered(question) else { return }
        self.channel?.send(ClientMessage.methodNotFound(literal)) { _ in }
    }
}
