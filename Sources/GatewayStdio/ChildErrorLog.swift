// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayObservability
import Logging
import NIOCore

// Standard error is where servers talk, and where broken ones scream. It is read as fast as it comes, so that a child
// never waits for us; it is never taken for a sign that something is wrong, nor for anything but text (faults S12.8).

/// Standard error of a child: logs its lines, as far as their rate allows, and keeps the last ones.
///
/// While a program works its lines are logged at `debug`, since most of them interest nobody. When it fails, its last lines
/// stand in the line of the log that says so.
final class ChildErrorLog: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private static let bytesPerSecond = 64 * 1024
    /// About what the log writes around a line.
    private static let bytesPerLine = 64
    private static let tailBytes = 2 * 1024
    private static let tailLines = 5

    /// Set while the child has its pipes.
    private var child: StdioChild?
    /// What the channel reads from, while it is open.
    private var descriptor: Int32?
    private let name: String
    private let logger: Logger
    private var lines = ErrorLines(limit: LogLine.limit)
    private var kept = ErrorTail(limit: ChildErrorLog.tailBytes, lines: ChildErrorLog.tailLines)
    /// Whether lines are kept and not logged.
    var isHeldBack = false
    private var rate = ErrorRate(
        bytesPerSecond: ChildErrorLog.bytesPerSecond,
        bytesPerLine: ChildErrorLog.bytesPerLine
    )
    private var context: ChannelHandlerContext?
    private var report: Scheduled<Void>?

    init(name: String, logger: Logger) {
        self.name = name
        self.logger = logger
    }

    /// The last lines for the log; nil: it said nothing.
    var tail: Logger.MetadataValue? { self.kept.text.map { .peer($0, limit: Self.tailBytes) } }

    func attach(to child: StdioChild, descriptor: Int32) {
        self.child = child
        self.descriptor = descriptor
    }

    /// Takes what is in the pipe: the process is gone, and all that it wrote is there.
    func drain() {
        var rest = SystemCalls.largestPipe
        while let descriptor = self.descriptor, rest > 0 {
            let bytes = SystemCalls.read(descriptor)
            if bytes.isEmpty { return }
            rest -= bytes.count
            self.receive(ByteBuffer(bytes: bytes))
        }
    }

    /// Logs what is left, and closes.
    func end() {
        self.lines.finish { self.take($0) }
        self.endSecond()
        self.child = nil
        self.context?.close(promise: nil)
    }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.receive(self.unwrapInboundIn(data))
    }

    private func receive(_ buffer: ByteBuffer) {
        var bytes = buffer.readableBytesView
        self.skip(&bytes)
        self.lines.take(bytes) { self.take($0) }
    }

    /// While more comes than may be logged, only what may be among the last lines is cut into lines.
    private func skip(_ bytes: inout ByteBufferView) {
        let window = bytes.suffix(2 * Self.tailBytes)
        guard window.startIndex > bytes.startIndex, self.rate.isExhausted(now: self.now),
            let end = window.firstIndex(of: 0x0a)
        else { return }
        self.rate.suppress(self.lines.discard() + bytes[...end].count)
        bytes = bytes[(end + 1)...]
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.descriptor = nil
        self.child?.pipeClosed(.error)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    private func take(_ line: [UInt8]) {
        self.kept.add(line)
        let now = self.now
        if let end = self.rate.end, now >= end { self.endSecond() }
        guard !self.isHeldBack else { return }
        guard self.rate.admits(line.count, now: now) else { return self.scheduleReport() }
        self.logger.debug("child stderr", metadata: ["upstream": "\(self.name)", "line": .peer(line)])
    }

    private var now: Duration { .nanoseconds(Int64(clamping: NIODeadline.now().uptimeNanoseconds)) }

    /// Reports what was left out at the end of the second, even if the child says nothing more.
    private func scheduleReport() {
        guard self.report == nil, let context = self.context else { return }
        let log = NIOLoopBound(self, eventLoop: context.eventLoop)
        self.report = context.eventLoop.scheduleTask(in: .seconds(1)) { log.value.endSecond() }
    }

    private func endSecond() {
        self.report?.cancel()
        self.report = nil
        let suppressed = self.rate.takeSuppressed()
        guard suppressed > 0 else { return }
        self.logger.debug(
            "child stderr suppressed",
            metadata: ["upstream": "\(self.name)", "bytes": .number(suppressed)]
        )
    }
}
