// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore
import NIOEmbedded
import Synchronization
import Testing

@testable import GatewayRuntime

@Suite("The kinds of upstreams, and their legs") struct UpstreamKindsTests {
    /// What is chosen for one kind.
    struct Row: CustomTestStringConvertible, Sendable {
        /// nil: a child.
        let kind: HTTPUpstreamConfiguration.Kind?
        let isolation: UpstreamConfiguration.Isolation
        let name: String
        /// nil: nobody knows yet.
        let entrance: (any Entrance.Type)?
        let parts: [any UpstreamPart.Type]
        var issuesSessions: Bool?

        var testDescription: String { "\(self.kind?.rawValue ?? "child"), \(self.isolation.rawValue)" }
    }

    private static let rows = [
        Row(
            kind: nil,
            isolation: .session,
            name: "stdio",
            entrance: OwnLinkEntrance.self,
            parts: [SharedLinks.self],
            issuesSessions: true
        ),
        Row(
            kind: nil,
            isolation: .shared,
            name: "stdio",
            entrance: SharedLinkEntrance.self,
            parts: [SharedLinks.self],
            issuesSessions: true
        ),
        Row(
            kind: .sse,
            isolation: .session,
            name: "sse",
            entrance: OwnLinkEntrance.self,
            parts: [SharedLinks.self],
            issuesSessions: true
        ),
        Row(
            kind: .sse,
            isolation: .shared,
            name: "sse",
            entrance: SharedLinkEntrance.self,
            parts: [SharedLinks.self],
            issuesSessions: true
        ),
        Row(
            kind: .streamableHTTP,
            isolation: .session,
            name: "streamable-http",
            entrance: HTTPEntrance.self,
            parts: [UpstreamSupervisor.self]
        ),
        Row(
            kind: .streamableHTTP,
            isolation: .shared,
            name: "streamable-http",
            entrance: SharedSessionEntrance.self,
            parts: [UpstreamSupervisor.self, SharedSessions.self]
        ),
        Row(
            kind: .detect,
            isolation: .session,
            name: "unknown",
            entrance: nil,
            parts: [UpstreamSupervisor.self, SharedLinks.self]
        ),
        Row(
            kind: .detect,
            isolation: .shared,
            name: "unknown",
            entrance: nil,
            parts: [UpstreamSupervisor.self, SharedSessions.self, SharedLinks.self]
        ),
    ]

    private static func unit(
        _ kind: HTTPUpstreamConfiguration.Kind?,
        _ isolation: UpstreamConfiguration.Isolation = .session
    ) throws -> Upstream {
        var configuration = Upstream.untouchedConfiguration()
        configuration.isolation = isolation
        if let kind {
            let url = try #require(HTTPURL("http://gateway.example/mcp"))
            configuration.transport = .http(HTTPUpstreamConfiguration(kind: kind, url: url, proxy: .direct))
        }
        let loop = LoopResources(eventLoop: EmbeddedEventLoop())
        return try .untouched(on: loop, buffers: BufferLedger(total: Gauge(), limit: .max), configuration)
    }

    private static func isOf(_ type: (any Entrance.Type)?, _ entrance: (any Entrance)?) -> Bool {
        guard let type, let entrance else { return type == nil && entrance == nil }
        return Swift.type(of: entrance) == type
    }

    @Test("What callers come in by, and what belongs to the unit, goes by its kind", arguments: Self.rows)
    func chosen(_ row: Row) throws {
        let upstream = try Self.unit(row.kind, row.isolation)
        #expect(Self.isOf(row.entrance, upstream.entrance))
        let parts = upstream.parts.withLock { $0 }.map { ObjectIdentifier(type(of: $0)) }
        #expect(parts == row.parts.map { ObjectIdentifier($0) })
        #expect(upstream.transportName == row.name)
        #expect(upstream.eras.issuesSessions == row.issuesSessions)
        #expect((upstream.http == nil) == (row.kind == nil))
        upstream.letGoOfParts()
    }

    @Test("A server whose transport nobody knows has the entrance of the one that is found")
    func found() throws {
        let stream = try Self.unit(.detect)
        stream.foundTransport(isEventStream: true)
        #expect(Self.isOf(OwnLinkEntrance.self, stream.entrance) && stream.eras.issuesSessions == true)
        let exchanges = try Self.unit(.detect, .shared)
        exchanges.foundTransport(isEventStream: false)
        #expect(Self.isOf(SharedSessionEntrance.self, exchanges.entrance) && exchanges.eras.issuesSessions == nil)
        for upstream in [stream, exchanges] { upstream.letGoOfParts() }
    }

    @Test("A unit that let go of its links has no way in")
    func letGo() throws {
        let upstream = try Self.unit(nil)
        upstream.letGoOfParts()
        #expect(upstream.entrance == nil && upstream.sharedLinks == nil && upstream.watch == nil)
    }

    @Test("A caller whose server issued an id has sessions of its own, and any other has none")
    func legs() throws {
        let upstream = try Self.unit(.streamableHTTP)
        let http = try #require(upstream.http)
        let origin = SessionOrigin(revision: nil, initialize: ByteBuffer(), forwarded: [])
        let sessions = HTTPUpstreamSessions(id: "one", home: .none, http, origin: origin)
        let own = UpstreamKinds.leg(upstream, http, sessions)
        #expect(own is OwnSessionLeg && own.ownStream?.sessions === sessions)
        #expect(own.upstreamSession(in: .none)?.id == "one")
        let bare = UpstreamKinds.leg(upstream, http, nil)
        #expect(bare is NoSessionLeg && bare.ownStream?.http === http && bare.ownStream?.sessions == nil)
        #expect(bare.upstreamSession(in: .none) == nil)
        let ends = Gauge()
        bare.end(on: upstream.home, timeout: .seconds(1)) { ends.add(1) }
        #expect(ends.value == 1)
        upstream.letGoOfParts()
    }
}
