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
    enum State {
        /// Nothing came yet, or not the `endpoint` event.
        case opening
        /// The request target of POSTs.
        case open(String)
        case closed
    }

    var sweepIndex = -1
    private(set) weak var delegate: (any LinkChannelDelegate)?
    let upstream: Upstream
    let http: HTTPAccess
    /// Whether the credential that it used was refused.
    var isRefused = false
    let loop: LoopResources
    let fields: String
    let isShared: Bool
    private let deadline: NIODeadline
    /// The credentials that its opening tried.
    private(set) var credentials: CredentialFailover
    /// The slot that the whole session uses (credentials §2.9).
    private(set) var slot: CredentialID
    /// What it puts into the head of the GET; nil: the slot is gone.
    private var credentialOfStream: RequestCredential?
    /// The list of credentials that was looked at last for that, and whether it was not there.
    private var revision: UInt64 = 0
    private var isGone = false
    private(set) var state = State.opening
    private var hasAnswered = false
    private var connection: UpstreamConnection?
    private var own: OwnConnection
    private var reader: MessageReader?
    /// Where redirects led the request for the stream.
    private var redirection = Redirection()
    private let eventBytes: Int
    private let buffers: BufferLedger
    var pendingBytes = 0
    private(set) var lastReceived = NIODeadline.now()
    /// What a server speaks over this transport is known.
    var isTrial = false
    /// A server says nothing beside its messages.
    var lastErrors: Logger.MetadataValue? { nil }
    /// Bytes of the stream that came before it named a place for messages.
    private var openingBytes = 0

    /// `fields` are forwarded field lines of the one caller whose channel this is; `isShared`: callers share it.
    init(
        _ upstream: Upstream,
        _ http: HTTPAccess,
        fields: String,
        limits: Limits,
        buffers: BufferLedger,
        credentials: CredentialFailover,
        isShared: Bool,
        on loop: LoopResources,
        delegate: any LinkChannelDelegate
    ) {
        self.slot = .none
        self.credentials = credentials
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
    var position: Int? { self.http.position(of: self.slot) }

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
        self.attempt(self.credentials.next())
    }

    private func attempt(_ step: CredentialFailover.Step) {
        switch step {
        case .giveUp(let error):
            self.end(error)
        case .attempt(let slot):
            self.slot = slot
            self.credentialOfStream = self.credentials.credential ?? self.http.credential(slot)
            self.loop.pool(of: self.upstream)?.connect(for: self, isFresh: true)
        }
    }

    var isReadingPaused = false {
        didSet { self.connection?.isReadingPaused = self.isReadingPaused }
    }

    func close() { self.end(GatewayError(.upstreamClosed, executed: .unknown, "the session ended", cause: "closed")) }

    func kill() { self.end(GatewayError(.upstreamProtocol, executed: .unknown, "the stream makes no sense")) }

    func end(_ error: GatewayError) {
        if case .closed = self.state { return }
        self.state = .closed
        self.own.isWanted = false
        self.reader = nil
        self.connection?.cancel()
        self.connection = nil
        self.loop.sweeper.remove(self)
        self.credentials.ended()
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
        case _ where StatusReading.refusesCredential(answer.status):
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
        self.credentials.accepted()
    }

    private func refused(with answer: AnswerHead) {
        self.isRefused = true
        let step = self.credentials.refused(with: answer.status, as: answer.refusalKind(nil))
        if case .attempt = step {
            self.connection?.cancel()
            self.connection = nil
        }
        self.attempt(step)
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
