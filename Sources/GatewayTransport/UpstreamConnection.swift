// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
package import GatewayWire
package import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS

/// One HTTP/1.1 connection to an upstream: one request at a time, its answer parsed strictly and handed on in parts.
///
/// Confined to its event loop. Where the framing of an answer is in doubt, or bytes come that nobody asked for, the
/// connection is closed, so that no answer can be taken for that of another request (RFC 9112 §11.2, faults S5.11).
package final class UpstreamConnection: ChannelDuplexHandler {
    package typealias InboundIn = ByteBuffer
    package typealias OutboundIn = ByteBuffer
    package typealias OutboundOut = ByteBuffer

    private enum State {
        case dialing
        case idle
        /// The request is out, or on its way; no complete head yet.
        case waiting
        case readingBody
        case closed
    }

    /// Interim answers that are skipped before a final one must have come (faults S5.10).
    private static let interimLimit = 10
    /// Bytes of a request that a socket with an empty send buffer always takes in one write.
    private static let alwaysWritten = 16 * 1024

    // Unchecked, here and below: a parser calls nobody while it changes (decision 0014).
    /// The answer's head: status, fields, framing.
    ///
    /// Valid while `upstreamAnswered` runs.
    @exclusivity(unchecked) package private(set) var response = HTTP1ResponseParser(limits: .response)
    /// The bytes that `response` describes.
    package private(set) var responseBytes = ByteBuffer()
    /// When the connection was last given back.
    var idleSince = NIODeadline.uptimeNanoseconds(0)
    /// How long it may be kept without a request.
    private(set) var idleLimit = UpstreamPool.idleLimit
    var isReused: Bool { self.requestCount > 1 }
    /// Whether a request may be sent on it; not to a proxy that rejected its login a moment ago.
    var isUsable: Bool { self.state == .idle && !(self.isForwarding && self.route?.isBlocked == true) }
    var isIdle: Bool { self.state == .idle }

    /// Whether requests go to an HTTP proxy in absolute form, with its login, instead of to the upstream.
    package private(set) var isForwarding = false
    /// What sets the connection up through an outbound proxy; nil without one, and when that is over: when the tunnel can
    /// be used, or a forwarded request was answered.
    private var dial: ProxyDial?

    private let pool: UpstreamPool
    /// The proxy that it leads through.
    private var route: OutboundProxyRoute?
    private var context: ChannelHandlerContext?
    /// TLS with the upstream, while it is set up: only that has a certificate that was refused.
    private var tls: NIOSSLClientHandler?
    /// Keeps what NIO fires inside a call of ours until that call is over, since the receiver is in a call to us then.
    let callOuts: CallOuts
    private var state = State.dialing
    private var receiver: (any UpstreamReceiver)?
    private var requestCount = 0
    private var requestProgress = TransportError.RequestProgress.nothing
    /// Whether the request has more bytes than a server reads together with its head.
    private var isLargeRequest = false
    private var interimCount = 0
    private var remainingBody = 0
    private var isCloseDelimited = false
    @exclusivity(unchecked) private var chunked: HTTP1ChunkedDecoder?
    private var isHeadPending = false
    /// The beginning of a head whose end has not come; the parser has a smaller bound for the head itself.
    private var pendingHead = UnconsumedBytes(limit: 1024 * 1024)
    private var isReadHeld = false
    /// Decodes the body; nil where it comes as it is.
    private var decoder: ContentDecoder?
    /// Whether the receiver could not take what waits to be decoded: nothing is read until it could.
    private var isDecoderBehind = false
    /// Set when all of the body was read, and something of it waits to be decoded: whether the connection can be kept.
    private var decodedEnd: Bool?

    /// Whether the body is another than the one that `response` describes, without the coding that it came in.
    ///
    /// Valid while `upstreamAnswered` runs.
    package var isDecoded: Bool { self.decoder != nil }
    /// The coding of the body, in words, if it is none that can be decoded: the answer then ends without a body.
    ///
    /// Valid while `upstreamAnswered` runs.
    package private(set) var unsupportedCoding: String?

    /// Whether reading is stopped because the other side cannot take more.
    package var isReadingPaused = false {
        didSet {
            guard !self.isReadingPaused else { return }
            // The receiver is in its own call to us.
            if self.isDecoderBehind { return self.callOuts.keep { self.decodeOn() } }
            guard self.isReadHeld else { return }
            self.isReadHeld = false
            self.callOuts.begin()
            self.context?.read()
            self.callOuts.end()
        }
    }

    init(pool: UpstreamPool, receiver: any UpstreamReceiver) {
        self.pool = pool
        self.callOuts = CallOuts(on: pool.eventLoop)
        self.receiver = receiver
    }

    // MARK: Requests

    /// Sends one request; the answer goes to `receiver`, which hears nothing before this returns.
    ///
    /// `head` ends with the empty line and may have a short body behind it; `body` is sent after it.
    package func send(head: ByteBuffer, body: ByteBuffer?, receiver: any UpstreamReceiver) {
        self.receiver = receiver
        guard let context, self.state == .idle, context.channel.isActive else {
            // Told later, since the receiver is in its own call to us.
            return self.callOuts.keep { self.failUnsent() }
        }
        self.state = .waiting
        self.requestCount += 1
        self.interimCount = 0
        self.requestProgress = .nothing
        self.isReadingPaused = false
        self.response.reset()
        self.callOuts.begin()
        defer { self.callOuts.end() }
        let size = head.readableBytes + (body?.readableBytes ?? 0)
        self.isLargeRequest = size > Self.alwaysWritten
        if !self.isLargeRequest {
            context.write(self.wrapOutboundOut(head), promise: nil)
            if let body { context.write(self.wrapOutboundOut(body), promise: nil) }
            context.flush()
            // A write that failed has closed the channel.
            if context.channel.isActive { self.requestProgress = .fully }
            return
        }
        self.requestProgress = .partly
        let count = self.requestCount
        let promise = context.eventLoop.makePromise(of: Void.self)
        promise.futureResult.assumeIsolated()
            .whenSuccess { [weak self] in
                guard let self, self.requestCount == count else { return }
                self.requestProgress = .fully
            }
        context.write(self.wrapOutboundOut(head), promise: body == nil ? promise : nil)
        if let body { context.write(self.wrapOutboundOut(body), promise: promise) }
        context.flush()
    }

    /// The connection was gone before the request.
    private func failUnsent() {
        guard let receiver = self.receiver else { return }
        self.receiver = nil
        self.close()
        let text = "the connection was closed before the request"
        receiver.upstreamFailed(TransportError(.staleConnection, text, progress: .nothing))
    }

    /// Gives back a connection that was not used.
    package func release() {
        self.receiver = nil
        self.pool.release(self)
    }

    /// Ends the exchange at once by closing the connection; the receiver hears nothing more.
    package func cancel() {
        self.receiver = nil
        self.close()
    }

    func close() {
        guard self.state != .closed else { return }
        self.state = .closed
        self.decoder = nil
        self.tls = nil
        self.pool.forget(self)
        self.dial?.cancel()
        self.dial = nil
        self.context?.close(promise: nil)
    }

    // MARK: Dialling

    var isDialing: Bool { self.state == .dialing }

    /// Begins to set it up through an outbound proxy.
    func dials(through route: OutboundProxyRoute, with dial: ProxyDial) {
        self.route = route
        self.dial = dial
        dial.start()
    }

    /// The channel leads to the upstream, or to the proxy that takes requests for it.
    func dialed(_ tls: NIOSSLClientHandler?) {
        self.isForwarding = self.dial?.isForwarding == true
        self.tls = tls
        if tls == nil { self.connected() }
    }

    /// There is no channel, or none that can be used; the receiver is told later, since it may still be in its call to us.
    func dialFailed(_ error: TransportError) {
        self.callOuts.keep { self.fail(error) }
    }

    /// A failure behind the proxy, before the request: of TLS it is the upstream's, and of anything else the tunnel's.
    private func dialFailure(_ error: (any Error)?) -> TransportError {
        let failure =
            error.map {
                TransportError(dialling: $0, certificate: self.tls?.peerCertificate.map { CertificateFault($0) })
            }
            ?? TransportError(.connectFailed, "closed while it was being set up", progress: .nothing)
        guard let route else { return failure }
        // The end of the connection, as TLS with the upstream and TLS with the proxy see it.
        let ends: [NIOSSLError] = [.handshakeFailed(.sslError([.eofDuringHandshake])), .uncleanShutdown]
        let isEnd = (error as? NIOSSLError).map(ends.contains)
        guard isEnd == true || ![.tlsVerification, .tlsHandshake].contains(failure.code) else { return failure }
        let text = "closed the tunnel to \(route.target) before it could be used"
        return route.failed(OutboundProxyError(.protocol, text, stage: .tunnel))
    }

    private func connected() {
        guard self.state == .dialing else { return }
        self.state = .idle
        self.tls = nil
        if !self.isForwarding {
            self.dial = nil
            self.route?.succeeded()
        }
        self.pool.connected(self)
        guard let receiver = self.receiver else { return self.pool.release(self) }
        self.receiver = nil
        receiver.upstreamConnected(self)
    }

    /// Called by the sweep of the pool when a dial took too long.
    func dialTimedOut() {
        guard self.state == .dialing else { return }
        if let dial { return self.fail(dial.timedOut()) }
        self.fail(TransportError(.connectTimeout, "no connection within the connect timeout", progress: .nothing))
    }

    package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? TLSUserEvent, case .handshakeCompleted = event { self.connected() }
        context.fireUserInboundEventTriggered(event)
    }

    // MARK: Channel

    package func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    package func handlerRemoved(context: ChannelHandlerContext) {
        // A channel that closes before it was active says so in no other way.
        if self.state != .closed { self.becomeInactive() }
        self.context = nil
    }

    package func read(context: ChannelHandlerContext) {
        if self.isReadingPaused || self.isDecoderBehind { self.isReadHeld = true } else { context.read() }
    }

    package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !self.callOuts.mustWait else { return self.callOuts.keep { self.received(data) } }
        self.received(data)
    }

    package func channelReadComplete(context: ChannelHandlerContext) {
        guard !self.callOuts.mustWait else { return self.callOuts.keep { self.paused() } }
        self.paused()
    }

    package func channelInactive(context: ChannelHandlerContext) { self.becomeInactive() }

    package func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard !self.callOuts.mustWait else { return self.callOuts.keep { self.caught(error) } }
        self.caught(error)
    }

    private func becomeInactive() {
        guard !self.callOuts.mustWait else { return self.callOuts.keep { self.inactive() } }
        self.inactive()
    }

    private func received(_ data: NIOAny) {
        var bytes = self.unwrapInboundIn(data)
        do throws(HTTP1Error) {
            try self.receive(&bytes)
        } catch {
            self.fail(self.failure(.badHTTP, "the answer is no valid HTTP/1.1: \(error.text)"))
        }
    }

    private func paused() {
        if self.state == .waiting || self.state == .readingBody { self.receiver?.upstreamPaused() }
    }

    private func inactive() {
        switch self.state {
        case .dialing:
            self.fail(self.dialFailure(nil))
        case .idle:
            self.close()
        case .waiting where self.isHeadPending:
            self.fail(self.failure(.truncatedHead, "closed in the head of the answer"))
        case .waiting:
            self.fail(self.unanswered)
        case .readingBody where self.decodedEnd != nil:
            // All of it is here.
            self.decodedEnd = false
        case .readingBody where self.isCloseDelimited:
            self.bodyEnded(isReusable: false)
        case .readingBody:
            self.fail(self.failure(.truncatedBody, "closed in the body of the answer"))
        case .closed:
            break
        }
    }

    private func caught(_ error: any Error) {
        switch self.state {
        case .dialing:
            self.fail(self.dialFailure(error))
        case .readingBody where self.isCloseDelimited:
            // Without a clean end nobody knows whether this was all of it (RFC 9112 §8).
            self.fail(self.failure(.truncatedBody, "the connection broke in the body of the answer"))
        default:
            // The channel closes behind an error; `channelInactive` says where that leaves the exchange.
            self.context?.close(promise: nil)
        }
    }

    /// The connection ended before any byte of an answer.
    private var unanswered: TransportError {
        self.failure(self.isReused ? .staleConnection : .closedBeforeResponse, "closed before an answer")
    }

    // MARK: Answers

    private func receive(_ bytes: inout ByteBuffer) throws(HTTP1Error) {
        while true {
            switch self.state {
            case .dialing, .idle:
                // There is no request: these bytes must not become the answer to a later one.
                if bytes.readableBytes > 0 { self.close() }
                return
            case .waiting where self.requestProgress == .nothing:
                // The request was never sent, so these bytes, read while the connection closes, answer something else.
                return self.fail(self.unanswered)
            case .waiting:
                guard try self.receiveHead(&bytes) else { return }
            case .readingBody:
                guard try self.receiveBody(&bytes) else { return }
            case .closed:
                return
            }
        }
    }

    /// Returns whether to go on with what is left in `bytes`.
    private func receiveHead(_ bytes: inout ByteBuffer) throws(HTTP1Error) -> Bool {
        if self.isHeadPending {
            guard self.pendingHead.append(bytes) else { throw HTTP1Error(.headTooLarge) }
            bytes = self.pendingHead.takeAll()
        }
        guard bytes.readableBytes > 0 else { return false }
        guard let length = try self.response.parse(bytes.readableBytesUInt8Span) else {
            self.isHeadPending = true
            guard self.pendingHead.append(bytes) else { throw HTTP1Error(.headTooLarge) }
            return false
        }
        self.isHeadPending = false
        self.responseBytes = bytes.readSlice(length: length) ?? ByteBuffer()
        if (100..<200).contains(self.response.status) {
            self.interimCount += 1
            guard self.response.status != 101, self.interimCount <= Self.interimLimit else {
                self.fail(self.failure(.badHTTP, "the answer switches protocols, or never becomes a final one"))
                return false
            }
            self.response.reset()
            return true
        }
        if self.isForwarding {
            let dial = self.dial
            self.dial = nil
            if let error = self.route?.judge(self, of: dial) {
                self.fail(error)
                return false
            }
        }
        self.state = .readingBody
        self.isCloseDelimited = false
        self.chunked = nil
        self.remainingBody = 0
        self.readIdleLimit()
        switch self.response.framing {
        case .none: break
        case .length(let length): self.remainingBody = length
        case .chunked: self.chunked = HTTP1ChunkedDecoder()
        case .untilClose: self.isCloseDelimited = true
        }
        if self.response.hasContentEncoding { self.readCoding() }
        self.receiver?.upstreamAnswered(self)
        if self.state == .readingBody, !self.isCloseDelimited, self.chunked == nil, self.remainingBody == 0 {
            self.finish(leftover: bytes.readableBytes)
            return false
        }
        if self.unsupportedCoding != nil, self.state == .readingBody {
            self.finish(isReusable: false)
            return false
        }
        return self.state == .readingBody
    }

    /// Returns whether to go on with what is left in `bytes`.
    private func receiveBody(_ bytes: inout ByteBuffer) throws(HTTP1Error) -> Bool {
        guard bytes.readableBytes > 0 else { return false }
        if self.isCloseDelimited {
            self.deliver(bytes)
            return false
        }
        guard self.chunked != nil else {
            let part = bytes.readSlice(length: min(self.remainingBody, bytes.readableBytes)) ?? ByteBuffer()
            self.remainingBody -= part.readableBytes
            self.deliver(part)
            if self.state == .readingBody, self.remainingBody == 0 { self.bodyEnded(leftover: bytes.readableBytes) }
            return false
        }
        while self.state == .readingBody {
            guard let step = try self.chunked?.next(bytes.readableBytesUInt8Span) else { return false }
            let consumed = self.chunked?.consumed ?? 0
            switch step {
            case .data(let range):
                let part = bytes.getSlice(at: bytes.readerIndex + range.lowerBound, length: range.count)
                bytes.moveReaderIndex(forwardBy: consumed)
                if let part { self.deliver(part) }
            case .needsMore:
                return false
            case .end:
                bytes.moveReaderIndex(forwardBy: consumed)
                self.bodyEnded(leftover: bytes.readableBytes)
                return false
            }
        }
        return false
    }

    // MARK: Codings

    /// A body in a coding is decoded, whatever its status: nobody behind this has to know of codings.
    private func readCoding() {
        guard self.isCloseDelimited || self.chunked != nil || self.remainingBody > 0 else { return }
        let head = self.responseBytes
        let values = self.response.fields.filter { $0.name == .contentEncoding }
            .map { String(decoding: $0.value(in: head) ?? [], as: UTF8.self) }
        let coding = ContentCoding(values)
        if case .unsupported(let text) = coding { self.unsupportedCoding = text }
        let connection = NIOLoopBound(self, eventLoop: self.pool.eventLoop)
        let answer = self.requestCount
        self.isDecoderBehind = false
        self.decodedEnd = nil
        self.decoder = ContentDecoder(coding, in: self.pool.buffers) {
            connection.eventLoop.execute { connection.value.letGo(of: answer) }
        }
    }

    /// There is no room for what it takes to decode the answer to this request.
    private func letGo(of request: Int) {
        guard self.requestCount == request, self.decoder != nil else { return }
        self.fail(self.failure(.noRoom, "the gateway holds as much as limits.bufferedBytes allows; try again later"))
    }

    private func deliver(_ part: ByteBuffer) {
        guard let decoder else {
            self.receiver?.upstreamSent(part)
            return
        }
        guard decoder.append(part) else {
            return self.fail(
                self.failure(.badEncoding, "more of the answer waits to be decoded than there is room for")
            )
        }
        self.decode()
    }

    /// Gives the receiver what it takes.
    private func decode() {
        while self.state == .readingBody, let decoder, !self.isReadingPaused {
            switch decoder.next() {
            case .content(let bytes):
                self.receiver?.upstreamSent(bytes)
            case .failed(let text):
                return self.fail(self.failure(.badEncoding, text))
            case .needsMore:
                self.isDecoderBehind = false
                if let isReusable = self.decodedEnd { self.decodingEnded(isReusable: isReusable) }
                return
            }
        }
        self.isDecoderBehind = self.state == .readingBody && self.decoder != nil
    }

    /// The receiver takes more again.
    private func decodeOn() {
        guard self.isDecoderBehind, !self.isReadingPaused else { return }
        self.decode()
        self.paused()
        guard !self.isDecoderBehind, self.isReadHeld, !self.isReadingPaused else { return }
        self.isReadHeld = false
        self.callOuts.begin()
        self.context?.read()
        self.callOuts.end()
    }

    /// All of the body was read.
    private func bodyEnded(leftover: Int = 0, isReusable: Bool = true) {
        guard self.decoder != nil else { return self.finish(leftover: leftover, isReusable: isReusable) }
        self.decodedEnd = isReusable && leftover == 0
        if !self.isDecoderBehind { self.decode() }
    }

    private func decodingEnded(isReusable: Bool) {
        guard self.decoder?.isComplete == true else {
            // Where the end of the connection is that of the body, it may have come too early.
            let code = self.isCloseDelimited ? TransportError.Code.truncatedBody : .badEncoding
            return self.fail(self.failure(code, "the content of the answer ends in the middle of its coding"))
        }
        self.finish(isReusable: isReusable)
    }

    // MARK: Ends

    private func finish(leftover: Int = 0, isReusable: Bool = true) {
        let receiver = self.receiver
        self.receiver = nil
        if self.decoder != nil { (self.decoder, self.decodedEnd) = (nil, nil) }
        if isReusable, leftover == 0, self.keepsAlive, self.requestProgress == .fully {
            self.state = .idle
            self.pool.release(self)
        } else {
            self.close()
        }
        receiver?.upstreamEnded()
    }

    /// Whether another request may follow.
    ///
    /// A proxy that takes requests has to say so: tinyproxy takes one, and passes on what follows as it is, with our login
    /// in it, if the upstream leaves the connection open.
    private var keepsAlive: Bool {
        // A server that refuses by the head need not read a long body, and then closes with a reset, whatever it said.
        guard !self.isLargeRequest || self.response.status < 300 else { return false }
        guard self.response.keepsAlive, self.isForwarding else { return self.response.keepsAlive }
        let head = self.responseBytes
        for field in self.response.fields {
            guard
                HTTP1Text.equalsIgnoringCase(head.readableBytesUInt8Span.extracting(field.nameRange), "connection")
                    || HTTP1Text.equalsIgnoringCase(
                        head.readableBytesUInt8Span.extracting(field.nameRange),
                        "proxy-connection"
                    )
            else { continue }
            if HTTP1Text.list(head.readableBytesUInt8Span.extracting(field.valueRange), contains: "keep-alive") {
                return true
            }
        }
        return false
    }

    private func failure(_ code: TransportError.Code, _ message: String) -> TransportError {
        TransportError(
            code,
            message,
            progress: self.requestProgress,
            // Bytes that are no HTTP are the beginning of an answer as well.
            answerBegan: self.isHeadPending || self.state == .readingBody || code == .badHTTP
        )
    }

    private func fail(_ error: TransportError) {
        guard self.state != .closed else { return }
        let receiver = self.receiver
        self.receiver = nil
        self.close()
        receiver?.upstreamFailed(error)
    }

    /// A server that says how long it keeps a connection gets one second less than that (faults F4).
    private func readIdleLimit() {
        self.idleLimit = UpstreamPool.idleLimit
        guard let range = self.response.value(of: .keepAlive) else { return }
        let start = self.responseBytes.readerIndex + range.lowerBound
        guard let value = self.responseBytes.getString(at: start, length: range.count) else { return }
        for parameter in value.split(separator: ",") {
            let parts = parameter.split(separator: "=")
            guard parts.count == 2, parts[0].drop(while: { $0 == " " }).lowercased() == "timeout",
                let seconds = Int64(parts[1]), (1...3600).contains(seconds)
            else { continue }
            self.idleLimit = .seconds(seconds - 1)
        }
    }
}
