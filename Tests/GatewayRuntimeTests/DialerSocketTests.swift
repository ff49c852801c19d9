// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire
import NIOCore
import NIOPosix
import Testing

@testable import GatewayTransport

@Suite("Connections to a name with several addresses") struct DialerSocketTests {
    /// Knows one name: nobody listens at its first address, and somebody at its second.
    static let twoAddresses = NameResolver(lookUp: { _ in
        .success(["::1", "127.0.0.1"].compactMap { try? SocketAddress(ipAddress: $0, port: 0) })
    })

    /// Answers whatever comes.
    final class Server: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let answer = ByteBuffer(string: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            context.writeAndFlush(self.wrapOutboundOut(answer), promise: nil)
        }
    }

    /// One request, and what became of it: a status, or the code of the failure.
    final class Request: UpstreamReceiver {
        private let done: (String, _ isReused: Bool) -> Void
        private var status = 0
        private var isReused = false

        init(_ done: @escaping (String, _ isReused: Bool) -> Void) { self.done = done }

        func upstreamConnected(_ connection: UpstreamConnection) {
            let head = ByteBuffer(string: "GET / HTTP/1.1\r\nHost: two.test\r\n\r\n")
            connection.send(head: head, body: nil, receiver: self)
        }

        func upstreamAnswered(_ connection: UpstreamConnection) {
            self.status = connection.response.status
            self.isReused = connection.isReused
        }

        func upstreamSent(_ bytes: ByteBuffer) {}
        func upstreamPaused() {}
        func upstreamEnded() { self.done("\(self.status)", self.isReused) }
        func upstreamFailed(_ error: TransportError) { self.done(error.code.rawValue, false) }
    }

    @Test("The address that answers is used, though another failed before, and its connection is kept")
    func secondAddress() async throws {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        let server = try await ServerBootstrap(group: eventLoop)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Server()) }
            }
            .bind(host: "127.0.0.1", port: 0)
            .get()
        let port = try #require(server.localAddress?.port)
        let origin = WebOrigin(scheme: .http, host: "two.test", isIPv6Literal: false, port: port)
        var dialer = try Dialer(origin: origin, tls: TLSClientConfiguration(), timeout: .seconds(5))
        dialer.names = Self.twoAddresses
        let results: [String] = await withCheckedContinuation { continuation in
            eventLoop.execute { [dialer] in
                let sweeper = LoopSweeper(eventLoop: eventLoop)
                let pool = UpstreamPool(eventLoop: eventLoop, dialer: dialer, sweeper: sweeper)
                var results: [String] = []
                func ask() {
                    pool.connect(
                        for: Request { outcome, isReused in
                            results.append("\(outcome)\(isReused ? " again" : "")")
                            guard results.count == 3 else { return ask() }
                            pool.close()
                            results.append("\(pool.openCount) left")
                            continuation.resume(returning: results)
                        }
                    )
                }
                ask()
            }
        }
        #expect(results == ["200", "200 again", "200 again", "0 left"])
        try await server.close()
    }
}
