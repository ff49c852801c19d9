// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import NIOCore
import NIOPosix
import NIOSSL

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

extension TransportError {
    /// A name for which there is no address, and why.
    init(resolving name: String, _ error: (any Error)?) {
        switch error as? NameResolver.Failure {
        case .noDescriptors:
            self = .noDescriptors
        case .busy:
            let text = "the name \(name) cannot be looked up now: too many others get no answer"
            self.init(.resolve, text, progress: .nothing)
        case .noAddress, .cancelled, nil:
            self.init(.resolve, "the name \(name) has no address", progress: .nothing)
        }
    }

    /// Whether there was no socket to be had, by the limit of this process or of the system.
    private static func isDescriptors(_ error: any Error) -> Bool {
        guard let error = error as? IOError else { return false }
        return error.errnoCode == EMFILE || error.errnoCode == ENFILE
    }

    /// Sorts what the connector, NIO and BoringSSL say about a failed dial; `certificate` is what is wrong with the one that was refused, if
    /// that is known.
    init(dialling error: any Error, certificate: CertificateFault? = nil) {
        switch error {
        case let error as TransportError:
            self = error
        case let error as NIOConnectionError:
            let failures = error.connectionErrors.map(\.error)
            if failures.isEmpty {
                self.init(resolving: error.host, error.dnsAError ?? error.dnsAAAAError)
            } else if failures.contains(where: Self.isDescriptors) {
                self = .noDescriptors
            } else if failures.contains(where: { ($0 as? IOError)?.errnoCode == ECONNREFUSED }) {
                let place = HostPort(host: error.host, port: error.port, isIPv6Literal: error.host.contains(":"))
                    .authority
                self.init(.connectRefused, "nothing listens at \(place): connection refused", progress: .nothing)
            } else if failures.contains(where: { $0 is ChannelError }) {
                self.init(.connectTimeout, "no connection within the connect timeout", progress: .nothing)
            } else {
                self.init(.connectFailed, "no address could be connected", progress: .nothing)
            }
        case let error as ChannelError:
            if case .connectTimeout = error {
                self.init(.connectTimeout, "no connection within the connect timeout", progress: .nothing)
            } else {
                self.init(.connectFailed, "closed while it was being set up", progress: .nothing)
            }
        case is NIOSSLExtraError:
            self.init(.tlsVerification, "the certificate is not for this host", progress: .nothing)
        case let error as NIOSSLError:
            let said = "\(error)"
            if said.contains("CERTIFICATE_VERIFY_FAILED") {
                self.init(
                    .tlsVerification,
                    certificate?.text
                        ?? "the certificate cannot be verified (expired, or of an unknown authority: see tls.caFile)",
                    progress: .nothing
                )
            } else {
                // What BoringSSL calls bytes that are no TLS, such as an answer of HTTP.
                let isPlain = ["WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST"]
                    .contains { said.contains($0) }
                self.init(
                    .tlsHandshake,
                    isPlain
                        ? "the server speaks no TLS at this port: does its url begin with http://?"
                        : "the TLS handshake failed: does the server speak TLS at this port?",
                    progress: .nothing
                )
            }
        case let error where Self.isDescriptors(error):
            self = .noDescriptors
        default:
            self.init(.connectFailed, "the connection could not be set up", progress: .nothing)
        }
    }
}
