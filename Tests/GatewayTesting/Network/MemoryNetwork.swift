// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import NIOCore
import Synchronization

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// A network within the process: whoever listens on a port of it can be connected to, and no socket is opened.
package final class MemoryNetwork: Sendable {
    /// The one that all tests share, each with ports of its own.
    package static let shared = MemoryNetwork()

    /// What a connection is given at its beginning, on its event loop.
    package typealias SetUp = @Sendable (any Channel) throws -> Void

    /// Whoever takes connections on a port.
    private struct Listening {
        let address: SocketAddress
        let nextLoop: @Sendable () -> any EventLoop
        let capacity: Int
        let setUp: SetUp
    }

    private struct State {
        var listening: [Int: Listening] = [:]
        /// Ports are not used again.
        var nextPort = 1024
        var nextClient = 1
        var nextChannel: UInt64 = 0
        var open: [UInt64: MemoryChannel] = [:]
    }

    /// What the system keeps of what one side sent and the other has not read.
    private static let capacity = 256 * 1024

    private let state = Mutex(State())

    package init() {}

    // MARK: Listening

    /// Takes connections from now on, on a port that nobody else has.
    ///
    /// - Parameters:
    ///   - nextLoop: what chooses the event loop of a connection.
    ///   - capacity: how many bytes to a caller are on their way before the writer has to wait; nil: as usual.
    ///   - setUp: what a connection that came is given.
    /// - Returns: where it listens.
    /// - Throws: what making an address throws.
    package func listen(
        on nextLoop: @escaping @Sendable () -> any EventLoop,
        capacity: Int? = nil,
        _ setUp: @escaping SetUp
    ) throws -> SocketAddress {
        try self.state.withLock { state in
            let port = state.nextPort
            state.nextPort += 1
            let address = try SocketAddress(ipAddress: "127.0.0.1", port: port)
            state.listening[port] = Listening(
                address: address,
                nextLoop: nextLoop,
                capacity: capacity ?? Self.capacity,
                setUp: setUp
            )
            return address
        }
    }

    /// Takes no more connections; those that there are stay.
    package func stopListening(on address: SocketAddress) {
        self.state.withLock { $0.listening[address.port ?? 0] = nil }
    }

    // MARK: Connecting

    /// Connects to a port; fails with `ECONNREFUSED` if nobody listens there.
    ///
    /// - Parameters:
    ///   - port: where.
    ///   - source: the address that the other side sees.
    ///   - eventLoop: that of our end.
    ///   - capacity: how many bytes to us are on their way before the other side has to wait; nil: what the listener says.
    ///   - setUp: what our end is given.
    /// - Returns: our end.
    package func connect(
        to port: Int,
        from source: String = "127.0.0.1",
        on eventLoop: any EventLoop,
        capacity: Int? = nil,
        _ setUp: @escaping SetUp
    ) -> EventLoopFuture<any Channel> {
        let promise = eventLoop.makePromise(of: (any Channel).self)
        let (listening, client) = self.state.withLock { state in
            state.nextClient += 1
            return (state.listening[port], state.nextClient % 50_000 + 10_000)
        }
        guard let listening else {
            // Later, as every answer of a network comes.
            eventLoop.execute {
                promise.fail(IOError(errnoCode: ECONNREFUSED, reason: "nobody listens on port \(port)"))
            }
            return promise.futureResult
        }
        let here: SocketAddress
        do {
            here = try SocketAddress(ipAddress: source, port: client)
        } catch {
            promise.fail(error)
            return promise.futureResult
        }
        let up = MemoryPipe(capacity: Self.capacity)
        let down = MemoryPipe(capacity: capacity ?? listening.capacity)
        let near = MemoryChannel(on: eventLoop, from: here, to: listening.address, incoming: down, outgoing: up)
        let far = MemoryChannel(
            on: listening.nextLoop(),
            from: listening.address,
            to: here,
            incoming: up,
            outgoing: down
        )
        up.join(writer: near, reader: far)
        down.join(writer: far, reader: near)
        self.keep(near)
        self.keep(far)
        far.hear { Self.begin($0, listening.setUp, nil) }
        near.hear { Self.begin($0, setUp, promise) }
        return promise.futureResult
    }

    private static func begin(_ channel: MemoryChannel, _ setUp: SetUp, _ promise: EventLoopPromise<any Channel>?) {
        do {
            try setUp(channel)
            channel.begin(promise)
        } catch {
            promise?.fail(error)
            channel.close0(error: error, mode: .all, promise: nil)
        }
    }

    // MARK: Ends

    private func keep(_ channel: MemoryChannel) {
        let number = self.state.withLock { state in
            state.nextChannel += 1
            state.open[state.nextChannel] = channel
            return state.nextChannel
        }
        channel.closeFuture.whenComplete { _ in self.state.withLock { _ = $0.open.removeValue(forKey: number) } }
    }

    /// Closes what is open on these event loops, as the system closes the sockets of a process that ends; returns when all of
    /// it is closed.
    package func closeAll(on loops: [any EventLoop]) async throws {
        let open = self.state.withLock { state in
            state.open.values.filter { channel in loops.contains { $0 === channel.eventLoop } }
        }
        for channel in open { channel.close(promise: nil) }
        for channel in open { try await channel.closeFuture.get() }
    }
}
