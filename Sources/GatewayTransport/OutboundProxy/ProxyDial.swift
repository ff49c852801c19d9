// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewayWire
import NIOCore
import NIOPosix
import NIOSSL

/// Sets up one connection to an upstream through its outbound proxy.
///
/// In this order: a place at the gate of the proxy, the addresses of the upstream where the proxy wants those, TCP to the
/// proxy, TLS with it, the tunnel; then the connection gets the channel, and TLS with the upstream if that is https. A
/// proxy that refuses the tunnel may be asked again, for another address or to forward requests. All of it has the time
/// that one dial has; the pool ends it when that is over. Confined to its event loop.
final class ProxyDial {
    private let dialer: Dialer
    private let route: OutboundProxyRoute
    private let eventLoop: any EventLoop
    private var connection: UpstreamConnection?
    private var channel: (any Channel)?
    /// Whether there is a place at the gate to give back.
    private var isEntered = false
    private var isForwarding = false
    /// What a SOCKS proxy is asked for next, the last first.
    private var addresses: [SOCKSHandshake.Address] = []

    init(_ dialer: Dialer, _ route: OutboundProxyRoute, on eventLoop: any EventLoop, for connection: UpstreamConnection)
    {
        self.dialer = dialer
        self.route = route
        self.eventLoop = eventLoop
        self.connection = connection
    }

    private var isOver: Bool { self.connection == nil }

    func start() {
        self.isForwarding = self.route.isForwarding
        let dial = NIOLoopBound(self, eventLoop: self.eventLoop)
        self.route.gate.enter(on: self.eventLoop, showsLogin: !self.isForwarding) { refusal in
            dial.value.entered(refusal)
        }
    }

    /// The connection is not wanted any more.
    func cancel() {
        self.connection = nil
        self.channel?.close(promise: nil)
        self.leave(.neutral)
    }

    /// The time for the connection is over; returns what is to be told.
    func timedOut() -> TransportError {
        let error = OutboundProxyError(
            .connectTimeout,
            self.channel == nil
                ? "gave no connection within the connect timeout"
                : "gave no way to \(self.route.target) within the connect timeout"
        )
        self.leave(.failed)
        return self.route.failed(error)
    }

    private func leave(_ outcome: OutboundProxyAdmission.Outcome) {
        guard self.isEntered else { return }
        self.isEntered = false
        self.route.gate.leave(outcome)
    }

    private func entered(_ refusal: Duration?) {
        if let refusal {
            let seconds = Int(refusal.components.seconds) + 1
            return self.fail(
                OutboundProxyError(
                    .authRejected,
                    "rejected the configured user a moment ago and is asked again in \(seconds) s",
                    retryAfterSeconds: seconds
                )
            )
        }
        self.isEntered = true
        guard !self.isOver else { return self.leave(.neutral) }
        guard self.route.proxy.kind == .socks5, TargetAddresses.literal(self.dialer.origin) == nil else {
            self.addresses = [TargetAddresses.literal(self.dialer.origin) ?? .name(self.dialer.origin.host)]
            return self.connect()
        }
        let dial = NIOLoopBound(self, eventLoop: self.eventLoop)
        TargetAddresses.resolve(self.dialer.origin.host, on: self.eventLoop)
            .whenComplete { result in
                dial.value.resolved((try? result.get()) ?? [])
            }
    }

    private func resolved(_ addresses: [SOCKSHandshake.Address]) {
        guard !self.isOver else { return }
        self.addresses = addresses.reversed()
        guard !addresses.isEmpty else {
            let text = "the name \(self.dialer.origin.host) has no address; with socks5h the proxy looks it up"
            return self.end(.neutral, TransportError(.resolve, text, progress: .nothing))
        }
        self.connect()
    }

    // MARK: The proxy

    private func connect() {
        let speech: ProxyHandshakeHandler.Speech
        do throws(OutboundProxyError) {
            speech = try self.speech()
        } catch {
            return self.fail(error)
        }
        let proxy = self.route.proxy
        let tls = self.route.tls
        // An IP literal is no server name (RFC 6066 §3).
        let isAddress = proxy.isIPv6Literal || (try? SocketAddress(ipAddress: proxy.host, port: 0)) != nil
        let dial = NIOLoopBound(self, eventLoop: self.eventLoop)
        let speeches = NIOLoopBound(speech, eventLoop: self.eventLoop)
        ClientBootstrap(group: self.eventLoop)
            .connectTimeout(self.dialer.timeout)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    if let tls {
                        let name = isAddress ? nil : proxy.host
                        try pipeline.addHandler(NIOSSLClientHandler(context: tls, serverHostname: name))
                    }
                    try pipeline.addHandler(
                        ProxyHandshakeHandler(dial.value, dial.value.route, speeches.value)
                    )
                }
            }
            .connect(host: proxy.host, port: proxy.port)
            .whenComplete { dial.value.connected($0) }
    }

    private func speech() throws(OutboundProxyError) -> ProxyHandshakeHandler.Speech {
        guard self.route.proxy.kind.isSOCKS else {
            guard !self.isForwarding else { return .forward }
            return .connect(ConnectHandshake(target: self.route.target, hasCredentials: self.route.hasLogin))
        }
        let address = self.addresses.popLast() ?? .name(self.dialer.origin.host)
        return .socks(
            try SOCKSHandshake(
                to: address,
                port: self.dialer.origin.port,
                target: self.route.target,
                hasCredentials: self.route.hasLogin
            )
        )
    }

    private func connected(_ result: Result<any Channel, any Error>) {
        switch result {
        case .success(let channel):
            guard !self.isOver else { return channel.close(promise: nil) }
            self.channel = channel
            guard let handler = try? channel.pipeline.syncOperations.handler(type: ProxyHandshakeHandler.self) else {
                return self.fail(.closed(hasSpoken: false))
            }
            handler.connected()
        case .failure(let error):
            self.fail(OutboundProxyError(connecting: error))
        }
    }

    // MARK: Ends

    /// The proxy gave no tunnel.
    func refused(_ error: OutboundProxyError) {
        guard !self.isOver else { return }
        self.channel = nil
        if error.concernsAddress, !self.addresses.isEmpty { return self.connect() }
        if self.route.forwards(after: error) {
            self.isForwarding = true
            return self.connect()
        }
        self.fail(error)
    }

    private func fail(_ error: OutboundProxyError) {
        // One that was told to stay away learnt nothing of the proxy.
        let failure = self.isEntered ? self.route.failed(error) : self.route.failure(error)
        self.end(OutboundProxyAdmission.Outcome(error.code), failure)
    }

    private func end(_ outcome: OutboundProxyAdmission.Outcome, _ failure: TransportError) {
        self.leave(outcome)
        self.channel?.close(promise: nil)
        guard let connection else { return }
        self.connection = nil
        // Never while somebody is still asking for the connection.
        let bound = NIOLoopBound(connection, eventLoop: self.eventLoop)
        self.eventLoop.execute { bound.value.dialFailed(failure) }
    }

    /// The channel leads to the upstream; false if nobody wants it any more.
    func established(_ context: ChannelHandlerContext, hasBytes: Bool) -> Bool {
        guard let connection else {
            context.close(promise: nil)
            return false
        }
        guard !hasBytes || self.dialer.tls != nil else {
            // Nobody asked the upstream for anything yet: whatever this is, it must not become an answer.
            context.close(promise: nil)
            let text = "sent bytes through the tunnel to \(self.route.target) that nobody asked for"
            self.fail(OutboundProxyError(.protocol, text, stage: .tunnel))
            return false
        }
        do {
            let pipeline = context.pipeline.syncOperations
            if let tls = self.dialer.tls {
                try pipeline.addHandler(NIOSSLClientHandler(context: tls, serverHostname: self.dialer.serverName))
            }
            try pipeline.addHandler(connection)
        } catch {
            context.close(promise: nil)
            self.fail(.closed(hasSpoken: true))
            return false
        }
        // A login that was not asked for yet is not accepted.
        self.leave(self.isForwarding ? .neutral : .accepted)
        connection.dialed(through: self.route, isForwarding: self.isForwarding, isTLS: self.dialer.tls != nil)
        return true
    }
}

extension OutboundProxyAdmission.Outcome {
    /// What an end of setting a connection up says about the login and the proxy.
    init(_ code: OutboundProxyError.Code) {
        self =
            switch code {
            case .authRejected: .rejected
            case .authRequired, .authUnsupported: .neutral
            case .tunnelDenied, .tunnelUpstreamUnreachable, .socksGeneral, .socksCommand, .socksAddressType,
                .socksUnassigned:
                .accepted
            case .resolve, .connectRefused, .connectTimeout, .connectUnreachable, .tls, .protocol: .failed
            }
    }
}

extension OutboundProxyError {
    /// Sorts what NIO says about a connection to the proxy that could not be made.
    init(connecting error: any Error) {
        switch TransportError(dialling: error).code {
        case .resolve: self.init(.resolve, "cannot be found: its name has no address")
        case .connectRefused: self.init(.connectRefused, "refused the connection")
        case .connectTimeout: self.init(.connectTimeout, "gave no connection within the connect timeout")
        case .tlsVerification, .tlsHandshake: self.init(.tls, "failed the TLS handshake")
        default: self.init(.connectUnreachable, "cannot be reached")
        }
    }
}
