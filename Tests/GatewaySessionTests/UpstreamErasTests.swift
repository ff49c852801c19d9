// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import GatewayWire
import Testing

@Suite("Eras of an upstream") struct UpstreamErasTests {
    private static let handshake = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]

    /// What is known of an upstream, and what a caller is told to ask for in place of what is refused.
    struct Row: CustomTestStringConvertible {
        var handshake: Bool?
        var stateless: Bool?
        /// Handshake versions that it negotiated, and stateless ones that it listed.
        var known: [String] = []
        var listed: [String] = []
        var refused: CallerEra?
        var told: [String]
        var testDescription: String {
            "handshake \(self.handshake as Any), stateless \(self.stateless as Any), refused \(self.refused as Any)"
        }
    }

    @Test(
        "A caller whose version is refused is always told of others that it can ask for",
        arguments: [
            // A program or HTTP+SSE server before anybody initialized, and after.
            Row(handshake: true, stateless: false, refused: .stateless, told: Self.handshake),
            Row(handshake: true, stateless: false, known: ["2025-03-26"], refused: .stateless, told: Self.handshake),
            // A version between the ones that we know is said as well.
            Row(
                handshake: true,
                stateless: false,
                known: ["2025-09-09"],
                refused: .stateless,
                told: ["2025-09-09"] + Self.handshake
            ),
            // Pinned to the stateless era by its configuration, or found to speak it alone.
            Row(handshake: false, stateless: true, refused: .handshake, told: ["2026-07-28"]),
            Row(
                handshake: false,
                stateless: true,
                listed: ["2027-01-01", "2026-07-28"],
                refused: .handshake,
                told: ["2027-01-01", "2026-07-28"]
            ),
            // A version alone is refused: of both eras, if both are spoken or may be.
            Row(handshake: true, stateless: true, listed: ["2026-07-28"], told: ["2026-07-28"] + Self.handshake),
            Row(handshake: nil, stateless: nil, told: ["2026-07-28"] + Self.handshake),
            Row(handshake: true, stateless: false, told: Self.handshake),
            Row(handshake: false, stateless: true, told: ["2026-07-28"]),
            Row(handshake: false, stateless: false, told: ["2026-07-28"] + Self.handshake),
            // Refused before anything is known.
            Row(handshake: nil, stateless: nil, refused: .stateless, told: Self.handshake),
            Row(handshake: nil, stateless: nil, refused: .handshake, told: ["2026-07-28"]),
        ]
    )
    func versions(_ row: Row) {
        var eras = UpstreamEras()
        (eras.handshake, eras.stateless) = (row.handshake, row.stateless)
        (eras.handshakeVersions, eras.statelessVersions) = (row.known, row.listed)
        #expect(eras.versions(insteadOf: row.refused) == row.told)
    }
}
