// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayTransport
import GatewayWire
import NIOCore

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// One connection of a caller: owns its bytes, its socket and its clock, and does what the machine of its rules says.
///
/// Confined to its event loop. Whoever answers a request gets a `DownstreamResponse`, which this connection revokes when
/// that answer is over: no later word of theirs reaches the caller of another request. What the channel fires while this
/// connection writes or closes, its end above all, is dealt with afterwards, so that nobody hears of the end of a
/// connection in the middle of a call to it.
final class DownstreamConnection: ChannelDuplexHandler, Sweepable {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// Bytes that wait behind the request that is worked on before reading stops.
    private static let leastInput = 64 * 1024
    /// What the channel may give us of one readiness before it hears that reading stops.
    private static let readBurst = 512 * 1024
    /// An answer up to this size is copied behind its head: one buffer costs less than two.
    private static let inlineBody = 16 * 1024

    let loop: LoopResources
    @exclusivity(unchecked) var sweepIndex = -1
    private let handler: any RequestHandler
    private let onClose: () -> Void
    private let bodyBytes: Int
    private var facts = ConnectionFacts(isLocalAddressLoopback: false, isPeerLoopback: false)
    private var context: ChannelHandlerContext?
    // Unchecked, here and below: what changes such a value calls nobody meanwhile (decision 0014).
    @exclusivity(unchecked) private var machine: HTTP1ServerConnection.StateMachine
    @exclusivity(unchecked) private var request: InboundRequest
    private var isRequestUsed = false
    private var exchange: (any DownstreamExchange)?
    /// The answer that is open.
    private var response: DownstreamResponse?
    /// The response of the request before, which is used again if nobody holds it any more.
    private var spareResponse: DownstreamResponse?

    @exclusivity(unchecked) private var input: UnconsumedBytes
    private let inputLimit: Int
    @exclusivity(unchecked) private var body: UnconsumedBytes
    private var isProcessing = false
    private var isReadHeld = false
    private var isInputClosed = false
    private var isOver = false
    /// Keeps what the channel fires while this connection is in a call to it.
    private let callOuts: CallOuts

    @exclusivity(unchecked) private var held: HeldBytes
    /// Bytes given to the channel so far, and those that it had not sent when it was last asked.
    private var written: UInt64 = 0
    private var pending = 0
    /// Whether anything was written since the channel had nothing left to send.
    private var mayBePending = false

    private var isChunkedAnswer = false

    init(loop: LoopResources, handler: any RequestHandler, onClose: @escaping () -> Void) {
        let limits = loop.limits
        self.loop = loop
        self.callOuts = CallOuts(on: loop.eventLoop)
        self.handler = handler
        self.onClose = onClose
        self.bodyBytes = limits.bodyBytes
        self.machine = .init(HTTP1ServerConnection.Limits(limits), now: Self.now)
        self.inputLimit = max(Self.leastInput, limits.headBytes)
        self.input = UnconsumedBytes(limit: self.inputLimit + Self.readBurst)
        self.body = UnconsumedBytes(limit: limits.bodyBytes)
        self.held = HeldBytes(in: handler.buffers)
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

    private static var now: Duration { Duration(since: .now()) }

    // MARK: Channel

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelActive(context: ChannelHandlerContext) {
        self.facts = ConnectionFacts(context.channel)
        self.request.peer = context.channel.remoteAddress
        self.loop.sweeper.add(self)
    }

    func channelInactive(context: ChannelHandlerContext) { self.afterCalls { $0.becameInactive() } }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        let isWritable = context.channel.isWritable
        self.machine.becameWritable(isWritable)
        if isWritable { self.afterCalls { $0.becameWritable() } }
        context.fireChannelWritabilityChanged()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard let event = event as? ChannelEvent, event == .inputClosed else {
            return context.fireUserInboundEventTriggered(event)
        }
        self.afterCalls { $0.becameInputClosed() }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // A reset or a failed write: the channel is of no more use, and `channelInactive` tells everybody.
        context.close(promise: nil)
    }

    func read(context: ChannelHandlerContext) {
        if self.input.count >= self.inputLimit { self.isReadHeld = true } else { context.read() }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = self.unwrapInboundIn(data)
        if self.callOuts.mustWait { self.callOuts.keep { self.received(bytes) } } else { self.received(bytes) }
    }

    private func received(_ bytes: ByteBuffer) {
        guard self.machine.takesInput else { return }
        // The bound has room for the largest single read, so no socket gets past it.
        guard self.input.append(bytes) else { return self.close() }
        self.process()
    }

    // MARK: Calls to the channel

    /// Calls the channel, which may fire events at once.
    private func call(_ body: (ChannelHandlerContext) -> Void) {
        guard let context else { return }
        self.callOuts.begin()
        body(context)
        self.callOuts.end()
    }

    /// Deals with an event of the channel: now, or, if it came inside a call to the channel, behind that.
    private func afterCalls(_ body: @escaping (DownstreamConnection) -> Void) {
        if self.callOuts.mustWait { self.callOuts.keep { body(self) } } else { body(self) }
    }

    private func write(_ bytes: ByteBuffer) {
        self.written += UInt64(bytes.readableBytes)
        self.mayBePending = true
        self.call { $0.write(self.wrapOutboundOut(bytes), promise: nil) }
    }

    private func flushChannel() {
        self.call { $0.flush() }
        // What a slow caller has not taken counts as held, at once where it is much.
        if self.context?.channel.isWritable == false { self.measurePending() }
    }

    private func measurePending() {
        let options = self.context?.channel.syncOptions
        // On a channel that is closed nothing is pending.
        self.pending = (try? options?.getOption(.bufferedWritableBytes)) ?? 0
        self.mayBePending = self.pending > 0
        self.updateHeld()
    }

    /// Bytes that the caller has not taken, where some wait for it.
    ///
    /// The system holds some MiB for it, and asks for more only when a good part of that is gone: counted by what it asks
    /// for, a caller that reads slowly but steadily would seem to take nothing for a long time.
    private var untaken: Int {
        guard self.pending > 0, let acknowledged = self.context?.channel.acknowledgedBytes else { return self.pending }
        return max(self.pending, Int(clamping: self.written - min(acknowledged, self.written)))
    }

    private func updateHeld() {
        self.held.set(self.input.count + self.body.count + self.pending) {
            let connection = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
            return { connection.eventLoop.execute { connection.value.breakOff() } }
        }
    }

    // MARK: Events

    private func becameInactive() {
        guard !self.isOver else { return }
        self.isOver = true
        _ = self.machine.closed()
        self.loop.sweeper.remove(self)
        self.held.clear()
        self.onClose()
        self.request.body = ByteBuffer()
        self.endResponse()?.downstreamLeft(isClosed: true)
    }

    private func becameWritable() {
        guard !self.isOver else { return }
        self.measurePending()
        self.exchange?.downstreamBecameWritable()
        self.process()
    }

    private func becameInputClosed() {
        guard !self.isOver else { return }
        self.isInputClosed = true
        if self.machine.inputClosed() { self.exchange?.downstreamLeft(isClosed: false) } else { self.process() }
    }

    /// Goes on with the bytes that wait, request after request, until bytes are missing or an answer is.
    private func process() {
        guard !self.isProcessing, !self.isOver else { return }
        self.isProcessing = true
        reading: while true {
            self.renewRequest()
            switch self.machine.next(
                self.input.bytes.readableBytesUInt8Span,
                &self.request.parser,
                now: self.requestBegins()
            ) {
            case .wait:
                break reading
            case .head(let length):
                self.request.head = self.input.take(length) ?? ByteBuffer()
                self.isRequestUsed = true
                self.admit()
            case .body(let range, let consumed):
                // It cannot be full: the machine refuses a body above the same bound.
                _ = self.body.append(range, of: self.input.bytes)
                self.input.consume(consumed)
            case .skip(let count):
                self.input.consume(count)
            case .handOver:
                self.handOver()
            case .reject(let error):
                self.reject(error)
            case .rejectBody:
                self.handler.rejected(self.request, self.tooLarge, on: self.loop)
                self.answerAndClose(self.tooLarge)
            case .flushAndClose:
                self.closeAfterWrites()
            }
        }
        self.isProcessing = false
        self.input.settle()
        if self.mayBePending || self.held.count > 0 || !self.input.isEmpty || !self.body.isEmpty { self.updateHeld() }
        if self.isReadHeld, self.input.count < self.inputLimit {
            self.isReadHeld = false
            self.call { $0.read() }
        }
    }

    /// Makes ready for the next request once the one before is answered.
    ///
    /// Whoever still works on that one keeps it as it is.
    private func renewRequest() {
        guard self.isRequestUsed, self.machine.isIdle else { return }
        self.isRequestUsed = false
        if isKnownUniquelyReferenced(&self.request) {
            self.request.reset()
        } else {
            let peer = self.request.peer
            self.request = InboundRequest(parser: HTTP1RequestParser(limits: self.request.parser.limits))
            self.request.peer = peer
        }
    }

    /// The first byte of a request came.
    private func requestBegins() -> Duration {
        self.request.receivedAt = .now()
        return Duration(since: self.request.receivedAt)
    }

    private func admit() {
        if let rejection = self.handler.admit(self.request, from: self.facts, on: self.loop) {
            return self.reject(rejection)
        }
        switch self.machine.admitted(self.request.parser, available: self.input.count, now: Self.now) {
        case .none:
            break
        case .take(let length):
            // Usually the whole body is here already, in one piece: nothing is copied.
            self.request.body = self.input.take(length) ?? ByteBuffer()
        case .collect(let expecting, let sendsContinue):
            self.body.reserve(min(expecting, Self.leastInput))
            guard sendsContinue else { break }
            self.write(ByteBuffer(staticString: "HTTP/1.1 100 Continue\r\n\r\n"))
            self.flushChannel()
        case .tooLarge:
            self.reject(self.tooLarge)
        }
    }

    private func handOver() {
        if !self.body.isEmpty { self.request.body = self.body.takeAll() }
        let response = self.makeResponse()
        self.response = response
        let exchange = self.handler.handle(self.request, from: self.facts, responder: response)
        // It may have been answered while it was handed over.
        guard self.response === response else { return }
        self.exchange = exchange
        if self.isInputClosed { exchange?.downstreamLeft(isClosed: false) }
    }

    // MARK: Refusals

    private var tooLarge: Rejection {
        Rejection(.bodySize, 413, "the body is larger than limits.bodyBytes (\(self.bodyBytes))")
    }

    /// Framing in doubt: the answer, and then nothing more from this connection (faults S6.1).
    private func reject(_ error: HTTP1Error) {
        let rejection = Rejection(RejectionReason(error), error.status, error.text)
        self.handler.rejected(self.request, rejection, on: self.loop)
        self.answerAndClose(rejection)
    }

    /// Refuses a request by its head.
    private func reject(_ rejection: Rejection) {
        self.handler.rejected(self.request, rejection, on: self.loop)
        switch self.machine.refused(self.request.parser, available: self.input.count) {
        case .answer(let skipped):
            self.input.consume(skipped)
            self.respond(status: rejection.status, json: Self.body(rejection)) { $0.writeString(rejection.fields) }
        case .answerAndClose:
            self.answerAndClose(rejection)
        }
    }

    private func answerAndClose(_ rejection: Rejection) {
        self.machine.answersAndCloses(now: Self.now)
        self.input.consume(self.input.count)
        self.body.consume(self.body.count)
        var head = self.makeHead(status: rejection.status) { fields in
            fields.writeStaticString("Content-Type: application/json\r\n")
            fields.writeString(rejection.fields)
        }
        let body = Self.body(rejection)
        head.writeString("Content-Length: \(body.count)\r\n\r\n")
        head.writeBytes(body)
        self.write(head)
        self.flushChannel()
        self.call { $0.close(mode: .output, promise: nil) }
    }

    private static func body(_ rejection: Rejection) -> [UInt8] {
        rejection.body.map { Array($0.utf8) } ?? ErrorAnswer.body(code: -32_600, message: rejection.message)
    }

    // MARK: Time

    func sweep(now: NIODeadline) {
        if self.mayBePending { self.measurePending() }
        // An idle connection keeps nothing of the request that it served last.
        if self.isRequestUsed { self.renewRequest() }
        switch self.machine.tick(written: self.written, pending: self.untaken, now: Duration(since: now)) {
        case .nothing:
            break
        case .tooSlow:
            let rejection = Rejection(.slow, 408, "the request took too long to arrive")
            self.handler.rejected(self.request, rejection, on: self.loop)
            self.answerAndClose(rejection)
        case .flushAndClose:
            self.closeAfterWrites()
        case .close:
            self.close()
        case .breakSlowReader:
            self.breakOff()
        }
    }

    /// The process stops: streams end, idle connections close, what is being answered may finish.
    func drain() {
        switch self.machine.drain(now: Self.now) {
        case .nothing: break
        case .flushAndClose: self.closeAfterWrites()
        case .tell: self.exchange?.drain()
        }
    }

    // MARK: Ends

    func close() { self.call { $0.close(promise: nil) } }

    private func closeAfterWrites() {
        // A close waits for no write, so it has to come behind the last one.
        self.call { context in
            context.writeAndFlush(self.wrapOutboundOut(ByteBuffer())).assumeIsolated()
                .whenComplete { _ in self.close() }
        }
    }

    /// The caller does not take what it asked for, or more is held for it than there is room for.
    private func breakOff() {
        guard !self.isOver else { return }
        let exchange = self.endResponse()
        self.reset()
        exchange?.downstreamIsSlow()
    }

    private func reset() {
        _ = self.machine.closed()
        // Without lingering a close sends a reset, which no HTTP client takes for the end of a body. Where the option
        // cannot be set the missing end of the framing still tells.
        _ = (self.context?.channel as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
        self.close()
    }

    // MARK: The answer

    private func makeResponse() -> DownstreamResponse {
        if isKnownUniquelyReferenced(&self.spareResponse), let response = self.spareResponse {
            self.spareResponse = nil
            response.open(on: self)
            return response
        }
        return DownstreamResponse(on: self)
    }

    /// Whoever answers has no more say from now on; returns them.
    private func endResponse() -> (any DownstreamExchange)? {
        if let response {
            response.revoke()
            self.spareResponse = response
            self.response = nil
        }
        defer { self.exchange = nil }
        return self.exchange
    }

    /// The answer is out: the connection is free for the next request, or ends.
    private func answered() {
        _ = self.endResponse()
        self.request.body = ByteBuffer()
        switch self.machine.answered(hasInput: !self.input.isEmpty, now: Self.now) {
        case .next:
            // The next request is not begun inside a call of whoever answered the last one.
            if !self.isProcessing, !self.input.isEmpty { self.processSoon() }
        case .flushAndClose:
            self.closeAfterWrites()
        case .nothing:
            break
        }
    }

    private func processSoon() {
        let connection = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        self.loop.eventLoop.execute { connection.value.process() }
    }

    private func makeHead(status: Int, capacity: Int = 512, fields: (inout ByteBuffer) -> Void) -> ByteBuffer {
        // Asked again here: the process may have been told to stop since the request came.
        if self.handler.isDraining { self.machine.keepNoLonger() }
        var head = self.loop.buffer(capacity: capacity)
        ResponseHead.append(status: status, to: &head)
        head.writeImmutableBuffer(self.loop.dateField(now: self.request.receivedAt))
        if !self.machine.keepsAlive {
            head.writeStaticString("Connection: close\r\n")
        } else if self.request.parser.minorVersion == 0 {
            head.writeStaticString("Connection: keep-alive\r\n")
        }
        if self.request.isFromAdmittedOrigin { ResponseHead.appendCrossOriginFields(for: self.request, to: &head) }
        fields(&head)
        return head
    }
}

// MARK: - For the answer that is open

extension DownstreamConnection {
    fileprivate var isWritable: Bool { self.context?.channel.isWritable ?? true }

    private func respond(status: Int, json: [UInt8], fields: (inout ByteBuffer) -> Void) {
        self.respond(status: status, body: ByteBuffer(bytes: json)) { buffer in
            buffer.writeStaticString("Content-Type: application/json\r\n")
            fields(&buffer)
        }
    }

    fileprivate func respond(status: Int, body: ByteBuffer?, fields: (inout ByteBuffer) -> Void) {
        // A second answer would be taken for that of the next request.
        guard self.machine.answerBegins() else { return self.resetByExchange() }
        let length = body?.readableBytes ?? 0
        let isInline = length <= Self.inlineBody
        var head = self.makeHead(status: status, capacity: 512 + (isInline ? length : 0), fields: fields)
        if status != 204 {
            head.writeStaticString("Content-Length: ")
            ResponseHead.append(length, to: &head)
            head.writeStaticString("\r\n")
        }
        head.writeStaticString("\r\n")
        if let body, !self.machine.isHeadRequest {
            if isInline {
                head.writeImmutableBuffer(body)
            } else {
                self.write(head)
                head = body
            }
        }
        self.write(head)
        self.flushChannel()
        self.answered()
    }

    fileprivate func begin(status: Int, length: Int?, fields: (inout ByteBuffer) -> Void) {
        guard self.machine.answerBegins() else { return self.resetByExchange() }
        let framing = self.machine.framing(ofLength: length, minorVersion: self.request.parser.minorVersion)
        self.isChunkedAnswer = framing == .chunked
        var head = self.makeHead(status: status, fields: fields)
        if let length {
            head.writeStaticString("Content-Length: ")
            ResponseHead.append(length, to: &head)
            head.writeStaticString("\r\n")
        } else if self.isChunkedAnswer {
            head.writeStaticString("Transfer-Encoding: chunked\r\n")
        }
        head.writeStaticString("\r\n")
        self.write(head)
    }

    fileprivate func send(_ bytes: ByteBuffer) {
        guard bytes.readableBytes > 0, self.machine.hasBegunAnswer else { return }
        guard self.isChunkedAnswer else { return self.write(bytes) }
        let isInline = bytes.readableBytes <= Self.inlineBody
        var chunk = self.loop.buffer(capacity: 20 + (isInline ? bytes.readableBytes : 0))
        ResponseHead.appendHexadecimal(bytes.readableBytes, to: &chunk)
        chunk.writeStaticString("\r\n")
        if isInline {
            chunk.writeImmutableBuffer(bytes)
            chunk.writeStaticString("\r\n")
            self.write(chunk)
        } else {
            self.write(chunk)
            self.write(bytes)
            self.write(ByteBuffer(staticString: "\r\n"))
        }
    }

    fileprivate func flush() { self.flushChannel() }

    fileprivate func finish() {
        guard self.machine.hasBegunAnswer else { return self.resetByExchange() }
        if self.isChunkedAnswer { self.write(ByteBuffer(staticString: "0\r\n\r\n")) }
        self.flushChannel()
        self.answered()
    }

    fileprivate func resetByExchange() {
        _ = self.endResponse()
        switch self.machine.brokeOff() {
        case .reset: self.reset()
        case .flushAndClose: self.closeAfterWrites()
        }
    }
}

/// The right to answer one request, which the connection takes back when that answer is over.
///
/// A word that comes later, of a call that another connection took over or that nobody waits for, goes nowhere.
final class DownstreamResponse: DownstreamResponder {
    let loop: LoopResources
    /// nil once the answer is over.
    private var connection: DownstreamConnection?

    fileprivate init(on connection: DownstreamConnection) {
        self.loop = connection.loop
        self.connection = connection
    }

    fileprivate func open(on connection: DownstreamConnection) { self.connection = connection }

    fileprivate func revoke() { self.connection = nil }

    /// What goes nowhere need not wait.
    var isWritable: Bool { self.connection?.isWritable ?? true }

    func respond(status: Int, body: ByteBuffer?, fields: (inout ByteBuffer) -> Void) {
        self.connection?.respond(status: status, body: body, fields: fields)
    }

    func begin(status: Int, length: Int?, fields: (inout ByteBuffer) -> Void) {
        self.connection?.begin(status: status, length: length, fields: fields)
    }

    func send(_ bytes: ByteBuffer) { self.connection?.send(bytes) }

    func flush() { self.connection?.flush() }

    func finish() { self.connection?.finish() }

    func reset() { self.connection?.resetByExchange() }
}
