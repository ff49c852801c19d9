// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import NIOCore
import Synchronization

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// One end of a connection in memory.
///
/// To its pipeline it is what a TCP channel of NIO is: it reads when it is asked to, says when it takes no more, knows the end
/// of one side from that of both, and breaks off where a socket would send a reset. It runs on a real event loop.
///
/// Unchecked because nothing is locked: after `init` everything is touched on its event loop, except what is atomic.
final class MemoryChannel: Channel, ChannelCore, @unchecked Sendable {
    let eventLoop: any EventLoop
    let allocator = ByteBufferAllocator()
    let localAddress: SocketAddress?
    let remoteAddress: SocketAddress?
    let parent: (any Channel)? = nil
    private let closePromise: EventLoopPromise<Void>
    // Set in `init`, since it needs the channel.
    private var madePipeline: ChannelPipeline?

    private let incoming: MemoryPipe
    private let outgoing: MemoryPipe

    private let active = Atomic(false)
    private let writable = Atomic(true)
    private var isOpen = true
    private var isInputClosed = false
    private var isOutputClosed = false
    /// Whether a close sends a reset.
    private var isAbortive = false

    private var isReadWanted = false
    private var isReading = false
    private var isEndKnown = false
    private var reads = ReadOptions()

    private var pending = CircularBuffer<(bytes: ByteBuffer, promise: EventLoopPromise<Void>?)>()
    /// How many of them were flushed.
    private var flushed = 0
    private var pendingBytes = 0
    private var isWriting = false
    private var waterMark = (low: 32 * 1024, high: 64 * 1024)
    /// Whether the output is to be closed behind what was flushed, and who hears of it.
    private var isOutputEnding = false
    private var outputEnd: EventLoopPromise<Void>?

    /// Bytes that the system takes for a side that is gone.
    private static let alwaysTaken = 64 * 1024

    private struct ReadOptions {
        var isAutomatic = true
        var allowsHalfClosure = false
        var most: UInt = 4
        var buffers: any RecvByteBufferAllocator = AdaptiveRecvByteBufferAllocator()
    }

    init(
        on eventLoop: any EventLoop,
        from localAddress: SocketAddress?,
        to remoteAddress: SocketAddress?,
        incoming: MemoryPipe,
        outgoing: MemoryPipe
    ) {
        self.eventLoop = eventLoop
        self.localAddress = localAddress
        self.remoteAddress = remoteAddress
        self.incoming = incoming
        self.outgoing = outgoing
        self.closePromise = eventLoop.makePromise()
        self.madePipeline = ChannelPipeline(channel: self)
    }

    var pipeline: ChannelPipeline {
        guard let madePipeline else { preconditionFailure("the pipeline is made with the channel") }
        return madePipeline
    }
    var closeFuture: EventLoopFuture<Void> { self.closePromise.futureResult }
    var isActive: Bool { self.active.load(ordering: .relaxed) }
    var isWritable: Bool { self.writable.load(ordering: .relaxed) }
    var _channelCore: any ChannelCore { self }
    var syncOptions: (any NIOSynchronousChannelOptions)? { SynchronousOptions(channel: self) }

    /// Runs on the event loop, later.
    func hear(_ body: @escaping @Sendable (MemoryChannel) -> Void) { self.eventLoop.execute { body(self) } }

    /// The connection is there.
    func begin(_ promise: EventLoopPromise<any Channel>? = nil) {
        guard self.isOpen else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        self.pipeline.syncOperations.fireChannelRegistered()
        self.active.store(true, ordering: .relaxed)
        promise?.succeed(self)
        self.pipeline.syncOperations.fireChannelActive()
        self.readIfAutomatic()
        if self.isEndKnown { self.hear { $0.becameReadable() } }
    }

    // MARK: Reading

    func read0() {
        guard self.isOpen, !self.isInputClosed else { return }
        self.isReadWanted = true
        // Nothing is read from within a call of a handler.
        self.hear { $0.becameReadable() }
    }

    func becameReadable() {
        guard self.isReadWanted || self.isEndKnown else { return }
        self.readNow()
    }

    /// The other side has no more, or is gone: what is left of it is read whether or not somebody asked, as NIO does when the
    /// system says that a connection ends.
    func becameEnded() {
        self.isEndKnown = true
        self.readNow()
    }

    private func readNow() {
        guard !self.isReading else { return }
        self.isReading = true
        defer { self.isReading = false }
        repeat { self.readOnce() } while self.isEndKnown && self.isActive && !self.isInputClosed
    }

    private func readOnce() {
        var hasRead = false
        for _ in 0..<self.reads.most {
            guard self.isActive, !self.isInputClosed else { return }
            let room = max(1, self.reads.buffers.buffer(allocator: self.allocator).writableBytes)
            switch self.incoming.find(room) {
            case .bytes(let bytes):
                hasRead = true
                self.isReadWanted = false
                let count = bytes.readableBytes
                _ = self.reads.buffers.record(actualReadBytes: count)
                self.pipeline.syncOperations.fireChannelRead(NIOAny(bytes))
                if count == room { continue }
            case .nothing:
                break
            case .end:
                return self.inputEnded()
            case .reset:
                return self.wasReset()
            }
            break
        }
        guard hasRead, self.isActive else { return }
        self.pipeline.syncOperations.fireChannelReadComplete()
        self.readIfAutomatic()
    }

    private func readIfAutomatic() {
        guard self.isActive, self.reads.isAutomatic, !self.isReadWanted else { return }
        self.pipeline.syncOperations.read()
    }

    private func inputEnded() {
        self.isReadWanted = false
        self.pipeline.syncOperations.fireChannelReadComplete()
        guard self.isOpen else { return }
        let mode = self.reads.allowsHalfClosure ? CloseMode.input : .all
        self.close0(error: ChannelError.eof, mode: mode, promise: nil)
    }

    private func wasReset() {
        guard self.isOpen else { return }
        let error = IOError(errnoCode: ECONNRESET, reason: "the other end broke the connection off")
        self.pipeline.syncOperations.fireErrorCaught(error)
        self.close0(error: error, mode: .all, promise: nil)
    }

    // MARK: Writing

    func write0(_ data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard self.isOpen, !self.isOutputClosed, !self.isOutputEnding else {
            promise?.fail(self.isOpen ? ChannelError.outputClosed : ChannelError.ioOnClosedChannel)
            return
        }
        guard let bytes = self.tryUnwrapData(data, as: ByteBuffer.self) else {
            promise?.fail(ChannelError.operationUnsupported)
            return
        }
        self.pending.append((bytes, promise))
        self.pendingBytes += bytes.readableBytes
        guard self.pendingBytes > self.waterMark.high else { return }
        if self.writable.exchange(false, ordering: .relaxed) {
            self.pipeline.syncOperations.fireChannelWritabilityChanged()
        }
    }

    func flush0() {
        self.flushed = self.pending.count
        self.becameTaking()
    }

    /// There is room for what was flushed.
    func becameTaking() {
        guard self.isOpen, !self.isWriting else { return }
        self.isWriting = true
        defer { self.isWriting = false }
        while self.flushed > 0, self.isOpen {
            let (bytes, promise) = self.pending[self.pending.startIndex]
            switch self.outgoing.take(bytes) {
            case .broken:
                // The system takes what it has room for, and learns from the answer to it that nobody is there.
                self.hear { $0.wasReset() }
                guard bytes.readableBytes <= Self.alwaysTaken else { return }
                self.pendingBytes -= bytes.readableBytes
            case .bytes(let count):
                self.pendingBytes -= count
                guard count == bytes.readableBytes else {
                    self.pending[self.pending.startIndex].bytes.moveReaderIndex(forwardBy: count)
                    return self.tellWritable()
                }
            }
            self.pending.removeFirst()
            self.flushed -= 1
            promise?.succeed()
            self.tellWritable()
        }
        guard self.flushed == 0, self.isOpen, self.isOutputEnding else { return }
        self.endOutput(self.outputEnd)
    }

    private func tellWritable() {
        guard self.pendingBytes < self.waterMark.low else { return }
        if !self.writable.exchange(true, ordering: .relaxed) {
            self.pipeline.syncOperations.fireChannelWritabilityChanged()
        }
    }

    // MARK: Ends

    func close0(error: any Error, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        guard self.isOpen else {
            promise?.fail(ChannelError.alreadyClosed)
            return
        }
        switch mode {
        case .output where self.isOutputClosed:
            promise?.fail(ChannelError.outputClosed)
        case .input where self.isInputClosed:
            promise?.fail(ChannelError.inputClosed)
        case .output where self.isInputClosed, .input where self.isOutputClosed, .all:
            self.closeAll(error, promise)
        case .output where self.flushed > 0:
            self.isOutputEnding = true
            self.outputEnd = promise
        case .output:
            self.endOutput(promise)
        case .input:
            self.isInputClosed = true
            self.isReadWanted = false
            promise?.succeed()
            self.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        }
    }

    private func endOutput(_ promise: EventLoopPromise<Void>?) {
        (self.isOutputClosed, self.isOutputEnding, self.outputEnd) = (true, false, nil)
        self.outgoing.end()
        promise?.succeed()
        self.pipeline.fireUserInboundEventTriggered(ChannelEvent.outputClosed)
    }

    private func closeAll(_ error: any Error, _ promise: EventLoopPromise<Void>?) {
        self.isOpen = false
        let wasActive = self.active.exchange(false, ordering: .relaxed)
        // Who closes what it has not read to its end breaks it off, as TCP does.
        let hasUnread = self.incoming.stopReading()
        if self.isAbortive || hasUnread { self.outgoing.reset() } else { self.outgoing.end() }
        let unwritten = self.pending
        (self.pending, self.flushed, self.pendingBytes) = (CircularBuffer(), 0, 0)
        for (_, promise) in unwritten { promise?.fail(error) }
        self.outputEnd?.fail(error)
        self.outputEnd = nil
        promise?.succeed()
        if wasActive { self.pipeline.syncOperations.fireChannelInactive() }
        self.pipeline.syncOperations.fireChannelUnregistered()
        self.hear { channel in
            channel.removeHandlers(pipeline: channel.pipeline)
            channel.closePromise.succeed()
        }
    }

    // MARK: Options

    func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) -> EventLoopFuture<Void> {
        if self.eventLoop.inEventLoop { return self.eventLoop.makeCompletedFuture { self.set(option, value) } }
        return self.eventLoop.submit { self.set(option, value) }
    }

    func getOption<Option: ChannelOption>(_ option: Option) -> EventLoopFuture<Option.Value> {
        if self.eventLoop.inEventLoop { return self.eventLoop.makeCompletedFuture { try self.get(option) } }
        return self.eventLoop.submit { try self.get(option) }
    }

    /// What a socket can be told and memory cannot is heard and forgotten.
    fileprivate func set<Option: ChannelOption>(_ option: Option, _ value: Option.Value) {
        switch (option, value) {
        case (is ChannelOptions.Types.AutoReadOption, let value as Bool):
            self.reads.isAutomatic = value
            if value { self.readIfAutomatic() } else { self.isReadWanted = false }
        case (is ChannelOptions.Types.AllowRemoteHalfClosureOption, let value as Bool):
            self.reads.allowsHalfClosure = value
        case (is ChannelOptions.Types.MaxMessagesPerReadOption, let value as UInt):
            self.reads.most = value
        case (is ChannelOptions.Types.RecvAllocatorOption, let value as any RecvByteBufferAllocator):
            self.reads.buffers = value
        case (
            is ChannelOptions.Types.WriteBufferWaterMarkOption,
            let value as ChannelOptions.Types.WriteBufferWaterMark
        ):
            self.waterMark = (value.low, value.high)
        default:
            break
        }
    }

    fileprivate func get<Option: ChannelOption>(_ option: Option) throws -> Option.Value {
        guard self.isOpen else { throw ChannelError.ioOnClosedChannel }
        let value: Any? =
            switch option {
            case is ChannelOptions.Types.AutoReadOption: self.reads.isAutomatic
            case is ChannelOptions.Types.AllowRemoteHalfClosureOption: self.reads.allowsHalfClosure
            case is ChannelOptions.Types.MaxMessagesPerReadOption: self.reads.most
            case is ChannelOptions.Types.BufferedWritableBytesOption: self.pendingBytes
            default: nil
            }
        guard let value = value as? Option.Value else { throw ChannelError.operationUnsupported }
        return value
    }

    private struct SynchronousOptions: NIOSynchronousChannelOptions {
        let channel: MemoryChannel

        func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) { self.channel.set(option, value) }

        func getOption<Option: ChannelOption>(_ option: Option) throws -> Option.Value { try self.channel.get(option) }
    }

    // MARK: What there is no use for

    func localAddress0() throws -> SocketAddress { try self.address(self.localAddress) }

    func remoteAddress0() throws -> SocketAddress { try self.address(self.remoteAddress) }

    private func address(_ address: SocketAddress?) throws -> SocketAddress {
        guard let address else { throw ChannelError.operationUnsupported }
        return address
    }

    func register0(promise: EventLoopPromise<Void>?) { promise?.succeed() }

    func registerAlreadyConfigured0(promise: EventLoopPromise<Void>?) { promise?.succeed() }

    func bind0(to address: SocketAddress, promise: EventLoopPromise<Void>?) {
        promise?.fail(ChannelError.operationUnsupported)
    }

    func connect0(to address: SocketAddress, promise: EventLoopPromise<Void>?) {
        promise?.fail(ChannelError.operationUnsupported)
    }

    func triggerUserOutboundEvent0(_ event: Any, promise: EventLoopPromise<Void>?) {
        promise?.fail(ChannelError.operationUnsupported)
    }

    func channelRead0(_ data: NIOAny) {}

    func errorCaught0(error: any Error) {}
}

extension MemoryChannel: SocketOptionProvider {
    /// Only whether a close lingers is understood: without, it is a reset.
    func unsafeSetSocketOption<Value: Sendable>(
        level: SocketOptionLevel,
        name: SocketOptionName,
        value: Value
    ) -> EventLoopFuture<Void> {
        self.breaksOff(value)
    }

    func unsafeSetSocketOption<Value: Sendable>(
        level: NIOBSDSocket.OptionLevel,
        name: NIOBSDSocket.Option,
        value: Value
    ) -> EventLoopFuture<Void> {
        self.breaksOff(value)
    }

    private func breaksOff(_ value: some Sendable) -> EventLoopFuture<Void> {
        guard let value = value as? linger else { return self.eventLoop.makeSucceededVoidFuture() }
        let isAbortive = value.l_onoff != 0 && value.l_linger == 0
        if self.eventLoop.inEventLoop {
            self.isAbortive = isAbortive
            return self.eventLoop.makeSucceededVoidFuture()
        }
        return self.eventLoop.submit { self.isAbortive = isAbortive }
    }

    func unsafeGetSocketOption<Value: Sendable>(
        level: SocketOptionLevel,
        name: SocketOptionName
    ) -> EventLoopFuture<Value> {
        self.eventLoop.makeFailedFuture(ChannelError.operationUnsupported)
    }

    func unsafeGetSocketOption<Value: Sendable>(
        level: NIOBSDSocket.OptionLevel,
        name: NIOBSDSocket.Option
    ) -> EventLoopFuture<Value> {
        self.eventLoop.makeFailedFuture(ChannelError.operationUnsupported)
    }
}
