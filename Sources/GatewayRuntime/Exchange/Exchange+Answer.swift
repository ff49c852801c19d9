// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore

/// What becomes of an upstream's answer: relayed, held, or replaced by an error of ours (contract §4).
extension Exchange {
    func upstreamAnswered(_ connection: UpstreamConnection) {
        if case .resuming = self.phase { return self.resumed(AnswerHead(connection)) }
        guard case .attempting = self.phase else { return }
        self.answer = AnswerHead(connection)
        switch self.answer.status {
        case 200..<300:
            // Something else than an answer, such as a page of HTML, says that the next call will not do better.
            if self.answer.mediaType.isOfMCP || !self.message.isRequest {
                self.upstream.conclude(.usable)
            } else {
                self.doubtUpstream()
            }
            if self.redirection.target != nil { self.http.redirects.observe(self.redirection, self.answer.status) }
            self.credentialAccepted()
            self.accepted()
        case 307, 308:
            self.redirected()
        case 300..<400:
            self.notRedirected()
        case let status where StatusReading.refusesCredential(status):
            self.holdRefusal()
        default:
            self.holdFailure(self.answer.status)
        }
    }

    private func accepted() {
        guard self.message.isRequest else {
            // A notification or a response is taken or not; nobody expects a body (protocol §1.1).
            self.reply(status: 202, body: nil) { _ in }
            return self.finish(.ok)
        }
        if let coding = self.answer.unsupportedCoding {
            let text = "the answer has \(coding), which the gateway did not ask for and cannot decode"
            return self.fail(self.protocolFailure(text, "bad_encoding", executed: .yes))
        }
        switch self.answer.mediaType {
        case .json where self.answer.length == 0, .other where self.answer.length == 0:
            self.fail(self.protocolFailure("the answer to a request has no body", "no_response_body"))
        case .json:
            self.phase = .holding(self.needsWholeAnswer ? .whole : .upToThreshold)
        case .eventStream:
            self.phase = .events
            // What must be read first keeps the head back too, since its fields depend on it.
            // A caller that takes JSON alone gets the answer when it comes.
            if self.message.method != .initialize, self.takesMessages { self.startEvents() }
        case .html:
            self.fail(self.protocolFailure(GatewayError.webPageText, "web_page"))
        case .other:
            self.fail(self.protocolFailure("the answer is neither JSON nor an event stream", "bad_content_type"))
        }
    }

    private var needsWholeAnswer: Bool {
        // Without a length only the JSON itself says whether the connection was closed too early (faults F48).
        self.answer.isCloseDelimited || self.message.method == .initialize || self.filtersTools
            || self.sharedCall != nil || self.isMessageWise
    }

    var filtersTools: Bool { self.message.method == .toolsList && self.upstream.settings.toolFilter != nil }

    func protocolFailure(
        _ text: String,
        _ cause: String,
        executed: GatewayError.Executed = .unknown
    ) -> GatewayError {
        GatewayError(.upstreamProtocol, executed: executed, text, cause: cause, status: self.answer.status)
    }

    // MARK: Redirects

    /// Only 307 and 308 to the same origin are followed: nothing of ours goes anywhere else (protocol C26).
    private func redirected() {
        guard self.redirection.follow(self.answer.location, from: self.http.configuration.url) else {
            return self.notRedirected()
        }
        self.abandonUpstream()
        self.attempt()
    }

    private func notRedirected() {
        self.http.redirects.observe(self.redirection, self.answer.status)
        self.doubtUpstream()
        let place = self.redirection.place(of: self.answer.location, from: self.http.configuration.url)
        self.fail(.redirected(to: place, status: self.answer.status))
    }

    /// What came is not what a server says that is well: the next look at it shows.
    func doubtUpstream() { self.upstream.supervisor?.doubt() }

    // MARK: Bodies

    func upstreamSent(_ bytes: ByteBuffer) {
        switch self.phase {
        case .holding(let hold):
            self.collect(bytes, hold)
        case .relaying:
            self.relay(bytes)
        case .events:
            self.receiveEvents(bytes)
        case .draining:
            self.drained += bytes.readableBytes
            if self.drained > Self.drainLimit {
                self.abandonUpstream()
                self.done()
            }
        case .waiting, .attempting, .resuming, .done:
            break
        }
    }

    func upstreamPaused() {
        switch self.phase {
        case .relaying, .events: self.flush()
        default: break
        }
    }

    func upstreamEnded() {
        self.connection = nil
        switch self.phase {
        case .holding(let hold):
            self.isOverUpstream = !self.answer.isCloseDelimited
            self.collected(hold)
        case .relaying:
            self.finishReply()
            self.finish(.ok)
        case .events:
            self.eventsBroke(cause: "sse_no_response")
        case .resuming:
            self.resumeLater()
        case .draining:
            self.done()
        case .waiting, .attempting, .done:
            break
        }
    }

    private func collect(_ bytes: ByteBuffer, _ hold: Hold) {
        if self.collected.isEmpty, !hold.isFailure, !Self.beginsJSON(bytes) {
            return self.fail(self.protocolFailure("the answer is no JSON", "bad_json", executed: .yes))
        }
        if case .upToThreshold = hold, self.collected.count + bytes.readableBytes >= self.holdThreshold {
            return self.relayHeld(and: bytes)
        }
        let isTaken = self.collected.append(bytes)
        self.buffered(self.collected.count)
        // There may be no room for it.
        guard !self.isGone else { return }
        let limit = isTaken ? self.holdLimit : 0
        switch hold {
        case .whole where self.collected.count > limit:
            self.fail(
                self.protocolFailure(
                    self.isMessageWise
                        ? "the answers of this batch are larger than limits.responseBufferBytes"
                        : "the answer is larger than limits.responseBufferBytes",
                    "too_large",
                    executed: .yes
                )
            )
        case .failure(let status) where self.collected.count > limit:
            guard self.mayBeOfSession(status) else { return self.fail(self.statusFailure(status)) }
            self.failed(status, .foreign)
        case .refusal where self.collected.count > Self.drainLimit:
            self.refused()
        default:
            break
        }
    }

    /// The answer is longer than what is held back: from now on it goes out as it comes.
    ///
    /// What was held goes by itself: in one buffer with what came now it would be kept until the last byte of both is taken.
    private func relayHeld(and bytes: ByteBuffer) {
        // A caller that left before gets none of it, and nobody else can.
        guard self.responder != nil else { return self.finish(.clientGone) }
        self.phase = .relaying
        let fields = self.answer.fields
        self.beginReply(status: self.answer.status, length: self.answer.length) { head in
            head.writeImmutableBuffer(fields)
        }
        let held = self.collected.takeAll()
        self.buffered(0)
        if held.readableBytes > 0 { self.relay(held) }
        self.relay(bytes)
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

    private func collected(_ hold: Hold) {
        switch hold {
        case .upToThreshold:
            guard !self.collected.isEmpty else {
                return self.fail(self.protocolFailure("the answer to a request has no body", "no_response_body"))
            }
            self.respond(self.collected.bytes)
        case .whole:
            self.answeredWhole()
        case .failure(let status):
            self.failed(status, self.readBody())
        case .refusal:
            self.refused()
        }
    }

    private func answeredWhole() {
        guard let envelope = AnswerReader.read(self.collected.bytes, depth: self.loop.limits.jsonDepth) else {
            return self.fail(
                GatewayError(
                    self.answer.isCloseDelimited ? .upstreamClosed : .upstreamProtocol,
                    executed: .yes,
                    "the answer is no complete JSON-RPC message",
                    cause: self.answer.isCloseDelimited ? "truncated_body" : "bad_json"
                )
            )
        }
        self.isOverUpstream = true
        if self.message.method == .initialize { return self.initialized(self.collected.bytes, envelope) }
        guard let answer = self.forCaller(self.collected.bytes, envelope) else { return }
        self.respond(answer)
    }

    /// An answer as its caller may see it: under its own id, without the tools that are hidden from it.
    ///
    /// nil: it cannot be, and the exchange has ended.
    func forCaller(_ message: ByteBuffer, _ envelope: Envelope) -> ByteBuffer? {
        guard self.filtersTools else { return self.sharedCall?.restored(message, envelope) ?? message }
        let depth = self.loop.limits.jsonDepth
        guard let filtered = self.upstream.filtered(message, envelope, to: self.message, depth: depth) else {
            self.fail(self.protocolFailure("the list of tools cannot be read", "bad_json", executed: .yes))
            return nil
        }
        guard let sharedCall else { return filtered }
        guard let again = AnswerReader.read(filtered, depth: depth) else { return filtered }
        return sharedCall.restored(filtered, again)
    }

    /// Sends a whole answer as the upstream's.
    func respond(_ body: ByteBuffer, sessionID: String? = nil) {
        self.pin(self.collected.bytes, nil)
        self.freeID(mayStillRun: true)
        // The fields of a stream are not those of the answer that it ended with.
        let fields = self.answer.mediaType == .eventStream ? Self.jsonField : self.answer.fields
        self.reply(status: self.answer.status, body: body) { head in
            head.writeImmutableBuffer(fields)
            if let sessionID { head.writeString("Mcp-Session-Id: \(sessionID)\r\n") }
        }
        self.finish(.ok)
    }

    private static let jsonField = ByteBuffer(staticString: "Content-Type: application/json\r\n")

    /// Whether an upstream's message is the response to this request.
    func isAnswered(by envelope: Envelope, in bytes: ByteBuffer) -> Bool {
        if let sharedCall { return sharedCall.isAnswered(by: envelope, in: bytes) }
        return self.message.isAnswered(by: envelope, in: bytes)
    }

    // MARK: Statuses of 400 and above

    /// A status of 400 and above, but 401 and 403: the body may be the answer.
    private func holdFailure(_ status: Int) {
        self.phase = .holding(.failure(status: status))
        guard self.mayBeOfSession(status) else { return }
        let attempt = self.attempts
        self.wait(Self.failureTime) { exchange in
            guard case .holding(.failure(let status)) = exchange.phase, exchange.attempts == attempt else { return }
            exchange.failed(status, .foreign)
        }
    }

    /// How long the body is waited for of what may be the loss of a session.
    private static let failureTime = TimeAmount.seconds(5)

    /// Whether a status without an answer to this request is, or may be, about the session and not about the message.
    func mayBeOfSession(_ status: Int) -> Bool {
        switch StatusReading(status: status, body: .foreign, session: self.sessionState) {
        case .sessionLost, .sessionInDoubt: true
        case .answer, .credentialRefused, .failure: false
        }
    }

    /// What the collected body is to this request.
    func readBody() -> StatusReading.Body {
        let body = self.collected.bytes
        return StatusReading.Body(body, depth: self.loop.limits.jsonDepth) { envelope in
            self.answer.mediaType == .json && self.message.isRequest && self.isAnswered(by: envelope, in: body)
        }
    }

    /// The body was read, as far as it matters.
    func failed(_ status: Int, _ body: StatusReading.Body) {
        switch StatusReading(status: status, body: body, session: self.sessionState) {
        case .answer:
            self.upstream.conclude(.usable)
            self.answered(with: status)
        case .sessionLost: self.sessionLost(isCertain: true)
        case .sessionInDoubt: self.sessionLost(isCertain: false)
        case .credentialRefused, .failure: self.failed(status)
        }
    }

    /// The collected body is the answer; its caller gets it under its own id.
    func answered(with status: Int) {
        var body = self.collected.bytes
        if let sharedCall, let envelope = AnswerReader.read(body, depth: self.loop.limits.jsonDepth) {
            body = sharedCall.restored(body, envelope)
        }
        self.reply(status: status, body: body) { [fields = self.answer.fields] head in
            head.writeImmutableBuffer(fields)
        }
        self.finish(.upstreamError)
    }

    /// The message itself failed.
    func failed(_ status: Int) {
        if status == 429 {
            return self.fail(
                GatewayError(
                    .rateLimited,
                    executed: .no,
                    "the server limits our rate; try again later",
                    cause: "rate_limited",
                    status: status,
                    retryAfterMilliseconds: self.answer.retryAfterMilliseconds
                )
            )
        }
        if status == 404 || status == 405 {
            // There may be nothing at its URL any more. Other statuses are about a call more often than about the server.
            self.doubtUpstream()
            self.http.redirects.observe(self.redirection, status)
        }
        let failure = self.statusFailure(status)
        // 503 is a promise of better times only if it says when, and soon (faults F30).
        if status == 503, self.answer.retryAfterMilliseconds ?? .max > 2_000 { return self.fail(failure) }
        self.retryOrFail(.status(status, hadSession: self.sentSessionID != nil), failure)
    }

    /// What a status of 400 and above says of whether the message ran.
    func executed(_ status: Int) -> GatewayError.Executed {
        if status == 429 { return .no }
        let ending = RetryRules.Ending.status(status, hadSession: self.sentSessionID != nil)
        return RetryRules.decide(ending, message: self.message.messageClass).executed
    }

    private func statusFailure(_ status: Int) -> GatewayError {
        GatewayError(
            .upstreamStatus,
            executed: self.executed(status),
            "the server answered HTTP \(status)",
            cause: "http_\(status / 100)xx",
            status: status,
            retryAfterMilliseconds: status == 503 ? self.answer.retryAfterMilliseconds : nil
        )
    }
}
