// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayTransport
import Logging
import Synchronization

/// The one place that chooses by the kind of an upstream: how it is reached, what belongs to it, and how callers come to it
/// (docs/decisions/0042-legs.md).
enum UpstreamKinds {
    // MARK: Upstreams

    /// Makes the unit of a server, with what belongs to it.
    ///
    /// - Throws: what reading the certificates of the server throws.
    static func makeUpstream(
        _ configuration: UpstreamConfiguration,
        in surroundings: UpstreamSurroundings,
        gates: inout OutboundProxyGates
    ) throws -> Upstream {
        switch configuration.transport {
        case .stdio(let child):
            let upstream = Upstream(configuration, Upstream.Way(route: .stream), in: surroundings)
            let kind = ChildLink(configuration: child, access: surroundings.stdio)
            upstream.parts.withLock { $0 = [SharedLinks(upstream, kind, opensAtStart: true)] }
            return upstream
        case .http(let server):
            let http = try Self.access(server, configuration.name, in: surroundings, gates: &gates)
            var way = Upstream.Way(http: http, route: Self.route(of: server))
            // The transport of 2024-11-05 has nothing of the stateless era.
            if way.route == .stream { (way.eras.handshake, way.eras.stateless) = (true, false) }
            let upstream = Upstream(configuration, way, in: surroundings)
            upstream.parts.withLock { $0 = Self.parts(of: upstream, http) }
            return upstream
        }
    }

    private static func access(
        _ server: HTTPUpstreamConfiguration,
        _ name: String,
        in surroundings: UpstreamSurroundings,
        gates: inout OutboundProxyGates
    ) throws -> HTTPAccess {
        let (metrics, logger) = (surroundings.metrics, surroundings.logger)
        return try HTTPAccess(
            server,
            upstream: name,
            proxy: server.outboundProxy.map { proxy in
                (OutboundProxyHealth(proxy, upstream: name, metrics: metrics, logger: logger), gates.gate(of: proxy))
            },
            listener: surroundings.listener,
            connector: surroundings.connector,
            metrics: metrics,
            redactor: surroundings.redactor,
            logger: logger
        )
    }

    private static func route(of server: HTTPUpstreamConfiguration) -> Upstream.Route {
        switch server.kind {
        case .streamableHTTP: .exchanges
        case .sse: .stream
        case .detect: .unknown
        }
    }

    /// What an HTTP server may need until it is known which transport it speaks.
    private static func parts(of upstream: Upstream, _ http: HTTPAccess) -> [any UpstreamPart] {
        var parts: [any UpstreamPart] = []
        let isStream = upstream.route == .stream
        if !isStream {
            parts.append(UpstreamSupervisor(upstream, http, on: upstream.home))
            if upstream.isShared { parts.append(SharedSessions(upstream, http, home: upstream.home)) }
        }
        if upstream.route != .exchanges {
            parts.append(SharedLinks(upstream, EventStreamLink(http: http), opensAtStart: isStream))
        }
        return parts
    }

    // MARK: Callers

    /// How callers come to an upstream; nil while nobody knows how messages travel there, and when it is over.
    static func entrance(of upstream: Upstream) -> (any Entrance)? {
        switch upstream.route {
        case .unknown:
            return nil
        case .exchanges:
            guard let http = upstream.http else { return nil }
            guard upstream.isShared else { return HTTPEntrance(http: http) }
            return SharedSessionEntrance(upstream: upstream, http: http)
        case .stream:
            guard let links = upstream.sharedLinks else { return nil }
            guard upstream.isShared else { return OwnLinkEntrance(upstream: upstream, links: links) }
            return SharedLinkEntrance(upstream: upstream, links: links)
        }
    }

    /// What carries the messages of a session whose `initialize` an upstream answered, which issued an id with that, or did not.
    static func leg(_ upstream: Upstream, _ http: HTTPAccess, _ sessions: HTTPUpstreamSessions?) -> any Leg {
        sessions.map { OwnSessionLeg(upstream, http, $0) } ?? NoSessionLeg(http)
    }

    /// The stream of an upstream that is in no session; nil where nothing comes that way.
    ///
    /// A server of which nobody knows its transport is asked as one of streamable HTTP: only that has such streams.
    static func streamWithoutSession(of upstream: Upstream) -> OwnStream? {
        upstream.http.map { OwnStream(http: $0, sessions: nil) }
    }
}

extension Upstream {
    /// How callers come to it; nil while nobody knows how messages travel there, and when it is over.
    var entrance: (any Entrance)? { UpstreamKinds.entrance(of: self) }
}
