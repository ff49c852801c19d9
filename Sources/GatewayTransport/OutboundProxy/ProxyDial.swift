// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewayWire
import NIOCore
import NIOPosix
import NIOSSL

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// Sets up one connection to an upstream through its outbound proxy.
///
/// In this order: the addresses of the upstream where the proxy wants those, a place at the gate of the proxy, TCP to the
/// proxy, TLS with it, the tunnel; then the connection gets the channel, and TLS with the upstream if that is https. A
/// proxy that refuses the tunnel may be asked again, for another address or to forward requests. All of it has the time
/// that one dial has; the pool ends it when that is over. Confined to its event loop.
final class ProxyDial {
    /// How long a place is kept while the proxy, which was reached, looks for the upstream.
    private static let searchTime = TimeAmount.milliseconds(200)
    /// The same where the login is not proved yet, so that one connection alone may try it.
    private static let proofTime = TimeAmount.seconds(4)

    /// How far it got.
    private enum Phase {
        /// The name of the upstream is looked up.
        case resolving
        /// It waits for a place at the gate.
        case waiting
        /// TCP and TLS with the proxy.
        case connecting
        /// The proxy was reached, and looks for the upstream or has found it.
        case searching
    }

    private let dialer: Dialer
    private let route: OutboundProxyRoute
    private let eventLoop: any EventLoop
    private var connection: UpstreamConnection?
    private var channel: (any Channel)?
    /// The look-up of the upstream's name, for a proxy that wants addresses.
    private var query: NameResolver.Query?
    private(set) var isForwarding = false
    /// What a SOCKS proxy is asked for next, the last first.
    private var addresses: [SOCKSHandshake.Address] = []
    private var phase = Phase.resolving
    /// Whether there is a place at the gate to give back, and whether the login was proved when it was given.
    private var hasPlace = false
    private var isProven = false

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
        let origin = self.dialer.origin
        guard self.route.proxy.kind == .socks5, TargetAddresses.literal(origin) == nil else {
            self.addresses = [TargetAddresses.literal(origin) ?? .name(origin.host)]
            return self.enter()
        }
        let dial = NIOLoopBound(self, eventLoop: self.eventLoop)
        let query = self.dialer.names.resolve(origin.host, on: self.eventLoop)
        self.query = query
        query.addresses.whenComplete { dial.value.resolved($0) }
    }

    private func resolved(_ result: Result<[SocketAddress], any Error>) {
        self.query = nil
        guard !self.isOver else { return }
        switch result {
        case .success(let addresses):
            self.addresses = TargetAddresses.first(of: addresses).reversed()
            self.enter()
        case .failure(let error):
            var failure = TransportError(resolving: self.dialer.origin.host, error)
            if error as? NameResolver.Failure == .noAddress {
                failure.message += "; with socks5h the proxy looks it up"
            }
            self.end(failure)
        }
    }

    /// The connection is not wanted any more.
    func cancel() {
        self.connection = nil
        let query = self.query
        query?.cancel()
        self.channel?.close(promise: nil)
        self.giveBack(.neutral)
    }

    /// The time for the connection is over; returns what is to be told.
    func timedOut() -> TransportError {
        let target = self.route.target
        func error(_ text: String) -> OutboundProxyError {
            OutboundProxyError(.connectTimeout, "\(text) within the connect timeout")
        }
        switch self.phase {
        case .resolving:
            let text = "the name \(self.dialer.origin.host) was not looked up within the connect timeout"
            return TransportError(.connectTimeout, text, progress: .nothing)
        case .waiting:
            // Nothing was attempted, so nothing is known of the proxy.
            return self.route.failure(error("is busy: there was no turn to reach \(target)"))
        case .connecting:
            self.settle(.failed)
            return self.route.failed(error("gave no connection"))
        case .searching:
            self.settle(.neutral)
            return self.route.failed(error("gave no way to \(target)"))
        }
    }

    // MARK: The gate

    private func enter() {
        self.phase = .waiting
        let dial = NIOLoopBound(self, eventLoop: self.eventLoop)
        self.route.gate.enter(on: self.eventLoop) { dial.value.entered($0) }
    }

    private func entered(_ answer: OutboundProxyGate.Answer) {
        switch answer {
        case .refused(let rest):
            let (whole, part) = rest.components
            let seconds = Int(whole) + (part > 0 ? 1 : 0)
            let text = "rejected the configured user a moment ago and is asked again in \(seconds) s"
            let error = OutboundProxyError(.authRejected, text, retryAfterSeconds: seconds)
            self.end(self.route.failure(error))
        case .go(let isProven):
            self.phase = .connecting
            self.hasPlace = true
            self.isProven = isProven
            if self.isOver { self.giveBack(.neutral) } else { self.connect() }
        }
    }

    /// The proxy takes what is said to it.
    func reached() {
        guard case .connecting = self.phase else { return }
        self.phase = .searching
        let dial = NIOLoopBound(self, eventLoop: self.eventLoop)
        self.eventLoop.scheduleTask(in: self.isProven ? Self.searchTime : Self.proofTime) {
            dial.value.giveBack(.reached)
        }
    }

    /// Passes on what was learnt of the proxy, and gives the place back.
    func settle(_ outcome: OutboundProxyAdmission.Outcome) {
        if self.hasPlace { self.giveBack(outcome) } else { self.route.gate.learn(outcome) }
    }

    private func giveBack(_ outcome: OutboundProxyAdmission.Outcome) {
        guard self.hasPlace else { return }
        self.hasPlace = false
        self.route.gate.leave(outcome)
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
        let dial = NIOLoopBound(self, eventLoop: self.eventLoop)
        let speeches = NIOLoopBound(speech, eventLoop: self.eventLoop)
        self.dialer
            .connect(to: proxy.host, port: proxy.port, on: self.eventLoop) { channel in
                let pipeline = channel.pipeline.syncOperations
                if let tls {
                    let name = Dialer.serverName(of: proxy.host)
                    try pipeline.addHandler(NIOSSLClientHandler(context: tls, serverHostname: name))
                }
                try pipeline.addHandler(
                    ProxyHandshakeHandler(
                        dial.value,
                        dial.value.route,
                        speeches.value,
                        on: channel.eventLoop
                    )
                )
            }
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
            let failure = TransportError(dialling: error)
            guard failure.code != .noDescriptors else {
                // Nothing was attempted, so nothing is known of the proxy.
                self.settle(.neutral)
                return self.end(failure)
            }
            self.fail(OutboundProxyError(connecting: error))
        }
    }

    // MARK: Ends

    /// The proxy gave no tunnel.
    func refused(_ error: OutboundProxyError) {
        guard !self.isOver else { return }
        self.channel = nil
        // The next address needs another connection; it uses the same place at the gate if that is still kept.
        if error.concernsAddress, !self.addresses.isEmpty { return self.connect() }
        if self.route.forwards(after: error) {
            self.isForwarding = true
            return self.connect()
        }
        self.fail(error)
    }

    private func fail(_ error: OutboundProxyError) {
        self.settle(OutboundProxyAdmission.Outcome(error))
        self.end(self.route.failed(error))
    }

    private func end(_ failure: TransportError) {
        self.channel?.close(promise: nil)
        guard let connection else { return }
        self.connection = nil
        connection.dialFailed(failure)
    }

    /// The channel leads to the upstream; false if nobody wants it any more, or it cannot be used.
    func established(_ channel: any Channel, hasBytes: Bool) -> Bool {
        guard let connection else {
            channel.close(promise: nil)
            return false
        }
        guard !hasBytes || self.dialer.tls != nil else {
            // Nobody asked the upstream for anything yet: whatever this is, it must not become an answer.
            let text = "sent bytes through the tunnel to \(self.route.target) that nobody asked for"
            self.fail(OutboundProxyError(.protocol, text, stage: .tunnel))
            return false
        }
        self.connection = nil
        // Whether the proxy takes the login for requests shows in its first answer.
        if !self.isForwarding { self.settle(.accepted) }
        self.dialer.attach(connection, to: channel)
        return true
    }
}

extension OutboundProxyAdmission.Outcome {
    /// What a failure says about the login and the proxy.
    init(_ error: OutboundProxyError) {
        self =
            switch error.code {
            case .authRejected: .rejected
            // Squid refuses a target before it looks at the login.
            case .tunnelDenied, .tunnelUpstreamUnreachable: error.status == nil ? .accepted : .neutral
            case .socksGeneral, .socksCommand, .socksAddressType, .socksUnassigned: .accepted
            case .authRequired, .authUnsupported: .neutral
            case .resolve, .connectRefused, .connectTimeout, .connectUnreachable, .tls, .protocol: .failed
            }
    }
}

extension OutboundProxyError {
    /// Sorts what NIO says about a connection to the proxy that could not be made.
    init(connecting error: any Error) {
        let failures = (error as? NIOConnectionError)?.connectionErrors ?? []
        // The proxy accepted the connection and reset it before we looked.
        if failures.contains(where: { ($0.error as? IOError)?.errnoCode == ECONNRESET }) {
            self = .closed(hasSpoken: false)
            return
        }
        let failure = TransportError(dialling: error)
        switch failure.code {
        case .resolve: self.init(.resolve, "cannot be found: \(failure.message)")
        case .connectRefused: self.init(.connectRefused, "refused the connection")
        case .connectTimeout: self.init(.connectTimeout, "gave no connection within the connect timeout")
        default: self.init(.connectUnreachable, "cannot be reached")
        }
    }
}
