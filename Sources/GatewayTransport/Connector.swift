// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import NIOCore
import NIOPosix

/// Opens the connections to upstreams and outbound proxies: over TCP, unless a test has a network of its own.
package protocol Connector: Sendable {
    /// Opens a connection to a host; what goes wrong is a ``TransportError``, or what NIO says.
    ///
    /// - Parameters:
    ///   - host: a name, or an address.
    ///   - port: that of the host.
    ///   - timeout: how long it may take to connect.
    ///   - names: what looks the host up.
    ///   - eventLoop: where the connection is.
    ///   - setUp: gives a channel what it needs from its beginning. Of several addresses that are tried each has a channel.
    /// - Returns: the channel that leads to the host.
    func connect(
        to host: String,
        port: Int,
        within timeout: TimeAmount,
        names: NameResolver,
        on eventLoop: any EventLoop,
        setUp: @escaping @Sendable (any Channel) throws -> Void
    ) -> EventLoopFuture<any Channel>
}

/// Opens connections over TCP.
package struct TCPConnector: Connector {
    package init() {}

    /// A channel hands on as many pieces of 64 KiB as it may read in one go before it hears that reading stops: with one,
    /// thousands of answers that nobody takes cost 64 KiB each, not 256.
    package func connect(
        to host: String,
        port: Int,
        within timeout: TimeAmount,
        names: NameResolver,
        on eventLoop: any EventLoop,
        setUp: @escaping @Sendable (any Channel) throws -> Void
    ) -> EventLoopFuture<any Channel> {
        ClientBootstrap(group: eventLoop)
            .channelOption(.maxMessagesPerRead, value: 1)
            .channelOption(.recvAllocator, value: ReceiveBuffers())
            .connectTimeout(timeout)
            .resolver(NameQueries(host, from: names, on: eventLoop))
            .channelInitializer { channel in channel.eventLoop.makeCompletedFuture { try setUp(channel) } }
            .connect(host: host, port: port)
    }
}
