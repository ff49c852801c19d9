// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayModel
import GatewayPolicy
import GatewayTransport
import GatewayWire
import NIOCore

/// Answers that come as a stream of events (faults F20 to F28).
///
/// Whole events are passed on as the bytes that arrived, unless something in them is not the caller's: ids of events
/// that the upstream gave out, ids of messages in a session that callers share, or the framing, where the caller has a
/// stream of another kind.
extension Exchange {
    /// Sends the head of the stream.
    func startEvents(sessionID: String? = nil) {
        self.beginEvents { [fields = self.answer.fields] head in
            head.writeImmutableBuffer(fields)
            if let sessionID { head.writeString("Mcp-Session-Id: \(sessionID)\r\n") }
        }
    }

    func receiveEvents(_ bytes: ByteBuffer) {
        let isTaken = self.collected.append(bytes)
        if self.message.method == .initialize {
            // Nothing of it goes out before the answer, and a stream that goes on and on without one has none.
            self.drained += bytes.readableBytes
            guard self.drained <= self.responseBytes else {
                return self.fail(self.protocolFailure("the stream goes on and on without the answer", "too_large"))
            }
        }
        // Whole events that may go out, from the reader index on.
        var passed = 0
        reading: while case .events = self.phase {
            var rest = self.collected.bytes
            rest.moveReaderIndex(forwardBy: passed)
            switch isTaken ? self.eventDecoder.next(in: rest.readableBytesUInt8Span) : .tooLong {
            case .needsMore:
                break reading
            case .comment(let length):
                passed += length
            case .ignored(let length):
                self.pass(&passed)
                self.collected.consume(length)
            case .event(let event):
                switch self.judge(event, in: rest) {
                case .pass:
                    passed += event.length
                case .drop:
                    self.pass(&passed)
                    self.collected.consume(event.length)
                case .send(let message):
                    self.pass(&passed)
                    self.collected.consume(event.length)
                    self.sendEvent(message)
                case .replaced:
                    return
                case .last(nil):
                    passed += event.length
                    self.pass(&passed)
                    self.finishReply()
                    return self.finish(.ok)
                case .last(let message?):
                    self.pass(&passed)
                    return self.finishEvents(with: message)
                }
            case .tooLong:
                self.pass(&passed)
                self.fail(
                    self.protocolFailure("an event is larger than limits.eventBytes", "event_too_large", executed: .yes)
                )
            }
        }
        self.pass(&passed)
        // What is left is the beginning of an event: it must not keep a whole read alive.
        self.collected.settle()
        self.buffered(self.collected.count)
    }

    private func pass(_ count: inout Int) {
        if count > 0, let bytes = self.collected.take(count), self.hasStarted, !self.isMessageWise {
            self.relay(bytes)
        }
        count = 0
    }

    private enum Verdict {
        /// Goes on as the bytes that came.
        case pass
        /// It belongs to nobody here.
        case drop
        /// Goes on as a new event.
        case send(ByteBuffer)
        /// Something else was sent, or the exchange ended.
        case replaced
        /// The answer: the stream ends behind it; nil: as the bytes that came.
        case last(ByteBuffer?)
    }

    private func judge(_ event: SSEEvent, in bytes: ByteBuffer) -> Verdict {
        self.resumption.take(event, in: bytes)
        // Only what the stateless era sends passes untouched: there nobody takes a stream up again (protocol §1.2).
        let isRewritten =
            self.hasOwnEventIDs || self.isMessageWise || self.sharedCall != nil || !self.takesMessages
            || self.message.era == .handshake && (event.id != nil || event.retry != nil)
        // What is skipped shows its caller nothing, keeps no call alive, and counts among the bytes of the stream.
        guard let data = event.messageBytes(in: bytes) else { return .drop }
        guard let envelope = AnswerReader.read(data, depth: self.loop.limits.jsonDepth) else {
            self.fail(self.protocolFailure("an event is no JSON-RPC message", "bad_json", executed: .yes))
            return .replaced
        }
        switch envelope.kind {
        case .notification:
            if envelope.method == .progressNotification { self.progressed() }
            guard self.takesMessages else {
                self.notifyElsewhere(data, envelope)
                return .drop
            }
            guard isRewritten || self.hasRouting else { return .pass }
            guard let sharedCall else { return .send(self.heard(data, envelope)) }
            return sharedCall.along(data, envelope, isTaken: true).map(Verdict.send) ?? .drop
        case .request:
            // The stateless era has no requests of servers (protocol S11).
            if self.message.era == .stateless { return .drop }
            guard self.takesMessages else {
                self.askElsewhere(data, envelope)
                return .drop
            }
            guard isRewritten || self.hasRouting else { return .pass }
            guard let sharedCall else { return .send(self.heard(data, envelope)) }
            return sharedCall.along(data, envelope, isTaken: true).map(Verdict.send) ?? .drop
        case .result, .error:
            guard self.isAnswered(by: envelope, in: data) else { return .drop }
            self.isOverUpstream = true
            if self.message.method == .initialize {
                self.initialized(data, envelope)
                return .replaced
            }
            self.pin(data, envelope)
            guard let answer = self.forCaller(data, envelope) else { return .replaced }
            return .last(isRewritten || self.filtersTools ? answer : nil)
        }
    }

    /// A message of the upstream as its caller knows what it names, where several slots speak to one caller.
    private func heard(_ message: ByteBuffer, _ envelope: Envelope) -> ByteBuffer {
        guard self.hasRouting, let session else { return message }
        return session.heard(message, envelope, by: self.slot)
    }

    /// A notification beside the answer of a caller that takes none there: nobody gets it, but for those that it concerns as
    /// well, and for the end of a question that the caller has been asked elsewhere.
    private func notifyElsewhere(_ message: ByteBuffer, _ envelope: Envelope) {
        if let sharedCall {
            _ = sharedCall.along(message, envelope, isTaken: false)
        } else if envelope.method == .cancelledNotification {
            self.session?.deliver(self.heard(message, envelope))
        }
    }

    /// A question of the server to a caller that takes none beside its answer: if the caller listens, it is asked there;
    /// else the server is told at once that nobody answers, so that its tool does not wait in vain.
    private func askElsewhere(_ question: ByteBuffer, _ envelope: Envelope) {
        if let sharedCall {
            _ = sharedCall.along(question, envelope, isTaken: false)
            return
        }
        guard let id = envelope.id, self.questionsElsewhere < Self.questionLimit else { return }
        self.questionsElsewhere += 1
        let literal = question.bytes(id.range)
        if envelope.method == .ping { return self.tellUpstream(ClientMessage.emptyResult(literal)) }
        if let session, session.listener != nil, session.deliver(self.heard(question, envelope)) { return }
        self.tellUpstream(ClientMessage.methodNotFound(literal))
    }

    /// Each may cost a request of ours: a server that asks more than this in one call is not answered.
    private static let questionLimit = 100

    /// The gateway stops: a stream without an end of its own ends as its era says (protocol §1.2, listen).
    func finishListening() {
        guard case .events = self.phase, self.hasStarted, let id = self.message.idBytes else {
            self.abandonUpstream()
            return self.fail(
                self.gateway.isDraining
                    ? GatewayError(.overloaded, executed: .no, "the gateway stops", cause: "draining")
                    : .upstreamIsGone(executed: .no)
            )
        }
        self.abandonUpstream()
        self.finishEvents(with: ClientMessage.listenCompleted(id))
    }
}
