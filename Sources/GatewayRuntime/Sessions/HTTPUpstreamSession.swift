// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import GatewayWire
import NIOCore
import Synchronization

/// A session at a streamable-HTTP upstream, and what it takes to open it again.
final class HTTPUpstreamSession: Sendable {
    /// A call that waits until the session is open again.
    struct Waiter: Sendable {
        let eventLoop: any EventLoop
        /// Told the new id, or nil if the session is over.
        let resume: @Sendable (String?) -> Void
    }

    /// An `initialize` above this is not kept: such a session cannot be opened again.
    static let initializeLimit = 64 * 1024

    /// What the upstream negotiated; nil if it is a version that we do not know.
    let revision: ProtocolRevision?
    /// The message that opened it; empty if it was too long to keep.
    let initialize: ByteBuffer
    /// The forwarded field lines of its caller.
    let forwarded: [UInt8]
    private let session: Mutex<UpstreamSession<Waiter>>

    init(id: String, revision: ProtocolRevision?, initialize: ByteBuffer, forwarded: [UInt8]) {
        self.revision = revision
        self.initialize = initialize.readableBytes <= Self.initializeLimit ? initialize : ByteBuffer()
        self.forwarded = forwarded
        self.session = Mutex(UpstreamSession(id: id))
    }

    /// The id to send upstream; nil once the session is over.
    var id: String? { self.session.withLock { $0.id } }

    /// The field lines that every message of the gateway in this session carries.
    var fields: String { String(decoding: self.forwarded, as: UTF8.self) + (self.revision?.headerLine ?? "") }

    func lost(id: String, waiter: Waiter) -> UpstreamSession<Waiter>.Loss {
        self.session.withLock { $0.lost(id: id, waiter: waiter) }
    }

    func renewed(id: String) { Self.resume(self.session.withLock { $0.renewed(id: id) }, with: id) }

    func renewalFailed() { Self.resume(self.session.withLock { $0.renewalFailed() }, with: nil) }

    /// Ends the session; returns the id that the upstream may still know.
    func close() -> String? {
        let (id, waiters) = self.session.withLock { session in session.close() }
        Self.resume(waiters, with: nil)
        return id
    }

    private static func resume(_ waiters: [Waiter], with id: String?) {
        for waiter in waiters { waiter.eventLoop.execute { waiter.resume(id) } }
    }
}

extension ProtocolRevision {
    /// The header by which a message says which revision was negotiated; empty before there was such a header
    /// (2025-06-18, Transports).
    var headerLine: String {
        self >= .june2025 ? "MCP-Protocol-Version: \(self.rawValue)\r\n" : ""
    }
}
