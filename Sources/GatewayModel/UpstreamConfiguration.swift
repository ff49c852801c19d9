// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayPolicy
package import GatewayWire

/// One entry of `mcpServers`, with inherited options filled in (contract §2).
package struct UpstreamConfiguration: Sendable {
    /// How the upstream is reached.
    package enum Transport: Sendable {
        case http(HTTPUpstreamConfiguration)
        case stdio(StdioUpstreamConfiguration)
    }

    /// `protocol`: which era the upstream is spoken to in.
    package enum ProtocolPin: String, Sendable {
        /// Found out by a probe.
        case auto
        case handshake
        case stateless
    }

    /// `options.isolation`: who shares an upstream session.
    package enum Isolation: String, Sendable {
        case session
        case shared
    }

    /// The key in `mcpServers`.
    package var name: String
    /// The route under `basePath` without slashes at its ends; non-ASCII percent-encoded.
    package var route: String
    package var transport: Transport
    /// How long one upstream request may take, all its attempts together.
    package var timeout: Duration
    package var protocolPin: ProtocolPin
    /// Whether it is neither started nor routed, because the configuration says so or because it was refused.
    package var isDisabled: Bool
    /// Whether it was refused for something that is not built (`oauth`); such a server is disabled as well.
    package var isRefused: Bool
    /// Whether the start fails if this upstream cannot be initialised.
    package var panicIfInvalid: Bool
    /// Whether calls are written to the access log.
    package var isLogEnabled: Bool
    /// Tokens that callers must present; empty: open.
    package var inboundTokens: [Secret]
    package var toolFilter: ToolFilter?
    /// How long an upstream may be idle before it is probed; nil: never.
    package var pingInterval: Duration?
    package var autoReconnect: Bool
    package var reconnectInterval: Duration
    /// Lower-case names of callers' request headers that are passed on.
    package var forwardHeaders: [String]
    package var isolation: Isolation

    package init(
        name: String,
        route: String,
        transport: Transport,
        timeout: Duration = .seconds(300),
        protocolPin: ProtocolPin = .auto,
        isDisabled: Bool = false,
        isRefused: Bool = false,
        panicIfInvalid: Bool = false,
        isLogEnabled: Bool = false,
        inboundTokens: [Secret] = [],
        toolFilter: ToolFilter? = nil,
        pingInterval: Duration? = .seconds(30),
        autoReconnect: Bool = true,
        reconnectInterval: Duration = .seconds(15),
        forwardHeaders: [String] = [],
        isolation: Isolation = .session
    ) {
        self.name = name
        self.route = route
        self.transport = transport
        self.timeout = timeout
        self.protocolPin = protocolPin
        self.isDisabled = isDisabled
        self.isRefused = isRefused
        self.panicIfInvalid = panicIfInvalid
        self.isLogEnabled = isLogEnabled
        self.inboundTokens = inboundTokens
        self.toolFilter = toolFilter
        self.pingInterval = pingInterval
        self.autoReconnect = autoReconnect
        self.reconnectInterval = reconnectInterval
        self.forwardHeaders = forwardHeaders
        self.isolation = isolation
    }
}

/// An upstream reached by `url`.
package struct HTTPUpstreamConfiguration: Sendable {
    /// Which of the two HTTP transports is spoken.
    package enum Kind: String, Sendable {
        case streamableHTTP = "streamable-http"
        case sse
        /// `transportType` absent: found out when first dialled.
        case detect
    }

    /// One header of the configuration.
    package struct Header: Sendable {
        package var name: String
        package var value: Secret

        package init(name: String, value: Secret) {
            self.name = name
            self.value = value
        }
    }

    package var kind: Kind
    package var url: HTTPURL
    package var headers: [Header]
    package var tls: TLSClientConfiguration
    /// The pool of tokens for this upstream; nil: none.
    package var credentials: CredentialPoolConfiguration?
    /// What `options.proxy` says.
    package var proxy: OutboundProxyConfiguration
    /// The proxy that it is reached through, by `proxy` and the environment at the start; nil: none.
    package var outboundProxy: OutboundProxy?

    package init(
        kind: Kind,
        url: HTTPURL,
        headers: [Header] = [],
        tls: TLSClientConfiguration = TLSClientConfiguration(),
        credentials: CredentialPoolConfiguration? = nil,
        proxy: OutboundProxyConfiguration = .environment,
        outboundProxy: OutboundProxy? = nil
    ) {
        self.kind = kind
        self.url = url
        self.headers = headers
        self.tls = tls
        self.credentials = credentials
        self.proxy = proxy
        self.outboundProxy = outboundProxy
    }
}

/// Whatever prints it, for a log line or a failed test, shows where the URL leads and not its query.
extension HTTPUpstreamConfiguration: CustomReflectable {
    package var customMirror: Mirror {
        Mirror(
            self,
            children: [
                "kind": self.kind, "origin": self.url.origin, "headers": self.headers, "tls": self.tls,
                "credentials": self.credentials as Any, "proxy": self.proxy,
                "outboundProxy": self.outboundProxy as Any,
            ],
            displayStyle: .struct
        )
    }
}

/// `tls`: how a TLS peer is verified and who we say we are.
package struct TLSClientConfiguration: Hashable, Sendable {
    /// PEM file of authorities, added to the system's.
    package var caFile: String?
    /// PEM files of our certificate chain and its key; both or none.
    package var certFile: String?
    package var keyFile: String?
    /// Whether nothing is verified.
    package var isInsecure: Bool

    package init(caFile: String? = nil, certFile: String? = nil, keyFile: String? = nil, isInsecure: Bool = false) {
        self.caFile = caFile
        self.certFile = certFile
        self.keyFile = keyFile
        self.isInsecure = isInsecure
    }
}

/// `options.auth`: several bearer tokens for one upstream.
package struct CredentialPoolConfiguration: Sendable {
    package typealias RotationMode = CredentialPool.Mode

    package enum Affinity: String, Sendable {
        case request
        case session
    }

    /// One per slot, in the order of the file.
    package var tokens: [Secret]
    /// What people call each of them, in the same order; nil, or beyond the end: nothing.
    package var names: [String?]
    package var mode: RotationMode
    /// Attempts that one request may make, 1...tokens.count.
    package var attemptLimit: Int
    /// Statuses that move the pool, a subset of 401 and 403.
    package var retryOn: Set<Int>
    package var affinity: Affinity

    package init(
        tokens: [Secret],
        names: [String?] = [],
        mode: RotationMode,
        attemptLimit: Int,
        retryOn: Set<Int>,
        affinity: Affinity
    ) {
        self.tokens = tokens
        self.names = names
        self.mode = mode
        self.attemptLimit = attemptLimit
        self.retryOn = retryOn
        self.affinity = affinity
    }

    /// What a request may do when it is refused.
    package var rules: CredentialAttempts.Rules {
        CredentialAttempts.Rules(mode: self.mode, attemptLimit: self.attemptLimit, retryOn: self.retryOn)
    }
}

/// An upstream that is a child process.
package struct StdioUpstreamConfiguration: Sendable {
    /// Which of our environment variables the child gets besides the allow-list.
    package enum InheritedEnvironment: Sendable {
        case allowList
        case all
        /// Names, or prefixes that end in `*`.
        case named([String])
    }

    package var command: String
    package var arguments: [String]
    package var environment: [(name: String, value: Secret)]
    package var workingDirectory: String?
    package var inherited: InheritedEnvironment

    package init(
        command: String,
        arguments: [String],
        environment: [(name: String, value: Secret)],
        workingDirectory: String?,
        inherited: InheritedEnvironment
    ) {
        self.command = command
        self.arguments = arguments
        self.environment = environment
        self.workingDirectory = workingDirectory
        self.inherited = inherited
    }
}

extension UpstreamConfiguration {
    /// The pool of credentials of an HTTP server; nil without one.
    package var credentials: CredentialPoolConfiguration? {
        if case .http(let http) = self.transport { http.credentials } else { nil }
    }
}
