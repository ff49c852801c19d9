// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayWire

/// One whole configuration that agrees with itself: what the process runs with until the next reload.
package struct GatewaySnapshot: Sendable {
    package var listener: ListenerConfiguration
    /// In the order of the file, disabled ones included.
    package var upstreams: [UpstreamConfiguration]
    /// What `${file:PATH}` gave, wherever it stands: for the redactor only.
    package var secretsFromFiles: [Secret]

    package init(
        listener: ListenerConfiguration,
        upstreams: [UpstreamConfiguration],
        secretsFromFiles: [Secret] = []
    ) {
        self.listener = listener
        self.upstreams = upstreams
        self.secretsFromFiles = secretsFromFiles
    }
}

/// Where and as whom the gateway listens: `mcpProxy` (contract §2).
package struct ListenerConfiguration: Sendable {
    /// The transport whose URL is advertised in logs and status; all are served.
    package enum AdvertisedTransport: String, Sendable {
        case sse
        case streamableHTTP = "streamable-http"
    }

    /// The origin of `baseURL`.
    package var baseOrigin: WebOrigin
    /// The path of `baseURL`, undecoded, without a trailing slash; empty at the root.
    package var basePath: String
    package var address: ListenAddress
    package var name: String
    package var version: String
    package var advertisedTransport: AdvertisedTransport
    /// How long readiness may say `initializing`.
    package var startupGracePeriod: Duration
    /// How long what a reload replaced or removed may go on with what it has; zero: not at all.
    package var drainTimeout: Duration
    /// Additions to the Origin check.
    package var allowedOrigins: [AllowedOrigin]
    /// Additions to the Host check; an entry without a port admits every port.
    package var allowedHosts: [HostPort]
    package var limits: Limits
    /// Any of these opens `/metrics` and `/_status`; empty: loopback only.
    ///
    /// From `mcpProxy.options.authTokens`.
    package var statusTokens: [Secret]

    package init(
        baseOrigin: WebOrigin,
        basePath: String,
        address: ListenAddress,
        name: String,
        version: String,
        advertisedTransport: AdvertisedTransport = .sse,
        startupGracePeriod: Duration = .seconds(30),
        drainTimeout: Duration = .seconds(600),
        allowedOrigins: [AllowedOrigin] = [],
        allowedHosts: [HostPort] = [],
        limits: Limits = Limits(),
        statusTokens: [Secret] = []
    ) {
        self.baseOrigin = baseOrigin
        self.basePath = basePath
        self.address = address
        self.name = name
        self.version = version
        self.advertisedTransport = advertisedTransport
        self.startupGracePeriod = startupGracePeriod
        self.drainTimeout = drainTimeout
        self.allowedOrigins = allowedOrigins
        self.allowedHosts = allowedHosts
        self.limits = limits
        self.statusTokens = statusTokens
    }
}

/// The address to bind: `:9090`, `host:port`, `[::1]:9090`.
package struct ListenAddress: Hashable, Sendable {
    /// A name or an IP literal without brackets; nil: every interface.
    package var host: String?
    /// 0 lets the system choose.
    package var port: Int

    package init(host: String?, port: Int) {
        self.host = host
        self.port = port
    }
}
