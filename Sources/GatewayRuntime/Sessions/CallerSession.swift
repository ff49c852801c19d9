// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewaySession
package import GatewayWire
import NIOCore
import Synchronization

/// Who a session belongs to: nobody else finds it (contract §3).
package struct Principal: Hashable, Sendable {
    /// The upstream's index.
    let upstream: Int
    /// The index of the inbound token; nil without tokens.
    let token: Int?
    /// The forwarded field lines, in the order in which they came; empty without `forwardHeaders`.
    let forwarded: [UInt8]
}

/// One caller's handshake session: our id, and what it takes to speak for it upstream.
package final class CallerSession: Sendable {
    /// A call that waits until the upstream session is open again.
    struct Waiter: Sendable {
        let eventLoop: any EventLoop
        /// Told the new id, or nil if the session is over.
        let resume: @Sendable (String?) -> Void
    }

    /// The GET stream of a session: which one it is, and how it is told to end.
    struct Stream: Sendable {
        let owner: ObjectIdentifier
        let end: @Sendable () -> Void
    }

    /// An `initialize` above this is not kept: such a session cannot be opened again.
    static let initializeLimit = 64 * 1024

    package let id: SessionID
    let principal: Principal
    /// What the upstream negotiated; nil if it is a version that we do not know.
    package let revision: ProtocolRevision?
    /// The caller's own `initialize` message; empty if it was too long to keep.
    let initialize: ByteBuffer
    private let upstreamSession: Mutex<UpstreamSession<Waiter>>
    private let stream = Mutex<Stream?>(nil)

    init(
        id: SessionID,
        principal: Principal,
        revision: ProtocolRevision?,
        initialize: ByteBuffer,
        upstreamID: String
    ) {
        self.id = id
        self.principal = principal
        self.revision = revision
        self.initialize = initialize.readableBytes <= Self.initializeLimit ? initialize : ByteBuffer()
        self.upstreamSession = Mutex(UpstreamSession(id: upstreamID))
    }

    /// The id to send upstream; nil once the session is over.
    var upstreamID: String? { self.upstreamSession.withLock { $0.id } }

    func lost(id: String, waiter: Waiter) -> UpstreamSession<Waiter>.Loss {
        self.upstreamSession.withLock { $0.lost(id: id, waiter: waiter) }
    }

    func renewed(id: String) {
        Self.resume(self.upstreamSession.withLock { $0.renewed(id: id) }, with: id)
    }

    func renewalFailed() {
        Self.resume(self.upstreamSession.withLock { $0.renewalFailed() }, with: nil)
    }

    /// Ends the session; returns the id that the upstream may still know.
    func close() -> String? {
        let (id, waiters) = self.upstreamSession.withLock { session in session.close() }
        Self.resume(waiters, with: nil)
        self.replaceStream(nil)
        return id
    }

    private static func resume(_ waiters: [Waiter], with id: String?) {
        for waiter in waiters { waiter.eventLoop.execute { waiter.resume(id) } }
    }

    /// A newer GET stream takes the place of the one before, which ends (contract §3).
    func replaceStream(_ newer: Stream?) {
        let old = self.stream.withLock { stream in
            defer { stream = newer }
            return stream
        }
        old?.end()
    }

    /// A stream that ended by itself is let go of.
    func forgetStream(of owner: ObjectIdentifier) {
        self.stream.withLock { stream in
            if stream?.owner == owner { stream = nil }
        }
    }
}
