// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore
import Synchronization

/// What it takes to open a session at a streamable-HTTP upstream, in whatever slot.
struct SessionOrigin: Sendable {
    /// What the upstream negotiated; nil if it is a version that we do not know.
    let revision: ProtocolRevision?
    /// The message that opens it; empty if it was too long to keep: then it cannot be opened again, nor elsewhere.
    let initialize: ByteBuffer
    /// The forwarded field lines of its caller.
    let forwarded: [UInt8]

    init(revision: ProtocolRevision?, initialize: ByteBuffer, forwarded: [UInt8]) {
        self.revision = revision
        self.initialize = KeptInitialize.copy(of: initialize) ?? ByteBuffer()
        self.forwarded = forwarded
    }

    /// The field lines that every message of the gateway in this session carries.
    var fields: String { String(decoding: self.forwarded, as: UTF8.self) + (self.revision?.headerLine ?? "") }
}

/// A session at a streamable-HTTP upstream with the credential of one slot, which alone it is ever used with.
final class HTTPUpstreamSession: Sendable {
    /// What came of opening the session, or of opening it again.
    enum Opened: Sendable {
        case open(id: String)
        /// It is there as it was: what was refused in it was refused for itself.
        case kept(id: String)
        /// The upstream refused the slot's credential with this status.
        case refused(Int)
        case failed(GatewayError)
        /// It is over for good.
        case over
    }

    /// A call that waits until the session is open.
    struct Waiter: Sendable {
        let eventLoop: any EventLoop
        /// Told what came of it, and whether it is the first that is told.
        let resume: @Sendable (Opened, Bool) -> Void
    }

    let slot: CredentialID
    let origin: SessionOrigin
    /// Who is told when it is open.
    let watch: OpeningWatch
    private let session: Mutex<UpstreamSession<Waiter>>

    /// `id` is nil for a session that is opened when it is wanted.
    init(id: String?, slot: CredentialID, origin: SessionOrigin, watch: OpeningWatch) {
        self.slot = slot
        self.origin = origin
        self.watch = watch
        self.session = Mutex(id.map { UpstreamSession(id: $0) } ?? UpstreamSession())
    }

    /// The id to send upstream; nil while there is none.
    var id: String? { self.session.withLock { $0.id } }

    func wanted(_ waiter: Waiter) -> UpstreamSession<Waiter>.Want {
        self.session.withLock { $0.wanted(waiter: waiter) }
    }

    func lost(id: String, isCertain: Bool, waiter: Waiter) -> UpstreamSession<Waiter>.Loss {
        let now = Self.now
        return self.session.withLock { $0.lost(id: id, isCertain: isCertain, waiter: waiter, at: now) }
    }

    /// The upstream knows it after all; everybody who waits is told.
    func kept() {
        let now = Self.now
        let (waiters, id) = self.session.withLock { session in (session.kept(at: now), session.id) }
        if let id { Self.resume(waiters, with: .kept(id: id)) }
    }

    private static var now: Duration { .nanoseconds(Int64(clamping: NIODeadline.now().uptimeNanoseconds)) }

    /// What came of opening it; everybody who waits is told.
    ///
    /// Returns whether it is of use; what was opened after its end has to be ended as well.
    func opened(_ result: Opened) -> Bool {
        let now = Self.now
        let waiters: [Waiter]? = self.session.withLock { session in
            switch result {
            case .open(let id): session.opened(id: id, at: now)
            case .refused(let status): session.refused(with: status, at: now)
            case .kept, .failed, .over: session.openingFailed()
            }
        }
        Self.resume(waiters ?? [], with: result)
        return waiters != nil
    }

    /// Ends the session; returns the id that the upstream may still know.
    func close() -> String? {
        let (id, waiters) = self.session.withLock { session in session.close() }
        Self.resume(waiters, with: .over)
        return id
    }

    private static func resume(_ waiters: [Waiter], with result: Opened) {
        for (index, waiter) in waiters.enumerated() {
            waiter.eventLoop.execute { waiter.resume(result, index == 0) }
        }
    }
}

/// Tells whoever listens to upstream sessions that one is open, before anything is sent in it: a server that asks its
/// client something on the stream of a GET drops the question if there is none yet.
final class OpeningWatch: Sendable {
    /// Told the slot and the new id; calls back, anywhere, when the session may be used.
    typealias Watcher = @Sendable (_ slot: CredentialID, _ id: String, _ goOn: @escaping @Sendable () -> Void) -> Void

    private let watcher = Mutex<(owner: ObjectIdentifier, body: Watcher)?>(nil)

    /// `body` is told from now on, in place of whoever was.
    func set(for owner: AnyObject, _ body: @escaping Watcher) {
        let identity = ObjectIdentifier(owner)
        self.watcher.withLock { $0 = (identity, body) }
    }

    /// Nobody is told any more, unless that is somebody else.
    func clear(for owner: AnyObject) {
        let identity = ObjectIdentifier(owner)
        self.watcher.withLock { if $0?.owner == identity { $0 = nil } }
    }

    func opened(_ slot: CredentialID, id: String, _ goOn: @escaping @Sendable () -> Void) {
        guard let body = self.watcher.withLock({ $0?.body }) else { return goOn() }
        body(slot, id, goOn)
    }
}

/// One caller's sessions at a streamable-HTTP upstream: one for each slot, opened when it is first used.
final class HTTPUpstreamSessions: Sendable {
    let origin: SessionOrigin
    let watch: OpeningWatch
    private let http: HTTPAccess
    /// Those of the slots that there were at the beginning, to be found without a lock.
    private let known: [HTTPUpstreamSession]
    /// Those of credentials that came later.
    private let added = Mutex<[HTTPUpstreamSession]>([])

    /// The session `id` was opened in `home`.
    init(id: String, home: CredentialID, _ http: HTTPAccess, origin: SessionOrigin) {
        let watch = OpeningWatch()
        self.origin = origin
        self.watch = watch
        self.http = http
        self.known = ([home] + http.slots.filter { $0 != home })
            .map { HTTPUpstreamSession(id: $0 == home ? id : nil, slot: $0, origin: origin, watch: watch) }
    }

    /// All that were made, open or not.
    var slots: [HTTPUpstreamSession] { self.known + self.added.withLock { $0 } }

    /// nil for a credential that the upstream does not have, unless its session is still there: no other's stands in for
    /// it.
    func session(_ slot: CredentialID) -> HTTPUpstreamSession? {
        if let session = self.known.first(where: { $0.slot == slot }) { return session }
        let ids = Set(self.http.slots)
        return self.added.withLock { added in
            if let session = added.first(where: { $0.slot == slot }) { return session }
            guard ids.contains(slot) else { return nil }
            // Whoever is still in one of a credential that was removed keeps it by itself.
            added.removeAll { !ids.contains($0.slot) }
            let session = HTTPUpstreamSession(id: nil, slot: slot, origin: self.origin, watch: self.watch)
            added.append(session)
            return session
        }
    }
}

extension ProtocolRevision {
    /// The header by which a message says which revision was negotiated; empty before there was such a header
    /// (2025-06-18, Transports).
    var headerLine: String {
        self >= .june2025 ? "MCP-Protocol-Version: \(self.rawValue)\r\n" : ""
    }
}
