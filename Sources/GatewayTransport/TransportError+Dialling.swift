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

    /// Sorts what NIO and BoringSSL say about a failed dial.
    init(dialling error: any Error) {
        switch error {
        case let error as NIOConnectionError:
            let failures = error.connectionErrors.map(\.error)
            if failures.isEmpty {
                self.init(resolving: error.host, error.dnsAError ?? error.dnsAAAAError)
            } else if failures.contains(where: Self.isDescriptors) {
                self = .noDescriptors
            } else if failures.contains(where: { ($0 as? IOError)?.errnoCode == ECONNREFUSED }) {
                self.init(.connectRefused, "connection refused", progress: .nothing)
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
            let isVerification = "\(error)".contains("CERTIFICATE_VERIFY_FAILED")
            self.init(
                isVerification ? .tlsVerification : .tlsHandshake,
                isVerification
                    ? "the certificate cannot be verified (expired, or of an unknown authority: see tls.caFile)"
                    : "the TLS handshake failed",
                progress: .nothing
            )
        case let error where Self.isDescriptors(error):
            self = .noDescriptors
        default:
            self.init(.connectFailed, "the connection could not be set up", progress: .nothing)
        }
    }
}
