// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
package import GatewayWire
package import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

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
    /// A request up to this size is taken by a socket whose send buffer is empty in one write.
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
    /// What NIO says inside a call of ours comes after it: the receiver is in its own call to us then.
    let callOuts: CallOuts
    private var state = State.dialing
    private var receiver: (any UpstreamReceiver)?
    private var requestCount = 0
    private var requestProgress = TransportError.RequestProgress.nothing
    private var interimCount = 0
    private var remainingBody = 0
    private var isCloseDelimited = false
    @exclusivity(unchecked) private var chunked: HTTP1ChunkedDecoder?
    private var isHeadPending = false
    /// The beginning of a head whose end has not come; the parser has a smaller bound for the head itself.
    private var pendingHead = UnconsumedBytes(limit: 1024 * 1024)
    private var isReadHeld = false

    /// Whether reading is stopped because the other side cannot take more.
    package var isReadingPaused = false {
        didSet {
            guard !self.isReadingPaused, self.isReadHeld else { return }
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
            // What closed it may be known only later, and then there is nobody to tell.
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
        if size <= Self.alwaysWritten {
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
    func dialed(isTLS: Bool) {
        self.isForwarding = self.dial?.isForwarding == true
        if !isTLS { self.connected() }
    }

    /// There is no channel, or one that cannot be used; the receiver hears of it later, since it may be asking still.
    func dialFailed(_ error: TransportError) {
        self.callOuts.keep { self.fail(error) }
    }

    /// A failure behind the proxy, before the request: of TLS it is the upstream's, and of anything else the tunnel's.
    private func dialFailure(_ error: (any Error)?) -> TransportError {
        let failure =
            error.map { TransportError(dialling: $0) }
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
        if self.isReadingPaused { self.isReadHeld = true } else { context.read() }
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
        case .readingBody where self.isCloseDelimited:
            self.finish(reusable: false)
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
                // Nobody asked: whatever this is, it must not become the answer to a later request.
                if bytes.readableBytes > 0 { self.close() }
                return
            case .waiting where self.requestProgress == .nothing:
                // The request did not leave, and this was read on the way to the close: it answers something else.
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
        self.receiver?.upstreamAnswered(self)
        if self.state == .readingBody, !self.isCloseDelimited, self.chunked == nil, self.remainingBody == 0 {
            self.finish(leftover: bytes.readableBytes)
            return false
        }
        return self.state == .readingBody
    }

    /// Returns whether to go on with what is left in `bytes`.
    private func receiveBody(_ bytes: inout ByteBuffer) throws(HTTP1Error) -> Bool {
        guard bytes.readableBytes > 0 else { return false }
        if self.isCloseDelimited {
            self.receiver?.upstreamSent(bytes)
            return false
        }
        guard self.chunked != nil else {
            let part = bytes.readSlice(length: min(self.remainingBody, bytes.readableBytes)) ?? ByteBuffer()
            self.remainingBody -= part.readableBytes
            self.receiver?.upstreamSent(part)
            if self.state == .readingBody, self.remainingBody == 0 { self.finish(leftover: bytes.readableBytes) }
            return false
        }
        while self.state == .readingBody {
            guard let step = try self.chunked?.next(bytes.readableBytesUInt8Span) else { return false }
            let consumed = self.chunked?.consumed ?? 0
            switch step {
            case .data(let range):
                let part = bytes.getSlice(at: bytes.readerIndex + range.lowerBound, length: range.count)
                bytes.moveReaderIndex(forwardBy: consumed)
                if let part { self.receiver?.upstreamSent(part) }
            case .needsMore:
                return false
            case .end:
                bytes.moveReaderIndex(forwardBy: consumed)
                self.finish(leftover: bytes.readableBytes)
                return false
            }
        }
        return false
    }

    private func finish(leftover: Int = 0, reusable: Bool = true) {
        let receiver = self.receiver
        self.receiver = nil
        if reusable, leftover == 0, self.keepsAlive, self.requestProgress == .fully {
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

extension TransportError {
    /// A name for which there is no address, and why.
    init(resolving name: String, _ error: (any Error)?) {
        switch error as? NameResolver.Failure {
        case .noDescriptors:
            self = .noDescriptors
        case .busy:
            let text = "the name \(name) cannot be looked up now: too many others get no answer"
            self.init(.resolve, text, progress: .nothing)
        case .noAddress, .cancelled, nil:
            self.init(.resolve, "the name \(name) has no address", progress: .nothing)
        }
    }

    /// Whether there was no socket to be had, by the limit of this process or of the system.
    private static func isDescriptors(_ error: any Error) -> Bool {
        guard let error = error as? IOError else { return false }
        return error.errnoCode == EMFILE || error.errnoCode == ENFILE
    }

    /// Sorts what NIO and BoringSSL say about a failed dial.
    init(dialling error: any Error) {
        switch error {
        case let error as NIOConnectionError:
            let failures = error.connectionErrors.map(\.error)
            if failures.isEmpty {
                self.init(resolving: error.host, error.dnsAError ?? error.dnsAAAAError)
            } else if failures.contains(where: Self.isDescriptors) {
                self = .noDescriptors
            } else if failures.contains(where: { ($0 as? IOError)?.errnoCode == ECONNREFUSED }) {
                self.init(.connectRefused, "connection refused", progress: .nothing)
            } else if failures.contains(where: { $0 is ChannelError }) {
                self.init(.connectTimeout, "no connection within the connect timeout", progress: .nothing)
            } else {
                self.init(.connectFailed, "no address could be connected", progress: .nothing)
            }
        case let error as ChannelError:
            if case .connectTimeout = error {
                self.init(.connectTimeout, "no connection within the connect timeout", progress: .nothing)
            } else {
                self.init(.connectFailed, "closed while it was being set up", progress: .nothing)
            }
        case is NIOSSLExtraError:
            self.init(.tlsVerification, "the certificate is not for this host", progress: .nothing)
        case let error as NIOSSLError:
            let isVerification = "\(error)".contains("CERTIFICATE_VERIFY_FAILED")
            self.init(
                isVerification ? .tlsVerification : .tlsHandshake,
                isVerification
                    ? "the certificate cannot be verified (expired, or of an unknown authority: see tls.caFile)"
                    : "the TLS handshake failed",
                progress: .nothing
            )
        case let error where Self.isDescriptors(error):
            self = .noDescriptors
        default:
            self.init(.connectFailed, "the connection could not be set up", progress: .nothing)
        }
    }
}
