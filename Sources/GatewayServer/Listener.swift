// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
package import GatewayRuntime
import GatewayTransport
import Logging
package import NIOCore
import NIOPosix
import Synchronization

/// The socket that callers connect to, and the connections that came in by it.
package final class Listener: Sendable {
    /// TCP_NOTSENT_LOWAT: what the system keeps of an answer beyond what the caller has room for.
    ///
    /// By itself it takes up to 4 MiB for a caller that reads nothing, which are counted nowhere, and in a container are its
    /// memory.
    private static let unsentBytes = ChannelOptions.Types.SocketOption.Value(128 * 1024)
    #if os(Linux)
    private static let unsentLimit = NIOBSDSocket.Option(rawValue: 25)
    #else
    private static let unsentLimit = NIOBSDSocket.Option(rawValue: 0x201)
    #endif

    /// nil where connections are brought to it.
    private let channel: (any Channel)?
    private let arrivals: Arrivals
    private var connections: Connections { self.arrivals.connections }

    /// Where it listens, with the port that the system chose if it was asked to; nil where connections are brought to it.
    package var address: SocketAddress? { self.channel?.localAddress }

    private init(_ channel: (any Channel)?, _ arrivals: Arrivals) {
        self.channel = channel
        self.arrivals = arrivals
    }

    /// Has no socket: each connection is brought to it by `accept`.
    package convenience init(loops: [LoopResources], connections limit: Int, handler: any RequestHandler) {
        self.init(nil, Arrivals(Connections(limit: limit), loops, handler))
    }

    /// Takes a connection that has come, before it is active and on its event loop, which is one of those that it was given.
    package func accept(_ channel: any Channel) throws { try self.arrivals.accept(channel) }

    /// Binds and starts to accept, so many connections at a time.
    ///
    /// What else is allowed to a connection its event loop says when it is accepted.
    ///
    /// - Throws: ``ListenError`` if the address cannot be bound.
    package static func bind(
        _ address: ListenAddress,
        group: any EventLoopGroup,
        loops: [LoopResources],
        connections limit: Int,
        handler: any RequestHandler
    ) async throws(ListenError) -> Listener {
        let arrivals = Arrivals(Connections(limit: limit), loops, handler)
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.tcpOption(Self.unsentLimit), value: Self.unsentBytes)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try arrivals.accept(channel) }
            }
        do {
            let channel =
                if let host = address.host {
                    try await bootstrap.bind(host: host, port: address.port).get()
                } else {
                    // Both families where the system has both.
                    try await Self.bindEverywhere(bootstrap, port: address.port)
                }
            return Listener(channel, arrivals)
        } catch {
            throw ListenError(error, at: address, holder: PortHolder.describe(port: address.port))
        }
    }

    private static func bindEverywhere(_ bootstrap: ServerBootstrap, port: Int) async throws -> any Channel {
        do {
            return try await bootstrap.bind(host: "::", port: port).get()
        } catch let error as IOError where error.errnoCode == EADDRINUSE {
            throw error
        } catch {
            return try await bootstrap.bind(host: "0.0.0.0", port: port).get()
        }
    }

    /// Stops accepting, ends streams and idle connections, and waits until the others are done or `limit` is over.
    package func drain(within limit: Duration) async {
        // It may be closed already; then there is nothing to stop.
        try? await self.channel?.close()
        self.connections.drain()
        let deadline = ContinuousClock.now + limit
        while self.connections.count > 0, ContinuousClock.now < deadline {
            // Cancelled means stop waiting.
            guard (try? await Task.sleep(for: .milliseconds(20))) != nil else { break }
        }
        self.connections.close()
    }

    package var connectionCount: Int { self.connections.count }
}

/// What becomes of a connection that has come.
private struct Arrivals: Sendable {
    /// What is said to a caller that is one too many.
    private static let overloaded = ByteBuffer(
        staticString: """
            HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n
            """
    )

    let connections: Connections
    private let loops: [LoopResources]
    private let handler: any RequestHandler

    init(_ connections: Connections, _ loops: [LoopResources], _ handler: any RequestHandler) {
        self.connections = connections
        self.loops = loops
        self.handler = handler
    }

    func accept(_ channel: any Channel) throws {
        let options = channel.syncOptions
        try options?.setOption(.allowRemoteHalfClosure, value: true)
        // A call of the usual size fits, and thousands that send nothing whole cost as little as may be.
        try options?.setOption(.recvAllocator, value: ReceiveBuffers(leastSize: 1024))
        guard let loop = self.loops.first(where: { $0.eventLoop === channel.eventLoop }),
            let place = self.connections.enter(
                channel.remoteAddress,
                perAddress: loop.limits.connectionsPerAddress
            )
        else {
            self.handler.rejectedConnection(from: channel.remoteAddress)
            channel.writeAndFlush(Self.overloaded).whenComplete { _ in channel.close(promise: nil) }
            return
        }
        let connections = self.connections
        let connection = DownstreamConnection(loop: loop, handler: self.handler) {
            connections.leave(place, on: loop)
        }
        connections.add(connection, place, on: loop)
        try channel.pipeline.syncOperations.addHandler(connection)
    }
}

/// The connections of a listener: how many, from where, and each one's event loop to reach it.
private final class Connections: Sendable {
    struct Place: Hashable, Sendable {
        let number: UInt64
        /// nil for a caller without one.
        let address: String?
    }

    private struct State {
        var perAddress: [String: Int] = [:]
        var connections: [UInt64: (loop: LoopResources, connection: NIOLoopBound<DownstreamConnection>)] = [:]
        var next: UInt64 = 0
    }

    private let limit: Int
    private let state = Mutex(State())
    private let open = Atomic<Int>(0)

    init(limit: Int) {
        self.limit = limit
    }

    var count: Int { self.open.load(ordering: .relaxed) }

    /// `perAddress`: how many may come from one address; nil: any number.
    func enter(_ address: SocketAddress?, perAddress: Int?) -> Place? {
        guard self.open.add(1, ordering: .relaxed).newValue <= self.limit else {
            self.open.subtract(1, ordering: .relaxed)
            return nil
        }
        // Counted without a bound as well: there may be one by the next connection.
        let key = address?.ipAddress
        let place: Place? = self.state.withLock { state in
            if let key {
                guard state.perAddress[key, default: 0] < perAddress ?? .max else { return nil }
                state.perAddress[key, default: 0] += 1
            }
            state.next += 1
            return Place(number: state.next, address: key)
        }
        if place == nil { self.open.subtract(1, ordering: .relaxed) }
        return place
    }

    func add(_ connection: DownstreamConnection, _ place: Place, on loop: LoopResources) {
        let bound = NIOLoopBound(connection, eventLoop: loop.eventLoop)
        self.state.withLock { $0.connections[place.number] = (loop, bound) }
    }

    func leave(_ place: Place, on loop: LoopResources) {
        let connection = self.state.withLock { state in
            if let address = place.address, let count = state.perAddress[address] {
                state.perAddress[address] = count > 1 ? count - 1 : nil
            }
            return state.connections.removeValue(forKey: place.number)
        }
        _ = connection
        self.open.subtract(1, ordering: .relaxed)
    }

    func drain() { self.each { $0.drain() } }

    func close() { self.each { $0.close() } }

    private func each(_ body: @escaping @Sendable (DownstreamConnection) -> Void) {
        for (loop, connection) in self.state.withLock({ Array($0.connections.values) }) {
            loop.eventLoop.execute { body(connection.value) }
        }
    }
}
