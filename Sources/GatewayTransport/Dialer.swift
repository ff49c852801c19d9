// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
package import GatewayWire
package import NIOCore
import NIOSSL

/// Opens connections to one origin, through its outbound proxy if it has one: TCP, then TLS for https.
///
/// Names are looked up by a ``NameResolver``; addresses are tried by NIO, as RFC 8305 says.
package struct Dialer: Sendable {
    package let origin: WebOrigin
    /// DNS, proxy, TCP and TLS together.
    package internal(set) var timeout: TimeAmount
    let tls: NIOSSLContext?
    private let route: OutboundProxyRoute?
    /// Looks names up; tests have their own.
    var names = NameResolver.system
    /// Opens the connections.
    let connector: any Connector
    /// The address that the certificate must be for, where the peer of the channel is an outbound proxy: NIOSSL would
    /// compare it with the proxy's.
    private let certifiedAddress: SocketAddress?

    /// Reads the certificates that `tls` names; `connector` opens the connections.
    ///
    /// - Throws: ``TLSFileError`` if a file cannot be used.
    package init(
        origin: WebOrigin,
        tls: TLSClientConfiguration,
        route: OutboundProxyRoute? = nil,
        timeout: Duration,
        connector: any Connector = TCPConnector()
    ) throws(TLSFileError) {
        self.origin = origin
        self.connector = connector
        self.route = route
        self.timeout = TimeAmount(timeout)
        let isChecked = route != nil && !tls.isInsecure
        self.certifiedAddress = isChecked ? try? SocketAddress(ipAddress: origin.host, port: 0) : nil
        guard origin.scheme == .https else {
            self.tls = nil
            return
        }
        var configuration = try TLSConfiguration.gateway(tls)
        if self.certifiedAddress != nil { configuration.certificateVerification = .noHostnameVerification }
        self.tls = try NIOSSLContext.gateway(configuration, of: tls)
    }

    /// The name that the certificate of a host must have; nil for an address.
    ///
    /// An IP literal is no server name (RFC 6066 §3); the certificate is then checked against the address.
    static func serverName(of host: String) -> String? {
        (try? SocketAddress(ipAddress: host, port: 0)) == nil ? host : nil
    }

    /// Opens a connection on `eventLoop` for `connection`, which says when it is usable.
    func dial(on eventLoop: any EventLoop, for connection: UpstreamConnection) {
        if let route {
            connection.dials(through: route, with: ProxyDial(self, route, on: eventLoop, for: connection))
            return
        }
        let bound = NIOLoopBound(connection, eventLoop: eventLoop)
        self.connect(to: self.origin.host, port: self.origin.port, on: eventLoop) { _ in }
            .whenComplete { result in
                let connection = bound.value
                switch result {
                case .success(let channel): self.attach(connection, to: channel)
                case .failure(let error): connection.dialFailed(TransportError(dialling: error))
                }
            }
    }

    /// Opens a connection to the upstream, or to a proxy; `setUp` gives it what it needs from its beginning.
    func connect(
        to host: String,
        port: Int,
        on eventLoop: any EventLoop,
        _ setUp: @escaping @Sendable (any Channel) throws -> Void
    ) -> EventLoopFuture<any Channel> {
        self.connector.connect(
            to: host,
            port: port,
            within: self.timeout,
            names: self.names,
            on: eventLoop,
            setUp: setUp
        )
    }

    /// Gives a connection the channel that leads to the upstream, and TLS with it for https.
    ///
    /// Only the channel that won: of several that are tried, for the addresses of a name, the others end by themselves.
    func attach(_ connection: UpstreamConnection, to channel: any Channel) {
        guard connection.isDialing else { return channel.close(promise: nil) }
        do {
            let pipeline = channel.pipeline.syncOperations
            // TLS writes at once, and a write may fail at once.
            connection.callOuts.begin()
            defer { connection.callOuts.end() }
            // First the one that hears of it when TLS fails at once.
            try pipeline.addHandler(connection)
            let handler = try self.tls.map { try self.tlsHandler($0) }
            // It may fail at once, and then the connection must know it.
            connection.dialed(handler)
            if let handler { try pipeline.addHandler(handler, position: .before(connection)) }
        } catch {
            channel.close(promise: nil)
            return connection.dialFailed(TransportError(dialling: error))
        }
    }

    /// TLS with the upstream.
    private func tlsHandler(_ tls: NIOSSLContext) throws -> NIOSSLClientHandler {
        guard let address = self.certifiedAddress else {
            return try NIOSSLClientHandler(context: tls, serverHostname: Self.serverName(of: self.origin.host))
        }
        return try ._makeSSLClientHandler(context: tls, serverHostname: nil) { certificate, channel in
            certificate.names(address)
                ? channel.eventLoop.makeSucceededVoidFuture()
                : channel.eventLoop.makeFailedFuture(NIOSSLExtraError.failedToValidateHostname)
        }
    }
}

extension NIOSSLCertificate {
    /// Whether the certificate is for this address (RFC 5280 §4.2.1.6, `iPAddress`).
    func names(_ address: SocketAddress) -> Bool {
        let text = address.ipAddress
        return self._subjectAlternativeNames()
            .contains { name in
                guard name.nameType == .ipAddress else { return false }
                let bytes = Array(name.contents)
                guard bytes.count == 4 || bytes.count == 16 else { return false }
                return (try? SocketAddress(packedIPAddress: ByteBuffer(bytes: bytes), port: 0))?.ipAddress == text
            }
    }
}

extension TLSConfiguration {
    /// Our client side of TLS: 1.2 and above, the system's roots plus the configured ones (faults S5.3).
    static func gateway(_ tls: TLSClientConfiguration) throws(TLSFileError) -> TLSConfiguration {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = ["http/1.1"]
        if let caFile = tls.caFile {
            configuration.additionalTrustRoots = [.certificates(try TLSFiles.certificates(.caFile, caFile))]
        }
        if let certFile = tls.certFile, let keyFile = tls.keyFile {
            configuration.certificateChain = try TLSFiles.certificates(.certFile, certFile).map { .certificate($0) }
            configuration.privateKey = .privateKey(try TLSFiles.privateKey(keyFile))
        }
        if tls.isInsecure { configuration.certificateVerification = .none }
        return configuration
    }
}
