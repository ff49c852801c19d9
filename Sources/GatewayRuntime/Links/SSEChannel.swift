// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewayTransport
import GatewayWire
import Logging
import NIOCore

/// The HTTP+SSE transport of 2024-11-05 as a channel: messages come on one stream, and go as POSTs to the place that the
/// stream names first.
final class SSEChannel: LinkChannel, UpstreamReceiver, Sweepable {
    private enum State {
        /// Nothing came yet, or not the `endpoint` event.
        case opening
        /// The request target of POSTs.
        case open(String)
        case closed
    }

    var sweepIndex = -1
    private weak var delegate: (any LinkChannelDelegate)?
    private let upstream: Upstream
    private let http: HTTPAccess
    /// Whether the credential that it used was refused.
    private(set) var isRefused = false
    private let loop: LoopResources
    private let fields: String
    private let isShared: Bool
    private let deadline: NIODeadline
    /// Which credentials the opening tried, if it is for a caller; nil at an upstream without a pool.
    private var credentials: CredentialUse?
    /// The slots that an opening of our own has yet to try, of which no pool hears.
    private var ownSlots: [CredentialID] = []
    /// With what those were refused that it tried.
    private var ownStatuses: [Int] = []
    /// The slot that the whole session uses (credentials §2.9).
    private(set) var slot: CredentialID
    /// What it puts into the head of the GET; nil: the slot is gone.
    private var credentialOfStream: RequestCredential?
    /// The list of credentials that was looked at last for that, and whether it was not there.
    private var revision: UInt64 = 0
    private var isGone = false
    private var state = State.opening
    private var hasAnswered = false
    private var connection: UpstreamConnection?
    private var own: OwnConnection
    private var reader: MessageReader?
    /// Where redirects led the request for the stream.
    private var redirection = Redirection()
    private let eventBytes: Int
    private let buffers: BufferLedger
    private(set) var pendingBytes = 0
    private(set) var lastReceived = NIODeadline.now()
    /// What a server speaks over this transport is known.
    var isTrial = false
    /// A server says nothing beside its messages.
    var lastErrors: Logger.MetadataValue? { nil }
    /// Bytes of the stream that came before it named a place for messages.
    private var openingBytes = 0

    /// What it is opened with: for a caller, as a choice of its pool, or by ourselves, with the first of these slots that is
    /// accepted.
    enum Opening {
        case caller(CredentialAttempts.Choice)
        case own(slots: [CredentialID])
    }

    /// `fields` are forwarded field lines of the one caller whose channel this is; `isShared`: callers share it.
    init(
        _ upstream: Upstream,
        _ http: HTTPAccess,
        fields: String,
        limits: Limits,
        buffers: BufferLedger,
        opening: Opening,
        isShared: Bool,
        on loop: LoopResources,
        delegate: any LinkChannelDelegate
    ) {
        self.slot = .none
        switch opening {
        case .caller(let choice): self.credentials = http.credentials?.attempts(choice)
        case .own(let slots): self.ownSlots = slots
        }
        self.upstream = upstream
        self.own = OwnConnection(of: upstream)
        self.http = http
        self.fields = fields
        self.isShared = isShared
        self.loop = loop
        self.delegate = delegate
        self.eventBytes = limits.eventBytes
        self.buffers = buffers
        self.deadline = .now() + TimeAmount(limits.connectTimeout)
    }

    // MARK: Channel

    /// The number of its slot for people; nil without a pool, and for one that is gone.
    private var position: Int? { self.http.position(of: self.slot) }

    var credential: LinkCredential? {
        self.http.credentials.map { _ in
            LinkCredential(slot: self.slot, position: self.position, isRefused: self.isRefused)
        }
    }

    var isCredentialGone: Bool {
        guard let pool = self.http.credentials, pool.revision != self.revision else { return self.isGone }
        self.revision = pool.revision
        self.isGone = !pool.contains(self.slot)
        return self.isGone
    }

    func open() {
        self.loop.sweeper.add(self)
        self.own.isWanted = true
        self.attempt()
    }

    private func attempt() {
        if let pool = self.http.credentials, self.credentials != nil {
            guard let slot = pool.begin(&self.credentials) else {
                return self.end(.exhausted(self.credentials?.statuses ?? []))
            }
            self.slot = slot
            self.credentialOfStream = self.credentials?.credential
        } else {
            if !self.ownSlots.isEmpty { self.slot = self.ownSlots.removeFirst() }
            self.credentialOfStream = self.http.credential(self.slot)
        }
        self.loop.pool(of: self.upstream)?.connect(for: self, isFresh: true)
    }

    func send(_ message: ByteBuffer, isCallers: Bool, completion: @escaping (LinkSending) -> Void) {
        guard case .open(let target) = self.state else {
            return completion(.failed(GatewayError(.upstreamClosed, executed: .no, "the stream is gone")))
        }
        self.pendingBytes += message.readableBytes
        // Each message of a caller is an attempt with the one credential that the session has.
        var attempts = self.http.credentials?.attempts(.pinned(self.slot))
        if isCallers { _ = self.http.credentials?.begin(&attempts) }
        UpstreamCall.send(
            self.http,
            of: self.upstream,
            target: target,
            slot: self.slot,
            with: attempts?.credential,
            on: self.loop,
            body: message,
            fields: self.fields,
            timeout: .seconds(30)
        ) { [weak self, attempts, pool = self.http.credentials] result in
            self?.pendingBytes -= message.readableBytes
            var attempts = attempts
            switch result {
            case .success(let answer) where (200..<300).contains(answer.status):
                pool?.succeeded(&attempts)
                completion(.sent)
            case .success(let answer) where [401, 403, 404].contains(answer.status):
                guard let self else {
                    pool?.release(&attempts)
                    return completion(Self.sending(result))
                }
                if isCallers, self.isShared {
                    self.verify(attempts, target, refusedWith: answer.status, completion)
                } else {
                    self.refused(attempts, with: answer.status, completion)
                }
            default:
                pool?.release(&attempts)
                completion(Self.sending(result))
            }
        }
    }

    /// Finds out whether a message of one caller was refused for itself, or because of the session that all share.
    ///
    /// A ping tells: what is refused for its content must not end what others use.
    private func verify(
        _ attempts: CredentialUse?,
        _ target: String,
        refusedWith status: Int,
        _ completion: @escaping (LinkSending) -> Void
    ) {
        UpstreamCall.send(
            self.http,
            of: self.upstream,
            target: target,
            slot: self.slot,
            on: self.loop,
            body: ClientMessage.ping(id: #""mcp-proxy-check""#),
            fields: self.fields,
            timeout: .seconds(10)
        ) { [weak self, pool = self.http.credentials] result in
            var attempts = attempts
            if let self, case .success(let answer) = result, [401, 403, 404].contains(answer.status) {
                return self.refused(attempts, with: answer.status, completion)
            }
            guard let self, let pool, pool.retries(on: status) else {
                pool?.release(&attempts)
                var error = GatewayError(refusedWith: status)
                error.isOfMessageAlone = true
                return completion(.failed(error))
            }
            // The credential may do for a ping and not for tools: the next calls go in a session with the next one, when
            // those are over that this one still serves.
            _ = pool.refused(&attempts, with: status)
            self.isRefused = true
            completion(.failed(.rejected(status: status, slot: self.position)))
            self.delegate?.channelRefused()
        }
    }

    /// Its session is over, since its credential is refused for what callers want.
    func endRefused() { self.end(Self.refused) }

    /// A message was refused: the next goes in a session with the next credential.
    private func refused(
        _ attempts: CredentialUse?,
        with status: Int,
        _ completion: (LinkSending) -> Void
    ) {
        var attempts = attempts
        guard status != 404 else {
            self.http.credentials?.release(&attempts)
            return completion(.failed(GatewayError(refusedWith: status)))
        }
        guard let pool = self.http.credentials else {
            return completion(.failed(.rejected(status: status, slot: nil)))
        }
        // What is asked to find out whether the server is there counts for nothing; what a session needs that callers
        // use, counts.
        if attempts?.isUnderWay != true, self.credentials != nil { _ = pool.begin(&attempts) }
        _ = pool.refused(&attempts, with: status)
        completion(.failed(.rejected(status: status, slot: self.position)))
        guard pool.retries(on: status) else { return }
        self.isRefused = true
        self.end(Self.refused)
    }

    private static let refused = GatewayError(
        .upstreamClosed,
        executed: .unknown,
        "the session was closed, since its token is refused; it is opened again with the next one",
        cause: SSEChannel.refusedCause
    )

    /// The cause of an end for which a new session is the cure.
    static let refusedCause = "credential_rejected"

    private static func sending(_ result: Result<UpstreamCall.Answer, TransportError>) -> LinkSending {
        switch result {
        case .failure(let error): .failed(GatewayError(error))
        case .success(let answer) where (200..<300).contains(answer.status): .sent
        case .success(let answer): .failed(GatewayError(refusedWith: answer))
        }
    }

    var isReadingPaused = false {
        didSet { self.connection?.isReadingPaused = self.isReadingPaused }
    }

    func close() { self.end(GatewayError(.upstreamClosed, executed: .unknown, "the session ended", cause: "closed")) }

    func kill() { self.end(GatewayError(.upstreamProtocol, executed: .unknown, "the stream makes no sense")) }

    private func end(_ error: GatewayError) {
        if case .closed = self.state { return }
        self.state = .closed
        self.own.isWanted = false
        self.reader = nil
        self.connection?.cancel()
        self.connection = nil
        self.loop.sweeper.remove(self)
        self.http.credentials?.release(&self.credentials)
        self.delegate?.channelClosed(error)
    }

    func sweep(now: NIODeadline) {
        // A connection that does not stand yet has a clock of its own, and says more when it is over.
        guard case .opening = self.state, self.connection != nil, now >= self.deadline else { return }
        self.end(
            GatewayError(
                // Whoever answered and then said nothing is up, and no server of this transport.
                self.hasAnswered ? .upstreamProtocol : .unreachable,
                executed: .no,
                "the server named no place for messages in time; is this a server of the HTTP+SSE transport?",
                cause: Self.noEndpointCause
            )
        )
    }

    /// The cause of an end before the place for messages was named.
    static let noEndpointCause = "no_endpoint"

    // MARK: Stream

    func upstreamConnected(_ connection: UpstreamConnection) {
        guard case .opening = self.state else { return connection.release() }
        var head = self.loop.buffer(capacity: 512)
        let target = self.redirection.target ?? self.http.configuration.url.target
        guard self.http.begin(.get, target: target, with: self.credentialOfStream, on: connection, into: &head) else {
            connection.release()
            return self.end(.noSuchSlot)
        }
        self.connection = connection
        let channel = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.reader = MessageReader(.init(event: self.eventBytes), in: self.buffers) {
            channel.eventLoop.execute { channel.value.end(.noRoom(executed: .unknown)) }
        }
        head.writeString(self.fields)
        head.writeStaticString("\r\n")
        connection.send(head: head, body: nil, receiver: self)
    }

    func upstreamAnswered(_ connection: UpstreamConnection) {
        let answer = AnswerHead(connection)
        self.hasAnswered = true
        if answer.status == 200, let coding = answer.unsupportedCoding {
            let text = "the stream has \(coding), which the gateway did not ask for and cannot decode"
            return self.end(GatewayError(.upstreamProtocol, executed: .no, text, cause: "bad_encoding"))
        }
        guard answer.status != 200 || answer.mediaType != .eventStream else { return self.accepted() }
        switch answer.status {
        case 401, 403:
            self.refused(with: answer)
        case 404, 405:
            let text =
                "the server answered HTTP \(answer.status) to GET: it may speak streamable HTTP; see transportType"
            self.end(GatewayError(.upstreamStatus, executed: .no, text, cause: "http_4xx", status: answer.status))
        case 301, 302, 303, 307, 308:
            self.redirected(answer)
        case 300...:
            self.end(GatewayError(refusedWith: answer.status))
        case _ where answer.mediaType == .html:
            self.end(
                GatewayError(
                    .upstreamProtocol,
                    executed: .no,
                    GatewayError.webPageText,
                    cause: "web_page",
                    status: answer.status
                )
            )
        default:
            let text = "HTTP \(answer.status) with something else than a stream of events"
            self.end(
                GatewayError(.upstreamProtocol, executed: .no, text, cause: "bad_content_type", status: answer.status)
            )
        }
    }

    /// A GET stays one in every redirect, and is followed as POSTs are: within the origin.
    private func redirected(_ answer: AnswerHead) {
        let url = self.http.configuration.url
        guard self.redirection.follow(answer.location, from: url) else {
            let place = self.redirection.place(of: answer.location, from: url)
            return self.end(.redirected(to: place, status: answer.status))
        }
        self.connection?.cancel()
        self.connection = nil
        self.loop.pool(of: self.upstream)?.connect(for: self, isFresh: true)
    }

    private func accepted() {
        self.isRefused = false
        // One that a caller opens counts as its call.
        if self.credentials == nil { self.http.credentials?.probed(self.slot, refusedWith: nil) }
        self.http.credentials?.succeeded(&self.credentials)
    }

    private func refused(with answer: AnswerHead) {
        self.isRefused = true
        guard let pool = self.http.credentials, self.credentials != nil else {
            self.http.credentials?
                .probed(self.slot, refusedWith: answer.status, as: answer.refusalKind(ByteBuffer(), depth: 1))
            self.ownStatuses.append(answer.status)
            guard !self.ownSlots.isEmpty else {
                guard self.ownStatuses.count == 1 else { return self.end(.exhausted(self.ownStatuses)) }
                return self.end(.rejected(status: answer.status, slot: self.position))
            }
            self.connection?.cancel()
            self.connection = nil
            return self.attempt()
        }
        let refusal = pool.refused(
            &self.credentials,
            with: answer.status,
            as: answer.refusalKind(ByteBuffer(), depth: 1)
        )
        switch refusal.verdict {
        case .again:
            self.connection?.cancel()
            self.connection = nil
            self.attempt()
        case .rejected: self.end(.rejected(status: answer.status, slot: self.position))
        case .exhausted: self.end(.exhausted(refusal.statuses))
        }
    }

    func upstreamSent(_ bytes: ByteBuffer) {
        self.lastReceived = .now()
        self.reader?.append(bytes)
        while true {
            if case .closed = self.state { return }
            switch self.reader?.next() {
            case nil: return
            case .needsMore: return self.countOpening(bytes)
            case .skipped: continue
            case .message(let message): self.received(message)
            case .endpoint(let place): self.opened(place)
            case .tooLarge: return self.end(Self.eventTooLarge)
            }
        }
    }

    /// What is skipped before the endpoint must not go on and on.
    private func countOpening(_ bytes: ByteBuffer) {
        guard case .opening = self.state else { return }
        self.openingBytes += bytes.readableBytes
        if self.openingBytes > self.eventBytes { self.end(Self.noEndpoint) }
    }

    private static let noEndpoint = GatewayError(
        .upstreamProtocol,
        executed: .no,
        "the first event is not endpoint: this is no server of the HTTP+SSE transport",
        cause: "no_endpoint"
    )

    private static let eventTooLarge = GatewayError(
        .upstreamProtocol,
        executed: .yes,
        "an event is larger than limits.eventBytes",
        cause: "event_too_large"
    )

    private func received(_ message: ByteBuffer) {
        guard case .open = self.state else { return self.end(Self.noEndpoint) }
        self.delegate?.channelReceived(message)
    }

    /// The first event that is not skipped says where messages go; never to another origin (protocol C27).
    private func opened(_ place: ByteBuffer) {
        guard case .opening = self.state, place.readableBytes > 0 else { return }
        let location = String(buffer: place)
        let stream = self.redirection.target.flatMap { HTTPURL("\(self.http.configuration.url.origin)\($0)") }
        guard let url = (stream ?? self.http.configuration.url).resolving(reference: location),
            url.origin == self.http.configuration.url.origin, !url.hasUserInfo
        else {
            return self.end(
                GatewayError(
                    .upstreamProtocol,
                    executed: .no,
                    "the server wants messages to be sent to another origin",
                    cause: "foreign_endpoint"
                )
            )
        }
        self.state = .open(url.target)
        self.loop.sweeper.remove(self)
        self.delegate?.channelOpened()
    }

    func upstreamPaused() { self.delegate?.channelPaused() }

    func upstreamEnded() {
        self.connection = nil
        self.end(
            GatewayError(.upstreamClosed, executed: .unknown, "the server ended the stream", cause: "stream_ended")
        )
    }

    func upstreamFailed(_ error: TransportError) {
        self.connection = nil
        guard case .open = self.state else { return self.end(GatewayError(error)) }
        // Of what was sent meanwhile a broken stream says nothing.
        self.end(GatewayError(.upstreamClosed, executed: .unknown, "the stream broke", cause: "stream_broke"))
    }
}

extension GatewayError {
    /// What an answer with a status from 300 on means for the message that it answers.
    init(refusedWith answer: UpstreamCall.Answer) {
        guard (300..<400).contains(answer.status) else {
            self.init(refusedWith: answer.status)
            return
        }
        self = .redirected(to: answer.place, status: answer.status)
    }

    /// What an HTTP status of 400 and above, or a redirect, means for the message that it answers.
    init(refusedWith status: Int) {
        switch status {
        case 401, 403:
            self = .rejected(status: status, slot: nil)
        case 429:
            self.init(
                .rateLimited,
                executed: .no,
                "the server limits our rate; try again later",
                cause: "rate_limited",
                status: status
            )
        case 300..<400:
            self = .redirected(to: nil, status: status)
        default:
            self.init(
                .upstreamStatus,
                executed: status < 500 ? .no : .unknown,
                "the server answered HTTP \(status)",
                cause: "http_\(status / 100)xx",
                status: status
            )
        }
    }
}
