// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore

/// Answers that come as a stream of events (faults F20 to F28).
///
/// Whole events are passed on as the bytes that arrived, unless something in them is not the caller's: ids of events
/// that the upstream gave out, ids of messages in a session that callers share, or the framing, where the caller has a
/// stream of another kind.
extension HTTPExchange {
    /// Whether messages that come before the answer can go to the caller.
    var takesMessages: Bool { self.call.machine.takesMessages }

    /// Sends the head of the stream.
    func beginEvents(sessionID: String? = nil) {
        self.call.beginEvents { [fields = self.answer.fields] head in
            head.writeImmutableBuffer(fields)
            if let sessionID { head.writeString("Mcp-Session-Id: \(sessionID)\r\n") }
        }
    }

    /// Reads the events that are complete with these bytes.
    func readEvents(_ bytes: ByteBuffer) {
        let isTaken = self.collected.append(bytes)
        // Whole events that may go out, from the reader index on.
        var passed = 0
        reading: while self.call.machine.isReadingEvents {
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
                    self.call.send(event: message)
                case .ended:
                    return
                case .answer(let message, let envelope):
                    if self.isPassed(event) { passed += event.length }
                    self.pass(&passed)
                    return self.answered(message, envelope, by: event)
                }
            case .tooLong:
                self.pass(&passed)
                self.tell { $0.flawed(.largeEvent) }
            }
        }
        self.pass(&passed)
        // What is left is the beginning of an event: it must not keep a whole read alive.
        self.collected.settle()
        self.call.buffered(self.collected.count)
    }

    private func pass(_ count: inout Int) {
        if count > 0, let bytes = self.collected.take(count), self.call.reply.hasStarted, !self.call.reply.isMessageWise
        {
            self.call.relay(bytes)
        }
        count = 0
    }

    private enum Verdict {
        /// Goes on as the bytes that came.
        case pass
        /// It belongs to nobody here, or went elsewhere.
        case drop
        /// Goes on as a new event.
        case send(ByteBuffer)
        /// The answer.
        case answer(ByteBuffer, Envelope)
        /// The call ended over it.
        case ended
    }

    private func judge(_ event: SSEEvent, in bytes: ByteBuffer) -> Verdict {
        self.resumption.take(event, in: bytes)
        // What is skipped shows its caller nothing, keeps no call alive, and counts among the bytes of the stream.
        guard let data = event.messageBytes(in: bytes) else {
            _ = self.hears(.foreign)
            return .drop
        }
        guard let envelope = AnswerReader.read(data, depth: self.jsonDepth) else {
            return self.act(self.hears(.garbage))
        }
        switch self.hears(self.kind(of: envelope, in: data)) {
        case .drop:
            return .drop
        case .deliver:
            guard self.isRewritten(event) || self.hasRouting else { return .pass }
            guard let sharedCall else { return .send(self.heard(data, envelope)) }
            return sharedCall.along(data, envelope, isTaken: true).map(Verdict.send) ?? .drop
        case .elsewhere:
            if envelope.kind == .request {
                self.askElsewhere(data, envelope)
            } else {
                self.notifyElsewhere(data, envelope)
            }
            return .drop
        case .answer:
            return .answer(data, envelope)
        case .act(let action):
            return self.act(.act(action))
        }
    }

    private func kind(of envelope: Envelope, in data: ByteBuffer) -> CallMachine.Event {
        switch envelope.kind {
        case .notification: envelope.method == .progressNotification ? .progress : .notification
        case .request: .question
        case .result, .error: self.isAnswered(by: envelope, in: data) ? .answer : .foreign
        }
    }

    private func hears(_ event: CallMachine.Event) -> CallMachine.Delivery {
        self.call.machine.event(event, rest: self.resumption.pause, at: self.call.moment)
    }

    private func act(_ delivery: CallMachine.Delivery) -> Verdict {
        if case .act(let action) = delivery { self.call.perform(action) }
        return .ended
    }

    /// Whether an event cannot go on as the bytes that came.
    ///
    /// Only what the stateless era sends passes untouched: there nobody takes a stream up again (protocol §1.2).
    private func isRewritten(_ event: SSEEvent) -> Bool {
        self.call.reply.hasOwnEventIDs || self.call.reply.isMessageWise || self.sharedCall != nil || !self.takesMessages
            || self.message.era == .handshake && (event.id != nil || event.retry != nil)
    }

    /// Whether the event of the answer goes on as the bytes that came.
    private func isPassed(_ event: SSEEvent) -> Bool {
        self.message.method != .initialize && !self.isRewritten(event) && !self.filtersTools
    }

    /// The answer came with this event, of which everything before it is out.
    private func answered(_ data: ByteBuffer, _ envelope: Envelope, by event: SSEEvent) {
        if self.message.method == .initialize { return self.initialized(data, envelope) }
        self.pin(data, envelope)
        if self.isPassed(event) {
            self.prepared = .event(nil)
        } else {
            guard let answer = self.forCaller(data, envelope) else { return self.tell { $0.flawed(.toolList) } }
            self.prepared = .event(answer)
        }
        self.tell { $0.answered() }
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
        guard let id = envelope.id else { return }
        let literal = question.bytes(id.range)
        if envelope.method == .ping { return self.tellUpstream(ClientMessage.emptyResult(literal)) }
        if let session, session.listener != nil, session.deliver(self.heard(question, envelope)) { return }
        self.tellUpstream(ClientMessage.methodNotFound(literal))
    }
}
