// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// What the caller of a call is told in the end: the upstream's answer, an error of the gateway, or nothing any more.
extension Exchange {
    /// Tells the caller how its call ended.
    func tell(_ reason: CallMachine.Reason, _ leg: any CallLeg) {
        switch reason {
        case .answered, .answeredHere:
            leg.sendAnswer()
        case .answeredWithFailure:
            self.outcome = .upstreamError
            leg.sendAnswer()
        case .relayed:
            self.reply.finish()
        case .taken:
            self.reply.respond(status: 202, body: nil) { _ in }
        case .fault(let fault, let executed):
            self.fail(self.error(fault, executed, leg))
        case .sessionOver(let executed):
            self.endSession(executed, leg)
        case .takenBack:
            self.refuse(200, -32_800, "cancelled", .clientGone)
        case .broken(let isTimeout):
            self.outcome = CallOutcome(isTimeout ? .upstreamTimeout : .upstreamClosed)
            if !isTimeout { self.upstream.metrics.failures.increment(.upstreamClosed) }
            self.reply.reset()
        case .callerLeft(let isReset):
            self.outcome = .clientGone
            if isReset { self.reply.takeResponder()?.reset() }
        case .callerIsSlow:
            self.outcome = .slowReader
            self.reply.reset()
        case .listeningEnded:
            guard let id = self.message.idBytes else { return }
            self.beginEvents(fields: EventText.appendFields)
            self.reply.finish(with: ClientMessage.listenCompleted(id))
        }
    }

    /// The session of the call is over; told so, its caller opens a new one (protocol §1.1).
    private func endSession(_ executed: GatewayError.Executed, _ leg: any CallLeg) {
        // Another unit may serve the session by now, to which this means nothing.
        if let session, session.upstream !== self.upstream { return self.fail(.upstreamIsGone(executed: executed)) }
        if let session {
            leg.sessionEnded()
            if !session.isLegacy { self.calls.sessions.close(session, on: self.loop) }
        }
        self.refuse(404, -32_600, "session not found: initialize again", .sessionLost)
        // The stream of such a caller is all that it has: this answer, and those of its other calls, come there first.
        if let session, session.isLegacy { session.endWhenIdle() }
    }

    /// `executed` is whether the message can have run.
    private func error(
        _ fault: CallMachine.Fault,
        _ executed: GatewayError.Executed,
        _ leg: any CallLeg
    ) -> GatewayError {
        switch fault {
        case .queueFull:
            let text = "too many calls run at this server; try again"
            return GatewayError(.overloaded, executed: executed, text, cause: "queue")
        case .timedOut:
            let text = "no complete answer within the timeout of this server" + leg.timeoutDetail
            return GatewayError(.upstreamTimeout, executed: executed, text, cause: "response_timeout")
        case .noRoom:
            return .noRoom(executed: executed)
        case .drained where self.calls.isDraining:
            return GatewayError(.overloaded, executed: executed, "the gateway stops", cause: "draining")
        case .drained, .upstreamGone:
            return .upstreamIsGone(executed: executed)
        default:
            var error = (fault == .reported ? self.reported : nil) ?? leg.error(fault)
            error.executed = executed
            return error
        }
    }

    /// Answers with an error of the gateway.
    private func fail(_ error: GatewayError) {
        var error = error
        if error.statuses.isEmpty { error.attempts = max(self.machine.attempts, 1) }
        self.outcome = CallOutcome(error.reason)
        self.calls.report(error, upstream: self.upstream, method: self.message.method)
        self.reply.end(with: ErrorAnswer.body(error, upstream: self.upstream.name, id: self.message.idBytes)) {
            ErrorAnswer.send(error, to: $0, upstream: self.upstream, message: self.message)
        }
    }

    /// Answers with an error of ours that is not about the upstream.
    func refuse(_ status: Int, _ code: Int, _ text: String, _ outcome: CallOutcome) {
        self.outcome = outcome
        let body = ErrorAnswer.body(code: code, message: text, id: self.message.idBytes)
        self.reply.end(with: body) { _ in
            self.reply.respond(status: status, json: body)
            return status
        }
    }

    /// Answers an `initialize` for whose session there is no place.
    func refuseSession() {
        self.outcome = CallOutcome(.overloaded)
        self.reply.respond(status: 503, json: ErrorAnswer.tooManySessions(id: self.message.idBytes)) {
            $0.writeStaticString("Retry-After: 5\r\n")
        }
    }
}
