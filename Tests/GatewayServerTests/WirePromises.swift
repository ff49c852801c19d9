// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayTesting
import NIOCore
import Testing

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// What the tests take for granted of a connection, be it in memory or over the loopback interface.
enum WirePromise: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case order = "Bytes arrive whole and in order, however they are cut, both ways at once"
    case pause = "A side that does not ask to read gets nothing, and the other side is told to wait, until it asks"
    case halfClose = "The end of one side is told to the other, which can still send"
    case wholeClose = "Where half of a connection is of no use, the end of one side closes the other"
    case lastBytes = "What was sent before the end arrives before the end"
    case unasked = "The end of a connection is heard without being asked for, with the bytes before it"
    case unread = "Who closes without having read everything breaks the connection off"
    case broken = "A connection that is broken off is an error at the other side"
    case deaf = "Who writes to a side that is gone hears of it"
    case unsent = "What could not be sent when a connection closes has failed"
    case addresses = "Each side sees the address of the other"
    case nobody = "Where nobody listens a connection is refused"

    var testDescription: String { self.rawValue }

    func check() async throws {
        switch self {
        case .order: try await Self.checkOrder()
        case .pause: try await Self.checkPause()
        case .halfClose: try await Self.checkHalfClose()
        case .wholeClose: try await Self.checkWholeClose()
        case .lastBytes: try await Self.checkLastBytes()
        case .unasked: try await Self.checkUnasked()
        case .unread: try await Self.checkUnread()
        case .broken: try await Self.checkBroken()
        case .deaf: try await Self.checkDeaf()
        case .unsent: try await Self.checkUnsent()
        case .addresses: try await Self.checkAddresses()
        case .nobody: await Self.checkNobody()
        }
    }
}

/// What one side of a connection saw.
private struct Seen: Sendable {
    var bytes: [UInt8] = []
    var isInputClosed = false
    var isInactive = false
    var wasReset = false
    /// How often it was told to wait.
    var pauses = 0
}

private final class Recorder: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let seen: Inbox<Seen>

    init(_ seen: Inbox<Seen>) {
        self.seen = seen
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = self.unwrapInboundIn(data)
        self.seen.change { $0.bytes += bytes.readableBytesView }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if !context.channel.isWritable { self.seen.change { $0.pauses += 1 } }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event as? ChannelEvent == .inputClosed { self.seen.change { $0.isInputClosed = true } }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.seen.change { $0.wasReset = true }
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) { self.seen.change { $0.isInactive = true } }
}

/// One side of a connection.
private struct Side: Sendable {
    let channel: any Channel
    let seen: Inbox<Seen>

    func send(_ bytes: [UInt8]) { self.channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil) }

    func startReading() async throws {
        try await self.channel.setOption(.autoRead, value: true).get()
        self.channel.read()
    }

    func reset() async throws {
        let options = try #require(self.channel as? any SocketOptionProvider)
        try await options.setSoLinger(linger(l_onoff: 1, l_linger: 0)).get()
        try await self.channel.close().get()
    }

    func sees<Value: Sendable>(_ what: String, _ look: @escaping @Sendable (Seen) -> Value?) async throws -> Value {
        try await self.seen.wait(what, seconds: 10) { look($0) }
    }
}

extension WirePromise {
    /// Joins two sides; the near one connects.
    private static func join(
        isReading: Bool = true,
        allowsHalves: Bool = true,
        _ body: (_ near: Side, _ far: Side) async throws -> Void
    ) async throws {
        @Sendable func setUp(_ seen: Inbox<Seen>) -> MemoryNetwork.SetUp {
            { channel in
                try channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: allowsHalves)
                try channel.syncOptions?.setOption(.autoRead, value: isReading)
                try channel.pipeline.syncOperations.addHandler(Recorder(seen))
            }
        }
        let arrived = Inbox<(any Channel)?>(nil)
        let (nearSeen, farSeen) = (Inbox(Seen()), Inbox(Seen()))
        let listening = try await Wire.current.listen(sendBuffer: nil) { channel in
            try setUp(farSeen)(channel)
            arrived.change { $0 = channel }
        }
        let near = try await Wire.current.connect(
            to: listening.port,
            from: nil,
            receiveBuffer: nil,
            setUp(nearSeen)
        )
        let far = try await arrived.wait("the other side") { $0 }
        try await body(Side(channel: near, seen: nearSeen), Side(channel: far, seen: farSeen))
        for channel in [near, far] { channel.close(promise: nil) }
        await listening.stop()
    }

    /// Many bytes that are not all the same.
    private static func bytes(_ count: Int) -> [UInt8] {
        let page = (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 7 ^ $0 >> 8) }
        return Array(repeatElement(page, count: count / page.count + 1).joined().prefix(count))
    }

    /// More than any buffer of a system takes.
    private static let flood = [UInt8](repeating: 7, count: 32 * 1024 * 1024)

    private static func checkOrder() async throws {
        try await Self.join { near, far in
            let bytes = Self.bytes(1_500_000)
            for side in [near, far] {
                var rest = bytes[...]
                for size in [1, 2, 65_536, 3, 700_000, 17] {
                    side.send(Array(rest.prefix(size)))
                    rest = rest.dropFirst(size)
                }
                side.send(Array(rest))
            }
            for side in [near, far] {
                let seen = try await side.sees("all bytes") { $0.bytes.count >= bytes.count ? $0.bytes : nil }
                #expect(seen == bytes)
            }
        }
    }

    private static func checkPause() async throws {
        try await Self.join(isReading: false) { near, far in
            let bytes = Self.flood
            let written: EventLoopFuture<Void> = near.channel.writeAndFlush(ByteBuffer(bytes: bytes))
            _ = try await near.sees("that it has to wait") { $0.pauses > 0 ? true : nil }
            #expect(!near.channel.isWritable)
            let waiting = try await near.channel.getOption(.bufferedWritableBytes).get()
            #expect((1..<bytes.count).contains(waiting))
            #expect(far.seen.now.bytes.isEmpty)
            try await far.startReading()
            let count = try await far.sees("all bytes") { $0.bytes.count >= bytes.count ? $0.bytes.count : nil }
            #expect(count == bytes.count)
            try await written.get()
            #expect(near.channel.isWritable)
        }
    }

    private static func checkHalfClose() async throws {
        try await Self.join { near, far in
            near.send([1, 2, 3])
            try await near.channel.close(mode: .output).get()
            _ = try await far.sees("the end of the other side") { $0.isInputClosed ? true : nil }
            #expect(far.seen.now.bytes == [1, 2, 3])
            #expect(far.channel.isActive && near.channel.isActive)
            far.send([4, 5])
            let answer = try await near.sees("an answer") { $0.bytes.isEmpty ? nil : $0.bytes }
            #expect(answer == [4, 5])
            await #expect(throws: ChannelError.self) {
                try await near.channel.writeAndFlush(ByteBuffer(bytes: [6])).get()
            }
            try await far.channel.close().get()
            // Both sides have ended, so the connection has.
            _ = try await near.sees("the end") { $0.isInactive ? true : nil }
            #expect(!near.seen.now.wasReset)
        }
    }

    private static func checkWholeClose() async throws {
        try await Self.join(allowsHalves: false) { near, far in
            try await near.channel.close(mode: .output).get()
            _ = try await far.sees("the end") { $0.isInactive ? true : nil }
            #expect(!far.seen.now.isInputClosed && !far.seen.now.wasReset)
        }
    }

    private static func checkLastBytes() async throws {
        try await Self.join { near, far in
            let bytes = Self.bytes(400_000)
            try await near.channel.writeAndFlush(ByteBuffer(bytes: bytes)).get()
            try await near.channel.close().get()
            let seen = try await far.sees("the end") { $0.isInputClosed ? $0 : nil }
            #expect(seen.bytes == bytes && !seen.wasReset)
        }
    }

    private static func checkUnasked() async throws {
        try await Self.join(isReading: false) { near, far in
            try await near.channel.writeAndFlush(ByteBuffer(bytes: [1, 2])).get()
            try await near.channel.close().get()
            let seen = try await far.sees("the end") { $0.isInputClosed ? $0 : nil }
            #expect(seen.bytes == [1, 2])
        }
    }

    private static func checkUnread() async throws {
        try await Self.join(isReading: false) { near, far in
            try await near.channel.writeAndFlush(ByteBuffer(bytes: [1, 2])).get()
            // It is there, and nobody has taken it.
            try await far.channel.eventLoop.submit {}.get()
            try await far.channel.close().get()
            _ = try await near.sees("the end") { $0.isInactive ? true : nil }
            #expect(near.seen.now.wasReset)
        }
    }

    private static func checkBroken() async throws {
        try await Self.join { near, far in
            try await near.reset()
            let seen = try await far.sees("the end") { $0.isInactive ? $0 : nil }
            #expect(seen.wasReset && !seen.isInputClosed)
        }
    }

    private static func checkDeaf() async throws {
        try await Self.join { near, far in
            try await far.channel.close().get()
            _ = try await near.sees("the end of the other side") { $0.isInputClosed ? true : nil }
            near.send([1])
            _ = try await near.sees("the end") { $0.isInactive ? true : nil }
        }
    }

    private static func checkUnsent() async throws {
        try await Self.join(isReading: false) { near, _ in
            let written: EventLoopFuture<Void> = near.channel.writeAndFlush(
                ByteBuffer(bytes: Self.flood)
            )
            _ = try await near.sees("that it has to wait") { $0.pauses > 0 ? true : nil }
            try await near.channel.close().get()
            await #expect(throws: ChannelError.self) { try await written.get() }
            await #expect(throws: ChannelError.self) { try await near.channel.close().get() }
            await #expect(throws: ChannelError.self) {
                try await near.channel.writeAndFlush(ByteBuffer(bytes: [1])).get()
            }
        }
    }

    private static func checkAddresses() async throws {
        try await Self.join { near, far in
            #expect(near.channel.localAddress == far.channel.remoteAddress)
            #expect(near.channel.remoteAddress == far.channel.localAddress)
            #expect(near.channel.remoteAddress?.ipAddress == "127.0.0.1")
            #expect(near.channel.localAddress?.port != near.channel.remoteAddress?.port)
        }
    }

    private static func checkNobody() async {
        await #expect(throws: (any Error).self) {
            _ = try await Wire.current.connect(to: 1, from: nil, receiveBuffer: nil) { _ in }
        }
    }
}
