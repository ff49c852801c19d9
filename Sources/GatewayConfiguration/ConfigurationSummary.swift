// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
import GatewayPolicy
import GatewayWire

/// What was understood of a configuration, as text for `check`.
///
/// Secrets are `•••`, arguments of children are counted and not shown.
package struct ConfigurationSummary: Sendable {
    package let snapshot: GatewaySnapshot
    /// What is said of the outbound proxy of each upstream, in order; the environment itself is not kept.
    private let proxies: [String]

    /// `environment` as in the load that gave the snapshot: it decides about outbound proxies.
    package init(_ snapshot: GatewaySnapshot, environment: [String: String]) {
        self.snapshot = snapshot
        self.proxies = snapshot.upstreams.map { upstream in
            guard case .http(let http) = upstream.transport else { return "none" }
            return Self.outboundProxy(of: http, environment: environment)
        }
    }

    /// Lines of text with a newline at the end.
    package var text: String {
        var lines = self.listener
        if self.snapshot.upstreams.isEmpty { lines.append("no servers") }
        for (upstream, proxy) in zip(self.snapshot.upstreams, self.proxies) {
            lines += self.describe(upstream, proxy: proxy)
        }
        return lines.map { $0 + "\n" }.joined()
    }

    // MARK: The gateway

    private var listener: [String] {
        let listener = self.snapshot.listener
        let address = listener.address
        let host = address.host.map { $0.contains(":") ? "[\($0)]" : $0 } ?? ""
        var lines = [
            "gateway \(Self.shown(listener.name)) \(Self.shown(listener.version))",
            "  listens on: \(host):\(address.port)\(address.isLoopback ? "" : " (other machines can connect)")",
            "  base URL: \(listener.baseOrigin)\(listener.basePath)",
            "  advertises: \(listener.advertisedTransport.rawValue)",
            "  /metrics and /_status: \(Self.tokens(listener.statusTokens, none: "loopback only"))",
        ]
        if listener.startupGracePeriod != .seconds(30) {
            lines.append("  startup grace period: \(Self.orOff(listener.startupGracePeriod))")
        }
        if listener.drainTimeout != .seconds(600) {
            lines.append("  drain timeout: \(Self.orOff(listener.drainTimeout))")
        }
        if !listener.allowedOrigins.isEmpty {
            lines.append("  allowed origins: \(listener.allowedOrigins.map(\.description).joined(separator: ", "))")
        }
        if !listener.allowedHosts.isEmpty {
            lines.append("  allowed hosts: \(listener.allowedHosts.map(\.authority).joined(separator: ", "))")
        }
        let limits = listener.limits.differences
        lines.append("  limits: \(limits.isEmpty ? "defaults" : limits.joined(separator: ", "))")
        return lines
    }

    // MARK: Servers

    private func describe(_ upstream: UpstreamConfiguration, proxy: String) -> [String] {
        let state = upstream.isRefused ? " (refused)" : upstream.isDisabled ? " (disabled)" : ""
        var lines = [
            "server \(Self.shown(upstream.name))\(state)",
            "  route: \(self.snapshot.listener.basePath)/\(upstream.route)",
        ]
        switch upstream.transport {
        case .http(let http): lines += self.describe(http, proxy: proxy)
        case .stdio(let stdio): lines += self.describe(stdio)
        }
        lines += [
            "  era: \(upstream.protocolPin == .auto ? "found out" : upstream.protocolPin.rawValue)",
            "  callers: \(Self.tokens(upstream.inboundTokens, none: "anybody"))",
            "  isolation: \(upstream.isolation.rawValue)",
            "  timeout: \(DurationText.describe(upstream.timeout))",
            "  probe: \(upstream.pingInterval.map { "after \(DurationText.describe($0)) of silence" } ?? "off")",
            "  recovery: \(upstream.autoReconnect ? "every \(DurationText.describe(upstream.reconnectInterval))" : "off")",
        ]
        if let filter = upstream.toolFilter {
            let patterns = filter.patternCount == 0 ? "" : " (\(filter.patternCount) of \(filter.entries.count) with *)"
            lines.append("  tools: \(filter.mode.rawValue) \(Self.list(filter.entries, none: "none"))\(patterns)")
        }
        if !upstream.forwardHeaders.isEmpty {
            lines.append("  forwarded headers: \(upstream.forwardHeaders.joined(separator: ", "))")
        }
        if upstream.panicIfInvalid { lines.append("  the start fails without it") }
        if upstream.isLogEnabled { lines.append("  calls are logged") }
        return lines
    }

    private func describe(_ http: HTTPUpstreamConfiguration, proxy: String) -> [String] {
        var lines = [
            "  transport: \(http.kind == .detect ? "found out (url)" : http.kind.rawValue)",
            "  url: \(Self.shown(http.url))",
        ]
        if !http.headers.isEmpty {
            lines.append("  headers: \(http.headers.map { "\($0.name)=\($0.value)" }.joined(separator: ", "))")
        }
        if let pool = http.credentials {
            let statuses = pool.retryOn.sorted().map(String.init).joined(separator: ", ")
            lines.append(
                "  credentials: \(Self.tokens(pool.tokens, none: "none")), \(pool.mode.rawValue),"
                    + " attempts \(pool.attemptLimit), on \(statuses), affinity \(pool.affinity.rawValue)"
            )
        } else {
            lines.append("  credentials: none")
        }
        lines.append("  proxy: \(proxy)")
        if http.url.origin.scheme == .https { lines.append("  tls: \(Self.shown(http.tls))") }
        return lines
    }

    private func describe(_ stdio: StdioUpstreamConfiguration) -> [String] {
        let inherited: String
        switch stdio.inherited {
        case .allowList: inherited = "the fixed list"
        case .all: inherited = "everything"
        case .named(let names): inherited = "the fixed list and \(Self.list(names, none: "nothing"))"
        }
        var lines = [
            "  transport: stdio",
            "  command: \(Self.shown(stdio.command)) and \(stdio.arguments.count) arguments",
            "  inherits: \(inherited)",
        ]
        if !stdio.environment.isEmpty {
            let variables = stdio.environment.map { "\(Self.escaped($0.name))=\($0.value)" }
            lines.append("  env: \(variables.joined(separator: ", "))")
        }
        if let directory = stdio.workingDirectory { lines.append("  cwd: \(Self.shown(directory))") }
        return lines
    }
}
