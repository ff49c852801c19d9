// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GatewayModel
import GatewayRuntime
import GatewayServer
import GatewayTesting
import GatewayTransport
import NIOCore
import NIOPosix

/// What lies between the gateway, its callers and its upstreams: memory, or the loopback interface.
enum Wire: Sendable {
    case memory
    case sockets

    /// That of the test that runs.
    ///
    /// `GATEWAY_TEST_WIRE=sockets` has all tests run over sockets: that what they say of memory is true of those too.
    @TaskLocal static var current: Wire =
        ProcessInfo.processInfo.environment["GATEWAY_TEST_WIRE"] == "sockets" ? .sockets : .memory

    /// Where somebody listens.
    struct Listening: Sendable {
        let port: Int
        let stop: @Sendable () async -> Void
    }

    /// Connects to a port as a caller.
    func connect(
        to port: Int,
        from address: String?,
        receiveBuffer: Int?,
        _ setUp: @escaping MemoryNetwork.SetUp
    ) async throws -> any Channel {
        let group = MultiThreadedEventLoopGroup.singleton
        switch self {
        case .memory:
            return try await MemoryNetwork.shared
                .connect(
                    to: port,
                    from: address ?? "127.0.0.1",
                    on: group.next(),
                    capacity: receiveBuffer,
                    setUp
                )
                .get()
        case .sockets:
            var bootstrap = ClientBootstrap(group: group)
                .channelInitializer { channel in channel.eventLoop.makeCompletedFuture { try setUp(channel) } }
            if let receiveBuffer {
                bootstrap = bootstrap.channelOption(.socketOption(.so_rcvbuf), value: Int(receiveBuffer))
            }
            if let address { bootstrap = try bootstrap.bind(to: SocketAddress(ipAddress: address, port: 0)) }
            return try await bootstrap.connect(host: "127.0.0.1", port: port).get()
        }
    }

    /// Takes connections as an upstream does.
    func listen(sendBuffer: Int?, _ setUp: @escaping MemoryNetwork.SetUp) async throws -> Listening {
        let group = MultiThreadedEventLoopGroup.singleton
        switch self {
        case .memory:
            let address = try MemoryNetwork.shared.listen(on: { group.next() }, capacity: sendBuffer, setUp)
            return Listening(port: address.port ?? 0) { MemoryNetwork.shared.stopListening(on: address) }
        case .sockets:
            var bootstrap = ServerBootstrap(group: group)
                .serverChannelOption(.backlog, value: 1024)
                .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
                .childChannelInitializer { channel in channel.eventLoop.makeCompletedFuture { try setUp(channel) } }
            if let sendBuffer {
                bootstrap = bootstrap.childChannelOption(.socketOption(.so_sndbuf), value: Int(sendBuffer))
            }
            let channel = try await bootstrap.bind(host: "127.0.0.1", port: 0).get()
            // It may be closed already.
            return Listening(port: channel.localAddress?.port ?? 0) { try? await channel.close() }
        }
    }

    /// Has a gateway listen.
    func listen(
        _ setup: GatewaySetup,
        group: MultiThreadedEventLoopGroup,
        loops: [LoopResources],
        handler: GatewayHandler
    ) async throws -> (listener: Listener, listening: Listening) {
        switch self {
        case .memory:
            let listener = Listener(loops: loops, connections: setup.limits.connections, handler: handler)
            let address = try MemoryNetwork.shared.listen(on: { group.next() }, listener.accept)
            return (
                listener,
                Listening(port: address.port ?? 0) { MemoryNetwork.shared.stopListening(on: address) }
            )
        case .sockets:
            let listener = try await Listener.bind(
                setup.listener.address,
                group: group,
                loops: loops,
                connections: setup.limits.connections,
                handler: handler
            )
            // The listener ends by itself.
            return (listener, Listening(port: listener.address?.port ?? 0) {})
        }
    }

    /// How a gateway reaches its upstreams.
    var connector: any Connector {
        switch self {
        case .memory: MemoryConnector()
        case .sockets: TCPConnector()
        }
    }

    /// Closes what is still open on the event loops of a gateway, which are about to go: they do that for sockets themselves.
    func close(on loops: [LoopResources]) async throws {
        if case .memory = self { try await MemoryNetwork.shared.closeAll(on: loops.map(\.eventLoop)) }
    }
}

/// Connects a gateway in memory; whatever its host is called, there is one machine.
private struct MemoryConnector: Connector {
    func connect(
        to host: String,
        port: Int,
        within timeout: TimeAmount,
        names: NameResolver,
        on eventLoop: any EventLoop,
        setUp: @escaping @Sendable (any Channel) throws -> Void
    ) -> EventLoopFuture<any Channel> {
        MemoryNetwork.shared
            .connect(to: port, on: eventLoop) { channel in
                try channel.syncOptions?.setOption(.maxMessagesPerRead, value: 1)
                try channel.syncOptions?.setOption(.recvAllocator, value: ReceiveBuffers())
                try setUp(channel)
            }
            .flatMapErrorThrowing { error in
                let text = "nothing listens at \(host):\(port): connection refused"
                throw error is IOError ? TransportError(.connectRefused, text, progress: .nothing) : error
            }
    }
}
