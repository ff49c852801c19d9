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
        for exchange: NIOLoopBound<any CallSink>,
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
        // Its call may have been given up while the link was opened.
        guard !message.isRequest || isAgain || claim.take() else { return }
        switch self.bridge.sending(message.body.readableBytesUInt8Span, message.envelope, of: caller) {
        case .request(let call, let edits):
            self.calls[call] = exchange
            if self.settings.kind.mayRunBeforeSent { self.written.insert(call) }
            exchange.execute { [credential = channel.credential] exchange in
                exchange.became(call, with: credential)
            }
            channel.send(message.body.edited(edits), isCallers: true) { [weak self] sending in
                guard let self, self.calls[call] != nil else { return }
                switch sending {
                case .sent:
                    self.written.insert(call)
                case .failed(let error):
                    guard self.forget(call, mayStillRun: error.executed != .no && error.status != 404) else { return }
                    if error.status == 404, !isAgain, !error.isOfMessageAlone {
                        return self.sendAgain(message, caller, exchange, claim)
                    }
                    exchange.execute { $0.failed(error) }
                }
            }
        case .oneWay(let edits, let cancelled):
            if let cancelled { self.calls[cancelled]?.execute { $0.wasCancelled() } }
            channel.send(message.body.edited(edits), isCallers: true) { sending in
                switch sending {
                case .sent: exchange.execute { $0.taken() }
                case .failed(let error): exchange.execute { $0.failed(error) }
                }
            }
        case .emptyResult:
            let answer = ClientMessage.emptyResult(message.idBytes ?? [])
            exchange.execute { $0.received(answer, as: .answer) }
        case .tooManySubscriptions:
            exchange.execute { $0.failed(.tooManySubscriptions) }
        case .taken:
            exchange.execute { $0.taken() }
        }
    }

    /// The upstream forgot the session of its stream: it is opened anew, and the message sent there (protocol C19).
    private func sendAgain(
        _ message: CallerMessage,
        _ caller: Int?,
        _ exchange: NIOLoopBound<any CallSink>,
        _ claim: SendClaim
    ) {
        exchange.execute { $0.isSentAgain() }
        self.channel?.close()
        self.send(message, of: caller, for: exchange, claim, isAgain: true)
    }

    /// What a caller says that another unit serves now, of something that is under way here or there.
    func heard(_ message: CallerMessage, of caller: Int) {
        guard let channel,
            case .oneWay(let edits, let cancelled) = self.bridge.sending(
                message.body.readableBytesUInt8Span,
                message.envelope,
                of: caller
            )
        else { return }
        if let cancelled { self.calls[cancelled]?.execute { $0.wasCancelled() } }
        channel.send(message.body.edited(edits), isCallers: true) { _ in }
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
        guard self.timeoutsInARow >= 3, self.settings.kind.isSupervised else { return }
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
}
