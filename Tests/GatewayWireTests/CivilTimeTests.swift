// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Civil time") struct CivilTimeTests {
    static func text(_ nanoseconds: Int64) -> String {
        var bytes: [UInt8] = []
        CivilTime(nanoseconds: nanoseconds).append(to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test(
        "Seconds since 1970 are written as RFC 3339 in UTC",
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"), (-1, "1969-12-31T23:59:59.000Z"), (59, "1970-01-01T00:00:59.000Z"),
            (86_399, "1970-01-01T23:59:59.000Z"), (86_400, "1970-01-02T00:00:00.000Z"),
            (68_169_600, "1972-02-29T00:00:00.000Z"), (68_256_000, "1972-03-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"), (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"), (951_868_800, "2000-03-01T00:00:00.000Z"),
            (978_307_199, "2000-12-31T23:59:59.000Z"), (978_307_200, "2001-01-01T00:00:00.000Z"),
            (1_078_012_800, "2004-02-29T00:00:00.000Z"), (1_330_473_600, "2012-02-29T00:00:00.000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000Z"), (1_709_251_200, "2024-03-01T00:00:00.000Z"),
            (1_740_787_200, "2025-03-01T00:00:00.000Z"), (2_147_483_647, "2038-01-19T03:14:07.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"), (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (-2_203_891_200, "1900-03-01T00:00:00.000Z"), (-2_203_977_600, "1900-02-28T00:00:00.000Z"),
        ] as [(Int64, String)]
    )
    func table(seconds: Int64, expected: String) {
        #expect(Self.text(seconds * 1_000_000_000) == expected)
    }

    @Test(
        "Milliseconds are cut, never rounded up",
        arguments: [
            (1_999_999, "00:00:00.001"), (999_999, "00:00:00.000"), (1_000_000, "00:00:00.001"),
            (999_999_999, "00:00:00.999"), (40_000_000, "00:00:00.040"),
        ] as [(Int64, String)]
    )
    func milliseconds(nanoseconds: Int64, expected: String) {
        #expect(Self.text(nanoseconds) == "1970-01-01T\(expected)Z")
    }

    @Test("Any number is a time", arguments: [Int64.min, .max, -1])
    func extremes(nanoseconds: Int64) {
        #expect(Self.text(nanoseconds).utf8.count == 24)
    }

    @Test("Each day of four centuries follows the one before it")
    func everyDay() {
        var (year, month, day) = (1700, 1, 1)
        let first: Int64 = -98_615
        var wrong = 0
        for offset in 0..<Int64(203_000) {
            let time = CivilTime(nanoseconds: (first + offset) * 86_400_000_000_000)
            if (time.year, time.month, time.day) != (year, month, day) { wrong += 1 }
            let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
            let length = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]
            day += 1
            if day > length { (month, day) = (month + 1, 1) }
            if month > 12 { (year, month) = (year + 1, 1) }
        }
        #expect(wrong == 0)
        #expect(year == 2255)
    }
}
