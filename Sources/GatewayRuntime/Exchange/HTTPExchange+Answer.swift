// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore

/// What comes back: heads and bodies, told to the machine, and sent on as it says (contract §4).
extension HTTPExchange {
    // MARK: Heads

    func upstreamAnswered(_ connection: UpstreamConnection) {
        if self.call.machine.isResuming {
            let rest = AnswerHead(connection)
            return self.tell { $0.head(CallMachine.Head(rest)) }
        }
        guard self.call.machine.isAwaitingHead else { return }
        self.answer = AnswerHead(connection)
        if (200..<300).contains(self.answer.status) { self.observeSuccess() }
        var head = CallMachine.Head(self.answer)
        head.isRewritten = self.filtersTools
        self.tell { $0.head(head) }
    }

    private func observeSuccess() {
        // Something else than an answer, such as a page of HTML, says that the next call will not do better.
        if self.answer.mediaType.isOfMCP || !self.message.isRequest {
            self.upstream.conclude(.usable)
        } else {
            self.doubtUpstream()
        }
        if self.redirection.target != nil { self.http.redirects.observe(self.redirection, self.answer.status) }
    }

    func accepted(_ acceptance: CallMachine.Acceptance) {
        self.credentialAccepted()
        switch acceptance {
        case .hold: break
        case .stream(let begins): if begins { self.beginEvents() }
        case .end(let end): self.call.perform(.end(end))
        }
    }

    var filtersTools: Bool { self.message.method == .toolsList && self.upstream.settings.toolFilter != nil }

    /// Only 307 and 308 to the same origin are followed: nothing of ours goes anywhere else (protocol C26).
    func redirect() {
        let isFollowed = self.redirection.follow(self.answer.location, from: self.http.configuration.url)
        self.tell { $0.redirected(isFollowed: isFollowed) }
    }

    // MARK: Bodies

    func upstreamSent(_ bytes: ByteBuffer) {
        let received = self.call.machine.received(
            bytes.readableBytes,
            isJSON: Self.beginsJSON(bytes),
            limit: self.call.holdLimit
        )
        switch received {
        case .drop:
            break
        case .hold:
            _ = self.collected.append(bytes)
            self.call.buffered(self.collected.count)
        case .holdAndRead:
            _ = self.collected.append(bytes)
            self.perform(.readBody)
        case .relay:
            self.call.relay(bytes)
        case .relayHeld:
            self.relayHeld(and: bytes)
        case .read:
            self.readEvents(bytes)
        case .act(let action):
            self.call.perform(action)
        }
    }

    func upstreamPaused() {
        if self.call.machine.sendsAlong { self.call.reply.flush() }
    }

    func upstreamEnded() {
        self.connectionEnded()
        self.tell { $0.ended() }
    }

    /// The answer is longer than what is held back: from now on it goes out as it comes.
    ///
    /// What was held goes by itself: in one buffer with what came now it would be kept until the last byte of both is taken.
    private func relayHeld(and bytes: ByteBuffer) {
        let fields = self.answer.fields
        self.call.reply.begin(status: self.answer.status, length: self.answer.length) { head in
            head.writeImmutableBuffer(fields)
        }
        let held = self.collected.takeAll()
        self.call.buffered(0)
        if held.readableBytes > 0 { self.call.relay(held) }
        self.call.relay(bytes)
    }

    private static func beginsJSON(_ bytes: ByteBuffer) -> Bool {
        for byte in bytes.readableBytesView {
            switch byte {
            case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"), UInt8(ascii: "\n"): continue
            case UInt8(ascii: "{"), UInt8(ascii: "["): return true
            default: return false
            }
        }
        return true
    }

    /// What the held body is to this request.
    func readBody() -> StatusReading.Body {
        let body = self.collected.bytes
        return StatusReading.Body(body, AnswerReader.read(body, depth: self.jsonDepth)) { envelope in
            self.answer.mediaType == .json && self.message.isRequest && self.isAnswered(by: envelope, in: body)
        }
    }

    /// Reads the held body, which holds something that is not for the caller.
    func readAnswer() {
        let body = self.collected.bytes
        guard let envelope = AnswerReader.read(body, depth: self.jsonDepth) else {
            return self.tell { $0.flawed(.message) }
        }
        self.answered(body, envelope)
    }

    /// The upstream answered: its answer is made what the caller may see, and goes out.
    func answered(_ message: ByteBuffer, _ envelope: Envelope) {
        if self.message.method == .initialize { return self.initialized(message, envelope) }
        guard let answer = self.forCaller(message, envelope) else { return self.tell { $0.flawed(.toolList) } }
        self.prepared = .body(answer, sessionID: nil)
        self.tell { $0.answered() }
    }

    /// An answer as its caller may see it: under its own id, without the tools that are hidden from it; nil: it cannot be.
    func forCaller(_ message: ByteBuffer, _ envelope: Envelope) -> ByteBuffer? {
        guard self.filtersTools else { return self.sharedCall?.restored(message, envelope) ?? message }
        let depth = self.jsonDepth
        guard let filtered = self.upstream.filtered(message, envelope, to: self.message, depth: depth) else {
            return nil
        }
        guard let sharedCall else { return filtered }
        guard let again = AnswerReader.read(filtered, depth: depth) else { return filtered }
        return sharedCall.restored(filtered, again)
    }

    /// Whether an upstream's message is the response to this request.
    func isAnswered(by envelope: Envelope, in bytes: ByteBuffer) -> Bool {
        if let sharedCall { return sharedCall.isAnswered(by: envelope, in: bytes) }
        return self.message.isAnswered(by: envelope, in: bytes)
    }

    // MARK: To the caller

    func sendAnswer() {
        switch self.prepared {
        case .held where self.answer.status >= 400:
            self.upstream.conclude(.usable)
            self.sendWhole(self.restored(self.collected.bytes), sessionID: nil)
        case .held:
            self.pin(self.collected.bytes, nil)
            self.sendWhole(self.collected.bytes, sessionID: nil)
        case .body(let body, let sessionID):
            self.pin(self.collected.bytes, nil)
            self.sendWhole(body, sessionID: sessionID)
        case .event(let message?):
            self.call.reply.finish(with: message)
        case .event(nil):
            self.call.reply.finish()
        case .own(let body):
            self.call.reply.respond(status: 200, body: body) { head in head.writeImmutableBuffer(Self.jsonField) }
        case .taken:
            self.call.reply.respond(status: 202, body: nil) { _ in }
        case .noPlace:
            self.call.refuseSession()
        case .noSession:
            self.call.refuse(404, -32_600, "the session is initialized, or over", .sessionLost)
        }
    }

    /// Sends a whole answer as the upstream's.
    private func sendWhole(_ body: ByteBuffer, sessionID: String?) {
        // The fields of a stream are not those of the answer that it ended with.
        let fields = self.answer.mediaType == .eventStream ? Self.jsonField : self.answer.fields
        self.call.reply.respond(status: self.answer.status, body: body) { head in
            head.writeImmutableBuffer(fields)
            if let sessionID { head.writeString("Mcp-Session-Id: \(sessionID)\r\n") }
        }
    }

    private static let jsonField = ByteBuffer(staticString: "Content-Type: application/json\r\n")

    /// An answer under the id of its caller.
    private func restored(_ body: ByteBuffer) -> ByteBuffer {
        guard let sharedCall, let envelope = AnswerReader.read(body, depth: self.jsonDepth) else { return body }
        return sharedCall.restored(body, envelope)
    }
}

extension CallMachine.Head {
    fileprivate init(_ answer: AnswerHead) {
        self.init(status: answer.status)
        self.mediaType = answer.mediaType
        self.isEmpty = answer.length == 0
        self.isCloseDelimited = answer.isCloseDelimited
        self.isUndecodable = answer.unsupportedCoding != nil
        if answer.status == 503 { self.retryAfter = answer.retryAfterMilliseconds.map { .milliseconds($0) } }
    }
}
