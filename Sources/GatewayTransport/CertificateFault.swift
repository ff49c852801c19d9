// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayObservability
import GatewayWire
import NIOSSL

/// What is wrong with a certificate that was refused.
enum CertificateFault: Hashable, Sendable {
    /// It was good until this time, in seconds since 1970.
    case expired(Int64)
    /// It will be good from this time on, in seconds since 1970.
    case notYetValid(Int64)
    /// None of the authorities that are trusted here signed it.
    case unknownAuthority

    /// The fault of a certificate that was refused, for other reasons than its names, at `now`; times are seconds since 1970.
    init(notBefore: Int64, notAfter: Int64, now: Int64) {
        if now > notAfter {
            self = .expired(notAfter)
        } else if now < notBefore {
            self = .notYetValid(notBefore)
        } else {
            self = .unknownAuthority
        }
    }

    init(_ certificate: NIOSSLCertificate) {
        self.init(
            notBefore: Int64(certificate.notValidBefore),
            notAfter: Int64(certificate.notValidAfter),
            now: Platform.wallClock() / 1_000_000_000
        )
    }

    /// What people read.
    var text: String {
        switch self {
        case .expired(let time): "the certificate expired on \(Self.day(time))"
        case .notYetValid(let time):
            "the certificate is valid only from \(Self.day(time)) on: is the clock of this machine right?"
        case .unknownAuthority:
            "the certificate is not signed by an authority that is trusted here: put its PEM into tls.caFile"
        }
    }

    /// The day in UTC, as `2026-03-01`.
    private static func day(_ seconds: Int64) -> String {
        let (nanoseconds, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        guard !overflow else { return "another day" }
        var text: [UInt8] = []
        CivilTime(nanoseconds: nanoseconds).append(to: &text)
        return String(decoding: text.prefix(10), as: UTF8.self)
    }
}
