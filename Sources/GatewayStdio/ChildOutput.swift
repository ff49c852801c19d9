// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayWire
import NIOCore

/// Standard output of a child: cuts it into lines for the owner, and reads only as fast as that takes them.
final class ChildOutput: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    /// Set while the child has its pipes.
    private var child: StdioChild?
    /// What the channel reads from, while it is open.
    private var descriptor: Int32?

    private var decoder: LineDecoder
    /// Bytes that were read and are no whole line yet.
    private var unconsumed: UnconsumedBytes
    private var context: ChannelHandlerContext?
    private var isReading = false
    private var hasUnflushedLines = false
    /// When bytes came last, whether or not they were a line; its beginning before any did.
    private(set) var lastRead = NIODeadline.now()

    init(lineLimit: Int) {
        self.decoder = LineDecoder(maximumLineBytes: lineLimit)
        self.unconsumed = UnconsumedBytes(limit: lineLimit + Self.readBurst)
    }

    /// What a pipe gives at once, beside a line that is as long as it may be, and what it holds at its end.
    private static let readBurst = 2 * SystemCalls.largestPipe

    func attach(to child: StdioChild, descriptor: Int32) {
        self.child = child
        self.descriptor = descriptor
    }

    /// The start is announced: what came before is delivered, and reading begins.
    func started() {
        if self.descriptor == nil { self.finish() } else { self.deliver() }
        self.updateReading()
    }

    /// Reads from now on, or does not: a read that was asked for before is taken back.
    func updateReading() {
        guard let child = self.child, let options = self.context?.channel.syncOptions else { return }
        let isReading = child.machine.deliversLines && !child.isReadingPaused
        guard isReading != self.isReading else { return }
        self.isReading = isReading
        // It fails on a closed channel only, which does not read.
        try? options.setOption(.autoRead, value: isReading)
    }

    /// Bytes that are no line yet.
    var waitingBytes: Int { self.unconsumed.count }

    /// Drops the bytes that are no whole line yet, since the child is being killed.
    func discard() { self.unconsumed.consume(self.unconsumed.count) }

    /// Delivers what is in the pipe: the process is gone, and all that it wrote is there.
    ///
    /// Not by way of the loop: a grandchild that escaped may hold the pipe open for ever, and a loop that comes late to
    /// everything must not lose an answer for it.
    func drain() {
        var rest = SystemCalls.largestPipe
        while let child = self.child, child.machine.deliversLines, let descriptor = self.descriptor, rest > 0 {
            let bytes = SystemCalls.read(descriptor)
            if bytes.isEmpty { return }
            rest -= bytes.count
            self.receive(ByteBuffer(bytes: bytes))
        }
    }

    /// Gives out a last line without its end, and closes.
    func end() {
        self.finish()
        self.child = nil
        self.context?.close(promise: nil)
    }

    // MARK: Channel

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    /// Also comes while nothing is to be read: at the end of the pipe NIO reads what is left in it.
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard let child = self.child, child.machine.deliversLines || child.machine.keepsBytes else {
            return
        }
        self.receive(self.unwrapInboundIn(data))
    }

    private func receive(_ bytes: ByteBuffer) {
        self.lastRead = .now()
        guard self.unconsumed.append(bytes) else {
            // A line above the limit costs the child its life, and what came of it is dropped.
            self.discard()
            if let child { child.perform(child.machine.lineTooLong()) }
            return
        }
        self.deliver()
    }

    func channelReadComplete(context: ChannelHandlerContext) { self.pause() }

    func channelInactive(context: ChannelHandlerContext) {
        self.descriptor = nil
        // The owner does not know of the process yet: what it said is kept until the owner does.
        if self.child?.machine.keepsBytes != true { self.finish() }
        self.child?.pipeClosed(.output)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    // MARK: Lines

    private func deliver() {
        while let child = self.child, child.machine.deliversLines {
            switch self.decoder.next(in: self.unconsumed.bytes.readableBytesUInt8Span) {
            case .line(let range, let length):
                let line = self.unconsumed.slice(range)
                self.unconsumed.consume(length)
                self.hasUnflushedLines = true
                if let line { child.delegate?.childSent(line) }
            case .ignored(let length):
                self.unconsumed.consume(length)
            case .needsMore:
                self.unconsumed.settle()
                child.updateHeld()
                return
            case .tooLong:
                child.perform(child.machine.lineTooLong())
                return
            }
        }
    }

    private func pause() {
        guard self.hasUnflushedLines else { return }
        self.hasUnflushedLines = false
        self.child?.delegate?.childPaused()
    }

    /// Delivers a last line without its end if it looks complete (faults F85).
    private func finish() {
        self.deliver()
        let rest = self.decoder.finish(in: self.unconsumed.bytes.readableBytesUInt8Span) ?? 0..<0
        let line = self.unconsumed.slice(rest)
        self.discard()
        let ends: [UInt8?] = [UInt8(ascii: "}"), UInt8(ascii: "]")]
        if let line, ends.contains(line.readableBytesView.last) {
            self.hasUnflushedLines = true
            self.child?.delegate?.childSent(line)
        }
        self.pause()
    }
}
