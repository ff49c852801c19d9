// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
import Synchronization

/// Which endpoint: minted for a name when it is first served, and kept for as long as it is.
///
/// A name that was removed and comes back is another endpoint: what belonged to the one before does not belong to it.
package struct EndpointID: Hashable, Sendable {
    private static let minted = Atomic<UInt64>(0)

    private let number: UInt64

    package init() {
        self.number = Self.minted.add(1, ordering: .relaxed).newValue
    }
}

/// What callers address as `P/NAME`: its route, who may come in, and the upstream that works for it.
///
/// It never changes: a reload makes another one, with the same id if it is the same name.
package final class Endpoint: Sendable {
    package let id: EndpointID
    /// The key in `mcpServers`.
    package let name: String
    /// The route under `basePath`, without slashes at its ends.
    package let route: String
    /// Who may come in; empty: everybody.
    package let tokens: InboundTokens
    /// Whether calls are written to the access log.
    let isLogEnabled: Bool
    /// Its one member: who works for whoever begins something here.
    ///
    /// A session that began before a reload stays with the upstream that it began with, unless another one takes it over.
    package let upstream: Upstream

    package init(id: EndpointID, _ configuration: UpstreamConfiguration, upstream: Upstream) {
        self.id = id
        self.name = configuration.name
        self.route = configuration.route
        self.tokens = InboundTokens(configuration.inboundTokens)
        self.isLogEnabled = configuration.isLogEnabled
        self.upstream = upstream
    }

    private init(_ endpoint: Endpoint, upstream: Upstream) {
        self.id = endpoint.id
        self.name = endpoint.name
        self.route = endpoint.route
        self.tokens = endpoint.tokens
        self.isLogEnabled = endpoint.isLogEnabled
        self.upstream = upstream
    }

    /// The same endpoint with another upstream.
    func served(by upstream: Upstream) -> Endpoint { Endpoint(self, upstream: upstream) }

    /// Whether a caller who once came in here would not be let in now.
    func revokes(_ principal: Principal) -> Bool {
        principal.endpoint == self.id && !self.tokens.admit(principal.token)
    }
}
