// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire
import NIOCore
import NIOEmbedded
import Testing

@testable import GatewayTransport

@Suite("Events inside a call of a handler") struct CallOutsTests {
    @Test("An event waits while the handler is in a call, and until those before it are handled")
    func order() {
        let eventLoop = EmbeddedEventLoop()
        let callOuts = CallOuts(on: eventLoop)
        var handled: [String] = []
        func event(_ name: String) {
            guard !callOuts.mustWait else { return callOuts.keep { handled.append("\(name) later") } }
            handled.append(name)
        }
        event("before")
        callOuts.begin()
        event("inside")
        callOuts.begin()
        event("deep inside")
        callOuts.end()
        event("inside again")
        callOuts.end()
        event("right behind")
        #expect(handled == ["before"])
        eventLoop.run()
        event("after")
        let later = ["inside later", "deep inside later", "inside again later", "right behind later"]
        #expect(handled == ["before"] + later + ["after"])
    }

    @Test("What comes while kept events are handled is handled behind all of them")
    func whileHandling() {
        let eventLoop = EmbeddedEventLoop()
        let callOuts = CallOuts(on: eventLoop)
        var handled: [String] = []
        callOuts.keep {
            callOuts.begin()
            #expect(callOuts.mustWait)
            callOuts.keep { handled.append("third") }
            callOuts.end()
            handled.append("first")
        }
        callOuts.keep { handled.append("second") }
        eventLoop.run()
        #expect(handled == ["first", "second", "third"])
        #expect(!callOuts.mustWait)
        callOuts.keep { handled.append("fourth") }
        eventLoop.run()
        #expect(handled.last == "fourth")
    }
}

@Suite("Upstream connections that end inside our own call") struct UpstreamConnectionCallTests {
    /// Where the connection breaks, and what NIO fires before `channelInactive` there.
    struct Break: CustomTestStringConvertible {
        enum Point { case write, flush, read }
        let point: Point
        var rest: String?
        var failsFirst = false
        /// Whether what is read there is a whole answer.
        var isAnswer: Bool { self.rest?.utf8.last == UInt8(ascii: "\n") }
        var testDescription: String {
            "in \(self.point)\(self.rest == nil ? "" : ", behind input")\(self.failsFirst ? ", behind an error" : "")"
        }
    }

    static let breaks: [Break] = [.write, .flush, .read]
        .flatMap { point in
            [
                Break(point: point), Break(point: point, failsFirst: true),
                Break(point: point, rest: "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"),
                Break(point: point, rest: "HTTP/1.1 408", failsFirst: true),
            ]
        }

    /// Stands for the socket: breaks when it is told to.
    final class Socket: ChannelOutboundHandler {
        typealias OutboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer
        var next: Break?
        private var isBroken = false

        func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
            if self.isBroken || self.breaks(at: .write, context) {
                promise?.fail(ChannelError.ioOnClosedChannel)
            } else {
                context.write(data, promise: promise)
            }
        }

        func flush(context: ChannelHandlerContext) { if !self.breaks(at: .flush, context) { context.flush() } }

        func read(context: ChannelHandlerContext) { if !self.breaks(at: .read, context) { context.read() } }

        private func breaks(at point: Break.Point, _ context: ChannelHandlerContext) -> Bool {
            guard let next, next.point == point else { return false }
            self.next = nil
            self.isBroken = true
            if let rest = next.rest { context.fireChannelRead(NIOAny(ByteBuffer(string: rest))) }
            if next.failsFirst { context.fireErrorCaught(ChannelError.eof) }
            context.close(promise: nil)
            return true
        }
    }

    /// Notes what it hears, and whether that was inside its own call.
    final class Receiver: UpstreamReceiver {
        private(set) var heard: [String] = []
        private(set) var failure: TransportError?
        private var isInCall = false

        func call(_ body: () -> Void) {
            self.isInCall = true
            body()
            self.isInCall = false
        }

        private func hear(_ event: String) { self.heard.append(self.isInCall ? "\(event) inside its call" : event) }

        func upstreamConnected(_ connection: UpstreamConnection) {}
        func upstreamAnswered(_ connection: UpstreamConnection) { self.hear("\(connection.response.status)") }
        func upstreamSent(_ bytes: ByteBuffer) { self.hear("\(bytes.readableBytes) bytes") }
        func upstreamPaused() {}
        func upstreamEnded() { self.hear("ended") }
        func upstreamFailed(_ error: TransportError) {
            self.failure = error
            self.hear("failed")
        }
    }

    /// A connection that had a request and its answer, and waits for the next one.
    struct Used {
        let channel = EmbeddedChannel()
        let socket = Socket()
        let connection: UpstreamConnection

        init() throws {
            let origin = WebOrigin(scheme: .http, host: "one.test", isIPv6Literal: false, port: 1)
            let dialer = try Dialer(origin: origin, tls: TLSClientConfiguration(), timeout: .seconds(5))
            let eventLoop = self.channel.embeddedEventLoop
            let pool = UpstreamPool(eventLoop: eventLoop, dialer: dialer, sweeper: LoopSweeper(eventLoop: eventLoop))
            self.connection = UpstreamConnection(pool: pool, receiver: Receiver())
            let pipeline = self.channel.pipeline.syncOperations
            try pipeline.addHandlers(self.socket, self.connection)
            try self.channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
            self.connection.dialed(nil)
            let receiver = Receiver()
            self.send(to: receiver)
            try self.channel.writeInbound(ByteBuffer(string: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
            #expect(receiver.heard == ["200", "2 bytes", "ended"])
        }

        func send(to receiver: Receiver, bodySize: Int = 0) {
            let body = bodySize > 0 ? ByteBuffer(repeating: 0x20, count: bodySize) : nil
            receiver.call {
                self.connection.send(head: ByteBuffer(string: "GET / HTTP/1.1\r\n\r\n"), body: body, receiver: receiver)
            }
        }
    }

    @Test(
        "A request whose write closes the connection fails behind the call, as one that never left",
        arguments: Self.breaks.filter { $0.point != .read },
        [0, 100, 20_000]
    )
    func send(broken: Break, bodySize: Int) throws {
        let used = try Used()
        let receiver = Receiver()
        used.socket.next = broken
        used.send(to: receiver, bodySize: bodySize)
        #expect(receiver.heard.isEmpty)
        used.channel.embeddedEventLoop.run()
        // A large request may have left in part, and what is read then may be its answer.
        let isAnswered = broken.isAnswer && bodySize > 10_000
        #expect(receiver.heard == (isAnswered ? ["408", "ended"] : ["failed"]))
        guard !isAnswered else { return }
        #expect(receiver.failure?.progress == (bodySize > 10_000 ? .partly : .nothing))
    }

    @Test("A connection that ends when reading goes on says so behind that call", arguments: Self.breaks)
    func resume(broken: Break) throws {
        let used = try Used()
        let receiver = Receiver()
        used.send(to: receiver)
        used.connection.isReadingPaused = true
        used.channel.pipeline.read()
        used.socket.next = Break(point: .read, rest: broken.rest, failsFirst: broken.failsFirst)
        receiver.call { used.connection.isReadingPaused = false }
        #expect(receiver.heard.isEmpty)
        used.channel.embeddedEventLoop.run()
        #expect(receiver.heard == (broken.isAnswer ? ["408", "ended"] : ["failed"]))
    }

    @Test("A request on a connection that is gone fails behind the call, once", arguments: [true, false])
    func gone(isCancelled: Bool) throws {
        let used = try Used()
        used.channel.pipeline.close(promise: nil)
        used.channel.embeddedEventLoop.run()
        let receiver = Receiver()
        used.send(to: receiver)
        #expect(receiver.heard.isEmpty)
        if isCancelled { used.connection.cancel() }
        used.channel.embeddedEventLoop.run()
        #expect(receiver.heard == (isCancelled ? [] : ["failed"]))
    }

    @Test("Whoever gives up behind the call hears nothing of what came inside it", arguments: Self.breaks)
    func cancelled(broken: Break) throws {
        let used = try Used()
        let receiver = Receiver()
        used.socket.next = broken
        used.send(to: receiver)
        used.connection.cancel()
        used.channel.embeddedEventLoop.run()
        #expect(receiver.heard.isEmpty)
    }
}
