// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayRuntime
import GatewayTransport
import GatewayWire
import NIOCore

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// One connection of a caller: one request at a time, read strictly, answered, and then the next.
///
/// Confined to its event loop. Bytes of later requests wait in `input`, within a bound, until the answer to the one
/// before is out. After a request whose framing is in doubt nothing more is read from the connection.
final class DownstreamConnection: ChannelDuplexHandler, Sweepable {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    enum State {
        /// Waiting for a request, or for the rest of its head.
        case readingHead
        case readingBody
        /// Somebody works on the request.
        case answering
        /// The answer to a request that was not read to its end is out: what still comes is thrown away for a moment,
        /// so that the caller gets to read the answer (RFC 9112 §9.6).
        case lingering(until: NIODeadline)
        case closed
    }

    /// Bytes that may wait behind the request that is worked on.
    private static let inputLimit = 64 * 1024
    private static let lingerTime = TimeAmount.seconds(2)

    let loop: GatewayLoop
    var sweepIndex = -1
    private let limits: Limits
    private let handler: any RequestHandler
    private let request: InboundRequest
    private let onClose: () -> Void
    private var facts = ConnectionFacts(isLocalAddressLoopback: false, isPeerLoopback: false)
    private var context: ChannelHandlerContext?
    private(set) var state = State.readingHead
    private var input = ByteBuffer()
    private var exchange: (any DownstreamExchange)?
    private var deadline: NIODeadline
    private var headBegan = false
    private var requestCount = 0
    private var isProcessing = false
    private var isReadHeld = false
    private var isInputClosed = false
    private var blockedSince: NIODeadline?

    // The request's body.
    private var remainingBody = 0
    private var chunked: HTTP1ChunkedDecoder?
    private var bodyBegan = NIODeadline.uptimeNanoseconds(0)
    private var buffered = 0

    // The answer.
    private var keepsAlive = true
    private var isHeadRequest = false
    private var isChunkedAnswer = false

    init(loop: GatewayLoop, limits: Limits, handler: any RequestHandler, onClose: @escaping () -> Void) {
        self.loop = loop
        self.limits = limits
        self.handler = handler
        self.onClose = onClose
        self.deadline = .now() + TimeAmount(limits.headTimeout)
        self.request = InboundRequest(
            parser: HTTP1RequestParser(
                limits: HTTP1HeadLimits(
                    headBytes: limits.headBytes,
                    fields: limits.headFields,
                    targetBytes: limits.targetBytes
                )
            )
        )
    }

    // MARK: Channel

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelActive(context: ChannelHandlerContext) {
        self.facts = ConnectionFacts(context.channel)
        self.loop.sweeper.add(self)
    }

    func channelInactive(context: ChannelHandlerContext) {
        let exchange = self.exchange
        self.exchange = nil
        self.state = .closed
        self.loop.sweeper.remove(self)
        self.hold(0)
        self.onClose()
        exchange?.downstreamLeft(isClosed: true)
    }

    func read(context: ChannelHandlerContext) {
        if self.input.readableBytes >= Self.inputLimit { self.isReadHeld = true } else { context.read() }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = self.unwrapInboundIn(data)
        switch self.state {
        case .lingering, .closed:
            return
        case .readingHead, .readingBody, .answering:
            if self.input.readableBytes == 0 { self.input = bytes } else { self.input.writeBuffer(&bytes) }
        }
        self.process()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable {
            self.blockedSince = nil
            self.exchange?.downstreamBecameWritable()
            self.process()
        } else if self.blockedSince == nil {
            self.blockedSince = .now()
        }
        context.fireChannelWritabilityChanged()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard let event = event as? ChannelEvent, event == .inputClosed else {
            return context.fireUserInboundEventTriggered(event)
        }
        self.isInputClosed = true
        switch self.state {
        case .answering:
            self.exchange?.downstreamLeft(isClosed: false)
        case .readingHead where self.blockedSince != nil || self.input.readableBytes > 0 && !self.headBegan:
            // Whole requests wait to be answered, or an answer to be taken.
            break
        case .readingHead, .readingBody, .lingering:
            self.close()
        case .closed:
            break
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // A reset or a failed write: the channel is of no more use, and `channelInactive` tells everybody.
        context.close(promise: nil)
    }

    // MARK: Reading

    /// Goes on with what is in `input`, request after request, until bytes are missing or an answer is.
    private func process() {
        guard !self.isProcessing else { return }
        self.isProcessing = true
        defer { self.isProcessing = false }
        reading: while self.input.readableBytes > 0 {
            switch self.state {
            case .readingHead:
                // Answers that nobody takes must not pile up.
                guard self.blockedSince == nil, self.readHead() else { break reading }
            case .readingBody:
                guard self.readBody() else { break reading }
            case .answering, .lingering, .closed:
                break reading
            }
        }
        if self.isInputClosed, case .readingHead = self.state, self.blockedSince == nil { return self.close() }
        if self.isReadHeld, self.input.readableBytes < Self.inputLimit {
            self.isReadHeld = false
            self.context?.read()
        }
    }

    /// Returns whether to go on.
    private func readHead() -> Bool {
        if !self.headBegan {
            self.headBegan = true
            self.request.receivedAt = .now()
            self.deadline = self.request.receivedAt + TimeAmount(self.limits.headTimeout)
        }
        let length: Int?
        do throws(HTTP1Error) {
            length = try self.request.parser.parse(self.input.readableBytesUInt8Span)
        } catch {
            self.reject(error)
            return false
        }
        guard let length, let head = self.input.readSlice(length: length) else { return false }
        self.request.head = head
        self.requestCount += 1
        self.isHeadRequest = self.request.parser.method == .head
        self.keepsAlive =
            self.request.parser.keepsAlive && self.requestCount < self.limits.requestsPerConnection
            && !self.handler.isDraining
        if let rejection = self.handler.admit(self.request, from: self.facts) {
            self.reject(rejection)
            return self.isReadingHead
        }
        self.bodyBegan = .now()
        self.deadline = self.bodyBegan + TimeAmount(self.limits.bodyTimeout)
        switch self.request.parser.framing {
        case .none, .length(0), .untilClose:
            self.handOver()
            return self.isReadingHead
        case .length(let length):
            guard length <= self.limits.bodyBytes else {
                self.reject(self.tooLarge)
                return false
            }
            if let body = self.input.readSlice(length: length) {
                // In one piece already, which is the ordinary case: nothing is copied.
                self.request.body = body
                self.hold(length)
                self.handOver()
                return self.isReadingHead
            }
            self.remainingBody = length
            self.chunked = nil
            self.request.body = self.loop.buffer(capacity: min(length, Self.inputLimit))
        case .chunked:
            self.chunked = HTTP1ChunkedDecoder()
            self.request.body = ByteBuffer()
        }
        self.state = .readingBody
        if self.request.parser.expectsContinue, self.input.readableBytes == 0 {
            self.context?
                .writeAndFlush(
                    self.wrapOutboundOut(ByteBuffer(staticString: "HTTP/1.1 100 Continue\r\n\r\n")),
                    promise: nil
                )
        }
        return true
    }

    private var isReadingHead: Bool { if case .readingHead = self.state { true } else { false } }

    /// Returns whether to go on.
    private func readBody() -> Bool {
        guard self.chunked != nil else {
            let count = min(self.remainingBody, self.input.readableBytes)
            if var part = self.input.readSlice(length: count) { self.request.body.writeBuffer(&part) }
            self.remainingBody -= count
            self.bodyGrew()
            if self.remainingBody == 0 { self.handOver() }
            return self.isReadingHead
        }
        while true {
            do throws(HTTP1Error) {
                guard let step = try self.chunked?.next(self.input.readableBytesUInt8Span) else { return false }
                let consumed = self.chunked?.consumed ?? 0
                switch step {
                case .data(let range):
                    guard self.request.body.readableBytes + range.count <= self.limits.bodyBytes else {
                        self.reject(self.tooLarge)
                        return false
                    }
                    if let data = self.input.viewBytes(
                        at: self.input.readerIndex + range.lowerBound,
                        length: range.count
                    ) {
                        self.request.body.writeBytes(data)
                    }
                    self.input.moveReaderIndex(forwardBy: consumed)
                    self.bodyGrew()
                case .needsMore:
                    self.input.moveReaderIndex(forwardBy: consumed)
                    return false
                case .end:
                    self.input.moveReaderIndex(forwardBy: consumed)
                    self.handOver()
                    return self.isReadingHead
                }
            } catch {
                self.reject(error)
                return false
            }
        }
    }

    /// Bytes buy time: a caller that keeps the rate is never too slow (contract §6, `bodyRate`).
    private func bodyGrew() {
        let count = self.request.body.readableBytes
        self.hold(count)
        let bought = TimeAmount.milliseconds(Int64(count) * 1000 / Int64(max(self.limits.bodyRate, 1)))
        self.deadline = self.bodyBegan + TimeAmount(self.limits.bodyTimeout) + bought
    }

    private func hold(_ count: Int) {
        guard count != self.buffered else { return }
        self.handler.buffered(count - self.buffered)
        self.buffered = count
    }

    private func handOver() {
        self.state = .answering
        let exchange = self.handler.handle(self.request, from: self.facts, responder: self)
        // It may have been answered while it was handed over.
        if case .answering = self.state {
            self.exchange = exchange
            if self.isInputClosed { exchange?.downstreamLeft(isClosed: false) }
        }
    }

    /// The answer is out: the connection is free for the next request, or ends.
    private func answered() {
        self.exchange = nil
        self.hold(0)
        self.request.body = ByteBuffer()
        self.request.parser.reset()
        self.headBegan = false
        guard self.keepsAlive, !self.isInputClosed || self.input.readableBytes > 0 else {
            return self.closeAfterWrites()
        }
        self.state = .readingHead
        self.deadline = .now() + TimeAmount(self.limits.idleTimeout)
        self.process()
    }

    // MARK: Refusals

    private var tooLarge: Rejection {
        Rejection(.bodySize, 413, "the body is larger than limits.bodyBytes (\(self.limits.bodyBytes))")
    }

    /// Framing in doubt: the answer, and then nothing more from this connection (faults S6.1).
    private func reject(_ error: HTTP1Error) {
        let reason: RejectionReason =
            switch error.status {
            case 414: .targetSize
            case 417: .expectation
            case 431: .headSize
            case 501: .notImplemented
            case 505: .version
            default: .framing
            }
        self.handler.rejected(reason)
        self.refuseAndLinger(Rejection(reason, error.status, error.text))
    }

    /// Refuses a request by its head.
    ///
    /// The connection goes on only if the whole request is here already.
    private func reject(_ rejection: Rejection) {
        self.handler.rejected(rejection.reason)
        switch self.request.parser.framing {
        case .none, .length(0), .untilClose:
            self.answer(rejection)
        case .length(let length) where length <= self.input.readableBytes && self.chunked == nil && self.isReadingHead:
            self.input.moveReaderIndex(forwardBy: length)
            self.answer(rejection)
        case .length, .chunked:
            self.refuseAndLinger(rejection)
        }
    }

    private func answer(_ rejection: Rejection) {
        self.state = .answering
        self.respond(status: rejection.status, json: Self.body(rejection)) { $0.writeString(rejection.fields) }
    }

    private func refuseAndLinger(_ rejection: Rejection) {
        self.keepsAlive = false
        self.state = .lingering(until: .now() + Self.lingerTime)
        self.input = ByteBuffer()
        self.hold(0)
        var head = self.makeHead(status: rejection.status) { fields in
            fields.writeStaticString("Content-Type: application/json\r\n")
            fields.writeString(rejection.fields)
        }
        let body = Self.body(rejection)
        head.writeString("Content-Length: \(body.count)\r\n\r\n")
        head.writeBytes(body)
        self.context?.writeAndFlush(self.wrapOutboundOut(head), promise: nil)
        self.context?.close(mode: .output, promise: nil)
    }

    private static func body(_ rejection: Rejection) -> [UInt8] {
        ErrorAnswer.body(code: -32_600, message: rejection.message)
    }

    // MARK: Time

    func sweep(now: NIODeadline) {
        if let blockedSince, now - blockedSince >= TimeAmount(self.limits.slowReader), self.exchange == nil {
            return self.close()
        }
        switch self.state {
        case .answering:
            self.exchange?.sweep(now: now)
        case .readingHead where self.handler.isDraining && !self.headBegan:
            self.close()
        case .readingHead where now >= self.deadline && !self.headBegan:
            // Between two requests silence is no mistake.
            self.close()
        case .readingHead where now >= self.deadline, .readingBody where now >= self.deadline:
            self.handler.rejected(.slow)
            self.refuseAndLinger(Rejection(.slow, 408, "the request took too long to arrive"))
        case .lingering(let until) where now >= until:
            self.close()
        default:
            break
        }
    }

    /// The process stops: streams end, idle connections close, what is being answered may finish.
    func drain() {
        self.keepsAlive = false
        if case .readingHead = self.state, !self.headBegan, self.blockedSince == nil { return self.close() }
        self.exchange?.drain()
    }

    func close() {
        if case .closed = self.state { return }
        self.state = .closed
        self.context?.close(promise: nil)
    }

    private func closeAfterWrites() {
        // A close waits for no write, so it has to come behind the last one.
        self.state = .lingering(until: .now() + TimeAmount(self.limits.slowReader))
        guard let context else { return }
        context.writeAndFlush(self.wrapOutboundOut(ByteBuffer())).assumeIsolated().whenComplete { _ in self.close() }
    }
}

// MARK: - Answers

extension DownstreamConnection: DownstreamResponder {
    /// An answer up to this size is copied behind its head: one buffer costs less than two.
    private static let inlineBody = 16 * 1024

    var isWritable: Bool { self.context?.channel.isWritable ?? false }

    private func makeHead(status: Int, capacity: Int = 512, fields: (inout ByteBuffer) -> Void) -> ByteBuffer {
        // Asked again here: the process may have been told to stop since the request came.
        if self.handler.isDraining { self.keepsAlive = false }
        var head = self.loop.buffer(capacity: capacity)
        ResponseHead.append(status: status, to: &head)
        head.writeImmutableBuffer(self.loop.dateField(now: self.request.receivedAt))
        if !self.keepsAlive {
            head.writeStaticString("Connection: close\r\n")
        } else if self.request.parser.minorVersion == 0 {
            head.writeStaticString("Connection: keep-alive\r\n")
        }
        fields(&head)
        return head
    }

    func respond(status: Int, body: ByteBuffer?, fields: (inout ByteBuffer) -> Void) {
        guard case .answering = self.state, let context else { return }
        let length = body?.readableBytes ?? 0
        let isInline = length <= Self.inlineBody
        var head = self.makeHead(status: status, capacity: 512 + (isInline ? length : 0), fields: fields)
        if status != 204 {
            head.writeStaticString("Content-Length: ")
            ResponseHead.append(length, to: &head)
            head.writeStaticString("\r\n")
        }
        head.writeStaticString("\r\n")
        if let body, !self.isHeadRequest {
            if isInline {
                head.writeImmutableBuffer(body)
            } else {
                context.write(self.wrapOutboundOut(head), promise: nil)
                head = body
            }
        }
        context.writeAndFlush(self.wrapOutboundOut(head), promise: nil)
        self.answered()
    }

    func begin(status: Int, length: Int?, fields: (inout ByteBuffer) -> Void) {
        guard case .answering = self.state, let context else { return }
        self.isChunkedAnswer = length == nil && self.request.parser.minorVersion == 1
        // Without chunks only the end of the connection ends the body (RFC 9112 §6.3).
        if length == nil, !self.isChunkedAnswer { self.keepsAlive = false }
        var head = self.makeHead(status: status, fields: fields)
        if let length {
            head.writeStaticString("Content-Length: ")
            ResponseHead.append(length, to: &head)
            head.writeStaticString("\r\n")
        } else if self.isChunkedAnswer {
            head.writeStaticString("Transfer-Encoding: chunked\r\n")
        }
        head.writeStaticString("\r\n")
        context.write(self.wrapOutboundOut(head), promise: nil)
    }

    func send(_ bytes: ByteBuffer) {
        guard case .answering = self.state, let context, bytes.readableBytes > 0 else { return }
        guard self.isChunkedAnswer else { return context.write(self.wrapOutboundOut(bytes), promise: nil) }
        let isInline = bytes.readableBytes <= Self.inlineBody
        var chunk = self.loop.buffer(capacity: 20 + (isInline ? bytes.readableBytes : 0))
        ResponseHead.appendHexadecimal(bytes.readableBytes, to: &chunk)
        chunk.writeStaticString("\r\n")
        if isInline {
            chunk.writeImmutableBuffer(bytes)
            chunk.writeStaticString("\r\n")
            context.write(self.wrapOutboundOut(chunk), promise: nil)
        } else {
            context.write(self.wrapOutboundOut(chunk), promise: nil)
            context.write(self.wrapOutboundOut(bytes), promise: nil)
            context.write(self.wrapOutboundOut(ByteBuffer(staticString: "\r\n")), promise: nil)
        }
    }

    func flush() { self.context?.flush() }

    func finish() {
        guard case .answering = self.state, let context else { return }
        if self.isChunkedAnswer {
            context.write(self.wrapOutboundOut(ByteBuffer(staticString: "0\r\n\r\n")), promise: nil)
        }
        context.flush()
        self.answered()
    }

    func reset() {
        guard let context else { return }
        self.exchange = nil
        self.state = .closed
        // Without lingering a close sends a reset, which no HTTP client takes for the end of a body. Where the option
        // cannot be set the missing end of the framing still tells.
        _ = (context.channel as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
        context.close(promise: nil)
    }
}
