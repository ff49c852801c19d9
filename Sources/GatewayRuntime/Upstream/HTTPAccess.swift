// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewayTransport
import GatewayWire
import Logging
import NIOCore
import Synchronization

/// How an HTTP upstream is reached.
package final class HTTPAccess: Sendable {
    package let configuration: HTTPUpstreamConfiguration
    /// The pool of credentials; nil without one.
    package let credentials: UpstreamCredentials?
    /// The outbound proxy that it is reached through; nil: none.
    package let proxy: OutboundProxyHealth?
    let dialer: Dialer
    /// Where messages go instead of the configured URL.
    let redirects = RedirectMemory()
    /// What requests carry without a pool: no credential of ours.
    private let bare: RequestCredential

    /// The credentials that there are, the current one first; without a pool the one that is none.
    var slots: [CredentialID] { self.credentials?.ids ?? [.none] }

    /// How many slots there are: one without a pool.
    var slotCount: Int { self.credentials?.count ?? 1 }

    init(
        _ configuration: HTTPUpstreamConfiguration,
        upstream: String,
        proxy: (health: OutboundProxyHealth, gate: OutboundProxyGate)?,
        listener: ListenerConfiguration,
        connector: any Connector,
        metrics: MetricsRegistry,
        redactor: CurrentRedactor,
        logger: Logger
    ) throws {
        let agent = RequestHeads.agent(of: listener)
        self.configuration = configuration
        self.proxy = proxy?.health
        let route = try proxy.map { health, gate in
            try OutboundProxyRoute(
                health.proxy,
                to: configuration.url.origin,
                gate: gate,
                upstream: health.upstream,
                agent: agent
            ) { health.observe($0) }
        }
        self.dialer = try Dialer(
            origin: configuration.url.origin,
            tls: configuration.tls,
            route: route,
            timeout: listener.limits.connectTimeout,
            connector: connector
        )
        let template = RequestHeads.Template(
            http: configuration,
            agent: agent,
            proxy: route?.mayForward == true ? proxy?.health.proxy : nil
        )
        self.bare = RequestCredential(token: nil, template, redactor: nil)
        self.credentials = configuration.credentials.map {
            UpstreamCredentials(
                $0,
                upstream: upstream,
                template: template,
                metrics: metrics,
                redactor: redactor,
                logger: logger
            )
        }
    }

    /// What a message of the gateway itself is sent with in a slot; nil for one that there is not, or no longer: no other
    /// credential stands in for it.
    func credential(_ slot: CredentialID) -> RequestCredential? {
        if let credentials { return credentials.credential(slot) }
        return slot == .none ? self.bare : nil
    }

    /// What the attempt of a request is sent with: what it took when the attempt began, whatever the list is now.
    func credential(of use: CredentialUse?) -> RequestCredential? {
        self.credentials == nil ? self.bare : use?.credential
    }

    /// Whether there is such a slot, still.
    func contains(_ slot: CredentialID) -> Bool { self.credentials?.contains(slot) ?? (slot == .none) }

    /// The number of a slot for people; nil without a pool, and for one that is gone.
    func position(of slot: CredentialID) -> Int? { self.credentials?.position(of: slot) }

    /// Starts a head with what all requests to the upstream carry, and a credential.
    ///
    /// `target` replaces the configured one; nil: that, or where it redirects to. `connection` is what the request goes on.
    /// Returns false, and writes nothing, without a credential, or where none may go on this connection.
    func begin(
        _ method: RequestHeads.Method,
        target: String? = nil,
        with credential: RequestCredential?,
        on connection: UpstreamConnection,
        into head: inout ByteBuffer
    ) -> Bool {
        guard let heads = credential?.heads(isForwarding: connection.isForwarding) else { return false }
        heads.begin(method, target: target ?? self.redirects.target, into: &head)
        return true
    }
}
