// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore

/// A message that the gateway itself sends upstream: a probe, `initialize` again, the end of a session.
///
/// The answer is small and collected whole; of an event stream the first response counts. Confined to its event loop.
final class UpstreamCall: UpstreamReceiver, Sweepable {
    /// What came back.
    struct Answer: Sendable {
        var status: Int
        var sessionID: String?
        var mediaType: HTTP1MediaType
        /// The JSON-RPC message, or whatever the body was.
        var body: ByteBuffer
        /// What the body is as a message, read once for everybody; nil if it is none.
        var envelope: Envelope?
        /// Whether the answer is a stream of the transport of 2024-11-05, which begins with the place for messages.
        var isEndpoint = false
        /// Where a redirect that was not followed leads, for people.
        var place: String?
        /// What a 401 or 403 seems to be about.
        var refusal: RefusalKind?
    }

    typealias Completion = (Result<Answer, TransportError>) -> Void

    /// Above this an answer to a message of ours is not worth reading.
    private static let answerLimit = 1024 * 1024

    var sweepIndex = -1
    private let loop: LoopResources
    private let http: HTTPAccess
    private let upstream: Upstream
    private let method: RequestHeads.Method
    /// The request target, if it is another than the upstream's.
    private let target: String?
    private var redirection = Redirection()
    /// nil: the slot was gone before the message was to be sent.
    private let credential: RequestCredential?
    /// The fields of this message, and its body.
    private let rest: ByteBuffer
    private let deadline: NIODeadline
    private let jsonDepth: Int
    private var completion: Completion?
    private var connection: UpstreamConnection?
    private var own: OwnConnection
    private var answer = AnswerHead()
    private var reader: MessageReader

    private init(
        _ http: HTTPAccess,
        of upstream: Upstream,
        _ method: RequestHeads.Method,
        target: String?,
        _ credential: RequestCredential?,
        _ rest: ByteBuffer,
        on loop: LoopResources,
        timeout: TimeAmount,
        _ completion: @escaping Completion
    ) {
        self.http = http
        self.upstream = upstream
        self.own = OwnConnection(of: upstream)
        self.own.isWanted = true
        let bounds = MessageReader.Bounds(
            event: min(upstream.eventBytes, Self.answerLimit),
            body: Self.answerLimit,
            stream: Self.streamLimit
        )
        self.reader = MessageReader(bounds, in: upstream.buffers)
        self.jsonDepth = upstream.jsonDepth
        self.method = method
        self.target = target
        self.credential = credential
        self.rest = rest
        self.loop = loop
        self.deadline = .now() + timeout
        self.completion = completion
    }

    /// Sends a message on `loop`, where `completion` is called once.
    ///
    /// `credential` is what an attempt has taken for it; nil: that of the slot, if there is such a slot.
    @discardableResult
    static func send(
        _ http: HTTPAccess,
        of upstream: Upstream,
        method: RequestHeads.Method = .post,
        target: String? = nil,
        slot: CredentialID,
        with credential: RequestCredential? = nil,
        on loop: LoopResources,
        body: ByteBuffer = ByteBuffer(),
        session: String? = nil,
        fields: String = "",
        timeout: TimeAmount,
        completion: @escaping Completion
    ) -> UpstreamCall {
        var rest = loop.buffer(capacity: 256 + body.readableBytes)
        if let session { rest.writeString("Mcp-Session-Id: \(session)\r\n") }
        rest.writeString(fields)
        if case .post = method { rest.writeString("Content-Length: \(body.readableBytes)\r\n") }
        rest.writeStaticString("\r\n")
        rest.writeImmutableBuffer(body)
        let call = UpstreamCall(
            http,
            of: upstream,
            method,
            target: target,
            credential ?? http.credential(slot),
            rest,
            on: loop,
            timeout: timeout,
            completion
        )
        loop.sweeper.add(call)
        loop.pool(of: upstream)?.connect(for: call)
        return call
    }

    /// Gives up; the completion hears of it.
    func cancel() {
        self.complete(.failure(TransportError(.cancelled, "given up", progress: .fully)))
    }

    /// Sends a notification whose fate changes nothing.
    static func notify(
        _ http: HTTPAccess,
        of upstream: Upstream,
        slot: CredentialID,
        with credential: RequestCredential?,
        on loop: LoopResources,
        body: ByteBuffer,
        session: String?,
        revision: ProtocolRevision?
    ) {
        Self.send(
            http,
            of: upstream,
            slot: slot,
            with: credential,
            on: loop,
            body: body,
            session: session,
            fields: revision?.headerLine ?? "",
            timeout: .seconds(10)
        ) { _ in }
    }

    private func complete(_ result: Result<Answer, TransportError>) {
        guard let completion else { return }
        self.completion = nil
        self.own.isWanted = false
        self.connection?.cancel()
        self.connection = nil
        self.reader.begin(.whole)
        self.loop.sweeper.remove(self)
        completion(result)
    }

    /// `envelope` is that of the body, if it was read before.
    private func complete(with body: ByteBuffer, _ envelope: Envelope? = nil, isEndpoint: Bool = false) {
        let head = self.answer
        var answer = Answer(status: head.status, sessionID: head.sessionID, mediaType: head.mediaType, body: body)
        answer.envelope = envelope ?? (body.readableBytes > 0 ? AnswerReader.read(body, depth: self.jsonDepth) : nil)
        answer.isEndpoint = isEndpoint
        switch head.status {
        case 300..<400: answer.place = self.redirection.place(of: head.location, from: self.http.configuration.url)
        case _ where StatusReading.refusesCredential(head.status):
            answer.refusal = head.refusalKind(answer.envelope)
        default: break
        }
        if self.target == nil { self.http.redirects.observe(self.redirection, head.status) }
        self.complete(.success(answer))
    }

    func upstreamConnected(_ connection: UpstreamConnection) {
        guard self.completion != nil else { return connection.release() }
        var head = self.loop.buffer(capacity: 1024 + self.rest.readableBytes)
        self.redirection.start(at: self.target ?? self.http.redirects.target)
        let target = self.redirection.target
        guard self.http.begin(self.method, target: target, with: self.credential, on: connection, into: &head) else {
            connection.release()
            let text = "the token that this message belongs to is not configured"
            return self.complete(.failure(TransportError(.cancelled, text, progress: .nothing)))
        }
        self.connection = connection
        head.writeImmutableBuffer(self.rest)
        connection.send(head: head, body: nil, receiver: self)
    }

    func upstreamAnswered(_ connection: UpstreamConnection) {
        self.answer = AnswerHead(connection)
        if [307, 308].contains(self.answer.status),
            self.redirection.follow(self.answer.location, from: self.http.configuration.url)
        {
            self.answer = AnswerHead()
            connection.cancel()
            self.connection = nil
            self.loop.pool(of: self.upstream)?.connect(for: self)
            return
        }
        let isGood = (200..<300).contains(self.answer.status)
        self.reader.begin(isGood && self.answer.mediaType == .eventStream ? .events : .whole)
        guard isGood, let coding = self.answer.unsupportedCoding else { return }
        let text = "the answer has \(coding), which the gateway did not ask for and cannot decode"
        self.complete(.failure(TransportError(.badEncoding, text, progress: .fully, answerBegan: true)))
    }

    func upstreamSent(_ bytes: ByteBuffer) {
        guard self.completion != nil else { return }
        self.reader.append(bytes)
        while self.completion != nil {
            switch self.reader.next() {
            case .needsMore: return
            case .skipped: continue
            // A stream that goes on and on without the answer is none.
            case .tooLarge: self.complete(with: ByteBuffer())
            case .endpoint: self.complete(with: ByteBuffer(), isEndpoint: true)
            case .message(let message):
                let envelope = AnswerReader.read(message, depth: self.jsonDepth)
                guard let envelope, envelope.isResponse else { continue }
                self.complete(with: message, envelope)
            }
        }
    }

    /// Above this a stream is not worth waiting for the answer in it.
    private static let streamLimit = 16 * answerLimit

    func upstreamPaused() {}

    func upstreamEnded() {
        self.connection = nil
        self.complete(with: self.reader.end())
    }

    func upstreamFailed(_ error: TransportError) {
        self.connection = nil
        self.complete(.failure(error))
    }

    func sweep(now: NIODeadline) {
        guard now >= self.deadline else { return }
        let isSent = self.connection != nil
        self.complete(
            .failure(
                TransportError(
                    isSent ? .cancelled : .connectTimeout,
                    isSent ? "no answer in time" : "no connection within the connect timeout",
                    progress: isSent ? .fully : .nothing
                )
            )
        )
    }
}
