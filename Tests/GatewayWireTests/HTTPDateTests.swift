// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("HTTP dates") struct HTTPDateTests {
    @Test(
        "A time is written as an IMF-fixdate, and read back",
        arguments: [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"), (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"), (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"), (1_795_526_399, "Tue, 24 Nov 2026 13:19:59 GMT"),
        ]
    )
    func table(seconds: Int, text: String) {
        #expect(HTTPDate.text(nanoseconds: Int64(seconds) * 1_000_000_000 + 999_999_999) == text)
        #expect(HTTPDate.seconds(text) == seconds)
    }

    @Test("Every third day of two centuries is read back as it was written")
    func everyDay() {
        for day in stride(from: 0, to: 73_000, by: 3) {
            let seconds = day * 86_400 + day % 86_400
            #expect(HTTPDate.seconds(HTTPDate.text(nanoseconds: Int64(seconds) * 1_000_000_000)) == seconds)
        }
    }

    @Test(
        "What is no IMF-fixdate is no date",
        arguments: [
            "", "Sun", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 32 Nov 1994 08:49:37 GMT", "Sun, 06 nov 1994 08:49:37 GMT", "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT", "Sun, 06 Nov 1994 08:49 GMT", "Sun, 06 Nov 1994 08:49:37:1 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT", "Sun, 06  Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 99999999999999999999 08:49:37 GMT",
        ]
    )
    func refused(text: String) {
        #expect(HTTPDate.seconds(text) == nil)
    }
}
