// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Content codings") struct ContentCodingTests {
    @Test(
        "All fields together are one list, in any letter case",
        arguments: [
            ([], .identity), ([""], .identity), (["identity"], .identity), (["gzip"], .gzip), (["GZip"], .gzip),
            (["x-gzip"], .gzip), (["deflate"], .deflate), ([" gzip\t"], .gzip), (["identity, gzip"], .gzip),
            (["identity", "deflate"], .deflate), ([",gzip,,"], .gzip),
            (["br"], .unsupported("the content coding br")), (["ZSTD"], .unsupported("the content coding zstd")),
            (["gzip, gzip"], .unsupported("several content codings (gzip, gzip)")),
            (["gzip", "br"], .unsupported("several content codings (gzip, br)")),
            // What could be anything is not repeated: it may be a secret.
            (["sk-secret"], .unsupported("an unknown content coding")),
            (["gzip;q=1"], .unsupported("an unknown content coding")),
            (["gzip, sk-secret"], .unsupported("several content codings (gzip, an unknown one)")),
            (
                ["a,b,c,d,e,gzip"],
                .unsupported(
                    "several content codings (\(Array(repeating: "an unknown one", count: 4).joined(separator: ", ")))"
                )
            ),
        ] as [([String], ContentCoding)]
    )
    func values(values: [String], coding: ContentCoding) { #expect(ContentCoding(values) == coding) }

    @Test(
        "Up to 16 MiB content may grow as it likes, beyond that by 1,000",
        arguments: [
            (0, 0, true), (16 << 20, 1, true), (16 << 20 + 1, 1, false), (16 << 20 + 1, 16_777, true),
            (16 << 20 + 1, 16_776, false), (20_000_000, 20_000, true), (20_000_999, 20_000, true),
            (20_001_000, 20_000, false), (.max, .max, true), (.max, 0, false),
        ]
    )
    func ratio(decoded: Int, encoded: Int, isAllowed: Bool) {
        #expect(DecodedSize.isAllowed(decoded, from: encoded) == isAllowed)
    }
}
