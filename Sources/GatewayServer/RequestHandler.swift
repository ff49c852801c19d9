// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayObservability
package import GatewayRuntime
package import NIOCore

/// What a listener serves: decides on a request by its head, and then works on it.
///
/// Shared by all connections, called on each connection's event loop.
package protocol RequestHandler: AnyObject, Sendable {
    /// Looks at a request whose head is complete; its body is read only if this returns nil.
    func admit(_ request: InboundRequest, from connection: ConnectionFacts, on loop: LoopResources) -> Rejection?
    /// Works on a complete request. Returns what has to hear of the caller from now on, or nil if it was answered.
    func handle(
        _ request: InboundRequest,
        from connection: ConnectionFacts,
        responder: any DownstreamResponder
    ) -> (any DownstreamExchange)?
    /// Counts and logs a request that is refused before `handle`; its head is empty where it was not read to its end.
    func rejected(_ request: InboundRequest, _ rejection: Rejection, on loop: LoopResources)
    /// Counts and logs a connection that is one too many.
    func rejectedConnection(from peer: SocketAddress?)
    /// Where connections count the bytes that they hold.
    var buffers: BufferLedger { get }
    /// Whether the process is stopping: connections close behind their answer.
    var isDraining: Bool { get }
}

/// What does not change during the life of a connection.
package struct ConnectionFacts: Sendable {
    package var isLocalAddressLoopback: Bool
    package var isPeerLoopback: Bool

    package init(isLocalAddressLoopback: Bool, isPeerLoopback: Bool) {
        self.isLocalAddressLoopback = isLocalAddressLoopback
        self.isPeerLoopback = isPeerLoopback
    }

    init(_ channel: any Channel) {
        self.isLocalAddressLoopback = channel.localAddress?.isLoopback ?? false
        self.isPeerLoopback = channel.remoteAddress?.isLoopback ?? false
    }
}

/// A refusal of a request: the row of contract §4 that it falls under.
package struct Rejection: Sendable {
    package var reason: RejectionReason
    package var status: Int
    package var message: String
    /// Field lines of the answer, each with its line end.
    package var fields: String
    /// The JSON text of the answer; nil: a JSON-RPC error with `message`.
    package var body: String?

    package init(
        _ reason: RejectionReason,
        _ status: Int,
        _ message: String,
        fields: String = "",
        body: String? = nil
    ) {
        self.reason = reason
        self.status = status
        self.message = message
        self.fields = fields
        self.body = body
    }
}

extension SocketAddress {
    /// Whether this is an address of the machine itself: 127.0.0.0/8, also mapped into IPv6, or ::1,
    /// or a socket in the file system.
    var isLoopback: Bool {
        guard let address = self.ipAddress else { return true }
        return address.hasPrefix("127.") || address == "::1" || address.hasPrefix("::ffff:127.")
    }
}
