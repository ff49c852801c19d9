// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
package import GatewayWire
package import NIOCore
import NIOPosix
import NIOSSL

/// Opens connections to one origin, through its outbound proxy if it has one: TCP, then TLS for https.
///
/// Names are resolved off the event loop and addresses are tried as RFC 8305 says; both are NIO's.
package struct Dialer: Sendable {
    package let origin: WebOrigin
    /// DNS, proxy, TCP and TLS together.
    package let timeout: TimeAmount
    let tls: NIOSSLContext?
    private let route: OutboundProxyRoute?

    /// Reads the certificates that `tls` names.
    ///
    /// - Throws: `NIOSSLError` or an I/O error if a file cannot be used.
    package init(
        origin: WebOrigin,
        tls: TLSClientConfiguration,
        route: OutboundProxyRoute? = nil,
        timeout: Duration
    ) throws {
        self.origin = origin
        self.route = route
        self.timeout = TimeAmount(timeout)
        self.tls = origin.scheme == .https ? try NIOSSLContext(configuration: .gateway(tls)) : nil
    }

    /// The name that the certificate must have; nil for an address.
    ///
    /// An IP literal is no server name (RFC 6066 §3); the certificate is then checked against the address.
    var serverName: String? { self.origin.isIPAddress ? nil : self.origin.host }

    /// Opens a connection on `eventLoop` that ends in `handler`, which says when it is usable.
    ///
    /// The result concerns the TCP connection; a TLS handshake is still to come and is reported to the handler.
    func dial(on eventLoop: any EventLoop, handler: UpstreamConnection) {
        if let route {
            let dial = ProxyDial(self, route, on: eventLoop, for: handler)
            handler.dial = dial
            return dial.start()
        }
        let tls = self.tls
        let serverName = self.serverName
        let bound = NIOLoopBound(handler, eventLoop: eventLoop)
        ClientBootstrap(group: eventLoop)
            .connectTimeout(self.timeout)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls {
                        try channel.pipeline.syncOperations.addHandler(
                            NIOSSLClientHandler(context: tls, serverHostname: serverName)
                        )
                    }
                    try channel.pipeline.syncOperations.addHandler(bound.value)
                }
            }
            .connect(host: self.origin.host, port: self.origin.port)
            .whenComplete { result in
                bound.value.dialed(result.map { _ in }, isTLS: tls != nil)
            }
    }
}

extension WebOrigin {
    /// Whether the host is an address rather than a name.
    var isIPAddress: Bool {
        self.isIPv6Literal || (try? SocketAddress(ipAddress: self.host, port: 0)) != nil
    }
}

extension TLSConfiguration {
    /// Our client side of TLS: 1.2 and above, the system's roots plus the configured ones (faults S5.3).
    static func gateway(_ tls: TLSClientConfiguration) throws -> TLSConfiguration {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = ["http/1.1"]
        if let caFile = tls.caFile { configuration.additionalTrustRoots = [.file(caFile)] }
        if let certFile = tls.certFile, let keyFile = tls.keyFile {
            configuration.certificateChain = try NIOSSLCertificate.fromPEMFile(certFile).map { .certificate($0) }
            configuration.privateKey = .privateKey(try NIOSSLPrivateKey(file: keyFile, format: .pem))
        }
        if tls.isInsecure { configuration.certificateVerification = .none }
        return configuration
    }
}
