// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
package import GatewayWire

/// Everything that callers can address, and who may ask at all: one immutable table.
///
/// Every event loop has it at hand (``LoopResources/endpoints``). A request takes it once, when its head is there, and is
/// finished with what it found then, whatever the table says by its end.
package final class Endpoints: Sendable {
    /// What a path of the gateway leads to (contract §3).
    package enum Destination: Sendable {
        /// Streamable HTTP.
        case mcp(Endpoint)
        /// The stream of the 2024-11-05 transport.
        case sse(Endpoint)
        /// The messages of the 2024-11-05 transport.
        case message(Endpoint)
        case health
        case readiness
        case metrics
        case status

        /// What a caller of MCP addresses; nil for what operators ask.
        package var endpoint: Endpoint? {
            switch self {
            case .mcp(let endpoint), .sse(let endpoint), .message(let endpoint): endpoint
            case .health, .readiness, .metrics, .status: nil
            }
        }
    }

    /// As whom the gateway listens.
    package let listener: ListenerConfiguration
    /// In the order of the configuration.
    package let all: [Endpoint]
    /// Which `Host` and `Origin` are served.
    package let requestGuard: RequestGuard
    /// Who may see metrics and status; empty: this machine.
    package let statusTokens: InboundTokens
    /// Whether calls of any server are logged.
    let isAnyLogEnabled: Bool
    private let routes: RouteTable

    /// - Throws: `RouteTable.Collision` if two endpoints would have the same path.
    package init(_ listener: ListenerConfiguration, _ endpoints: [Endpoint]) throws(RouteTable.Collision) {
        self.listener = listener
        self.all = endpoints
        self.requestGuard = RequestGuard(
            baseOrigin: listener.baseOrigin,
            allowedHosts: listener.allowedHosts,
            allowedOrigins: listener.allowedOrigins
        )
        self.statusTokens = InboundTokens(listener.statusTokens)
        self.isAnyLogEnabled = endpoints.contains(where: \.isLogEnabled)
        self.routes = try RouteTable(
            basePath: listener.basePath,
            // Where an endpoint stands in `all`, which nobody else gets to know.
            servers: endpoints.enumerated().map { ($0.offset, $0.element.route) }
        )
    }

    private init(_ table: Endpoints, _ endpoints: [Endpoint]) {
        self.listener = table.listener
        self.all = endpoints
        self.requestGuard = table.requestGuard
        self.statusTokens = table.statusTokens
        self.isAnyLogEnabled = table.isAnyLogEnabled
        self.routes = table.routes
    }

    /// The same table with another upstream for one endpoint.
    func leading(_ id: EndpointID, to upstream: Upstream) -> Endpoints {
        Endpoints(self, self.all.map { $0.id == id ? $0.served(by: upstream) : $0 })
    }

    /// Where a path leads as it stands in a request target, without the query; nil: nowhere.
    package func destination(_ path: Span<UInt8>) -> Destination? {
        switch self.routes.route(path) {
        case .mcp(let place): .mcp(self.all[place])
        case .sse(let place): .sse(self.all[place])
        case .message(let place): .message(self.all[place])
        case .health: .health
        case .readiness: .readiness
        case .metrics: .metrics
        case .status: .status
        case nil: nil
        }
    }
}
