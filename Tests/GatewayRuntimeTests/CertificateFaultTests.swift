// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayTransport

@Suite("Certificate fault") struct CertificateFaultTests {
    @Test(
        "A certificate that is refused within its time has an unknown authority",
        arguments: [
            (100, CertificateFault.unknownAuthority),
            (200, .unknownAuthority),
            (201, .expired(200)),
            (99, .notYetValid(100)),
            (.max, .expired(200)),
            (.min, .notYetValid(100)),
        ] as [(Int64, CertificateFault)]
    )
    func fault(now: Int64, fault: CertificateFault) {
        #expect(CertificateFault(notBefore: 100, notAfter: 200, now: now) == fault)
    }

    @Test("The day is told on which it expired, whatever time the certificate names")
    func text() {
        #expect(CertificateFault.expired(1_795_564_800).text == "the certificate expired on 2026-11-25")
        #expect(CertificateFault.notYetValid(1_795_564_800).text.contains("2026-11-25"))
        #expect(CertificateFault.expired(.max).text.contains("expired"))
        #expect(CertificateFault.expired(.min).text.contains("expired"))
    }
}
