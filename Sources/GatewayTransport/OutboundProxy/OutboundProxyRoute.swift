// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
import GatewayPolicy
package import GatewayWire
import NIOCore
import NIOSSL
import Synchronization

/// How one upstream is reached through an outbound proxy: the proxy, what is known of it, and how it is spoken to.
package final class OutboundProxyRoute: Sendable {
    /// Told of each way that the proxy gave (nil), and of each failure.
    package typealias Observer = @Sendable (TransportError?) -> Void

    /// How long a proxy that refuses tunnels is handed the requests themselves (contract §2, `proxy.tunnel`).
    private static let forwardingTime = TimeAmount.minutes(10)

    let proxy: OutboundProxy
    let gate: OutboundProxyGate
    let tls: NIOSSLContext?
    /// `host:port` of the upstream.
    let target: String
    /// The user agent of CONNECT.
    let agent: String
    private let upstream: String?
    /// Whether the proxy may be handed the requests themselves.
    package let mayForward: Bool
    private let observer: Observer
    /// Until when requests are forwarded, and the status with which the proxy refused the tunnel; nil if that answer was
    /// marked as the proxy's own.
    private let forwarding = Mutex<(until: NIODeadline, refusal: Int?)>((.uptimeNanoseconds(0), nil))

    /// Reads the certificates that the `tls` of the proxy names.
    ///
    /// `upstream` is the name of the server, for messages; nil where there is none.
    ///
    /// - Throws: ``TLSFileError`` if a file cannot be used.
    package init(
        _ proxy: OutboundProxy,
        to origin: WebOrigin,
        gate: OutboundProxyGate,
        upstream: String?,
        agent: String = "mcp-proxy",
        observer: @escaping Observer = { _ in }
    ) throws(TLSFileError) {
        self.proxy = proxy
        self.gate = gate
        self.target = origin.hostPort.authority
        self.upstream = upstream
        self.agent = agent
        self.observer = observer
        self.mayForward = origin.scheme == .http && !proxy.kind.isSOCKS
        self.tls = proxy.kind == .https ? try NIOSSLContext.gateway(.gateway(proxy.tls), of: proxy.tls) : nil
    }

    var hasLogin: Bool { self.proxy.username != nil }

    /// Whether the login was rejected a moment ago.
    var isBlocked: Bool { self.hasLogin && self.gate.isBlocked }

    // MARK: Forwarding

    /// Whether requests are handed to the proxy instead of going through a tunnel.
    var isForwarding: Bool {
        guard self.mayForward else { return false }
        return switch self.proxy.tunnel {
        case .never: true
        case .always: false
        case .auto: self.forwarding.withLock { $0.until > .now() }
        }
    }

    /// Whether requests are forwarded from now on, since the proxy gave no tunnel; remembers it.
    func forwards(after error: OutboundProxyError) -> Bool {
        guard self.mayForward, self.proxy.tunnel == .auto, error.allowsForwarding else { return false }
        self.forwarding.withLock { $0 = (.now() + Self.forwardingTime, error.isMarked ? nil : error.status) }
        return true
    }

    /// Looks at the head of an answer to a forwarded request: a failure if the proxy answered in place of the upstream.
    ///
    /// `dial` is what set the connection up, for the first answer on it.
    func judge(_ connection: UpstreamConnection, of dial: ProxyDial?) -> TransportError? {
        let error = self.proxyError(in: connection)
        let outcome = error.map { OutboundProxyAdmission.Outcome($0) } ?? .accepted
        if let dial { dial.settle(outcome) } else if error != nil { self.gate.learn(outcome) }
        if let error { return self.failed(error) }
        if dial != nil { self.succeeded() }
        return nil
    }

    private func proxyError(in connection: UpstreamConnection) -> OutboundProxyError? {
        guard var answer = ForwardedAnswer(status: connection.response.status) else { return nil }
        let bytes = connection.responseBytes
        for field in connection.response.fields {
            guard let name = field.lowercasedName(in: bytes), let value = field.value(in: bytes) else { continue }
            answer.read(name, value)
        }
        return answer.proxyError(
            target: self.target,
            hasCredentials: self.hasLogin,
            refusedTunnel: self.proxy.tunnel == .auto ? self.forwarding.withLock { $0.refusal } : nil
        )
    }

    // MARK: Failures

    /// The failure that those hear who wanted a connection.
    func failure(_ error: OutboundProxyError) -> TransportError {
        TransportError(outboundProxy: error, self.text(error))
    }

    /// The same for a failure that has just happened: the observer is told.
    func failed(_ error: OutboundProxyError) -> TransportError {
        let failure = self.failure(error)
        self.observer(failure)
        return failure
    }

    /// The proxy gave a way to the upstream.
    func succeeded() { self.observer(nil) }

    /// The message for people: which server and proxy, what happened, and which setting to change (credentials §3.5).
    private func text(_ error: OutboundProxyError) -> String {
        let server = self.upstream.map { "upstream \"\($0)\": " } ?? ""
        let kind = self.proxy.kind.isSOCKS ? "SOCKS5 proxy" : "proxy"
        let target = error.event.contains(self.target) ? "" : " (for \(self.target))"
        let end = error.event.hasSuffix("?") ? "" : "."
        return "\(server)\(kind) \(self.proxy)\(target) \(error.event)\(end) Check \(self.proxy.setting)."
    }
}
