// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

@Suite("Durations and sizes") struct QuantityTests {
    @Test(
        "Durations are read in Go's grammar",
        arguments: [
            ("0", 0), ("30s", 30_000_000_000), ("250ms", 250_000_000), ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000), ("1.s", 1_000_000_000), ("+1s", 1_000_000_000), ("-1s", -1_000_000_000),
            ("1us", 1_000),
            ("1µs", 1_000), ("1μs", 1_000), ("7ns", 7), ("1m1m", 120_000_000_000), ("0.000000001s", 1),
            ("0.0000000001s", 0), ("999999999999999999h", 999_999_999_999_999_999 * 3_600_000_000_000),
        ] as [(String, Int128)]
    )
    func durations(text: String, expected: Int128) {
        #expect(DurationText.nanoseconds(text) == expected)
    }

    @Test(
        "What Go would not read is no duration",
        arguments: [
            "", "s", "1", "30", "1 s", "1d", "1S", "s1", ".s", "1..s", "1.2.3s", "--1s", "+-1s", "1s-", "∞", "٣s",
            "1e3s",
            "1000000000000000000h", "0x1s",
        ]
    )
    func notDurations(text: String) {
        #expect(DurationText.nanoseconds(text) == nil)
    }

    @Test(
        "A duration is written as it would be read",
        arguments: [
            (0, "0s"), (1, "1ms"), (30_000, "30s"), (90_000, "1m30s"), (3_600_000, "1h"), (3_661_001, "1h1m1s1ms"),
        ]
    )
    func described(milliseconds: Int, expected: String) {
        let text = DurationText.describe(.milliseconds(milliseconds))
        #expect(text == expected)
        #expect(DurationText.nanoseconds(text) == Int128(milliseconds) * 1_000_000)
    }

    @Test(
        "A bare number is milliseconds, and from ten million on the Go program's nanoseconds",
        arguments: [
            ("30", .milliseconds(30), ["duration-unit"], "\"30s\""),
            ("999", .milliseconds(999), ["duration-unit"], "\"999s\""),
            ("1000", .seconds(1), [], nil), ("9999999", .milliseconds(9_999_999), [], nil),
            ("10000000", .milliseconds(10), ["duration-unit"], "\"10ms\""),
            ("30000000000", .seconds(30), ["duration-unit"], "\"30s\""), ("0", .seconds(300), [], nil),
            ("\"0s\"", .seconds(300), [], nil), ("\"1ms\"", .milliseconds(1), [], nil),
            ("\"8760h\"", .seconds(31_536_000), [], nil),
        ] as [(String, Duration, [String], String?)]
    )
    func bareNumbers(json: String, expected: Duration, codes: [String], suggestion: String?) {
        let result = load(document(server: "\"url\": \"https://h/\", \"timeout\": \(json)"))
        #expect(result.one?.timeout == expected)
        #expect(result.codes == codes)
        #expect(result.findings.first?.suggestion == suggestion)
    }

    @Test(
        "A number that is no duration is an error",
        arguments: ["-1", "1.0", "1e3", "99999999999999999999999", "\"8760h1ms\"", "\"999us\"", "31536000000000001"]
    )
    func badNumbers(json: String) {
        let result = load(document(server: "\"url\": \"https://h/\", \"timeout\": \(json)"))
        #expect(result.snapshot == nil)
        #expect(!result.codes.contains { $0 != "invalid-duration" && $0 != "out-of-range" && $0 != "duration-unit" })
    }

    @Test("Zero switches the probe and the grace period off, and is refused elsewhere")
    func zero() throws {
        let off = load(
            document(
                server: #""url": "https://h/", "options": {"pingInterval": 0}"#,
                gateway: #", "startupGracePeriod": "0s""#
            )
        )
        #expect(try #require(off.snapshot).listener.startupGracePeriod == .zero)
        #expect(off.one?.pingInterval == nil)
        #expect(load(document(options: #""reconnectInterval": 0"#)).codes == ["invalid-duration"])
    }

    @Test(
        "Sizes are bytes or have a binary unit",
        arguments: [
            ("0", 0), ("1", 1), ("4096", 4096), ("16KiB", 16_384), ("4MiB", 4_194_304), ("1GiB", 1_073_741_824),
            ("8 MiB", 8_388_608),
            ("12B", 12), ("", nil), ("MiB", nil), ("4MB", nil), ("4mib", nil), ("4  MiB", nil), ("4MiB ", nil),
            ("-1", nil), ("1.5MiB", nil),
            ("99999999999999999999", nil), ("9223372036854775807GiB", nil), ("1 ", nil),
        ] as [(String, Int?)]
    )
    func sizes(text: String, expected: Int?) {
        #expect(SizeText.bytes(text) == expected)
    }

    @Test(
        "A size in another unit is answered with the one that is meant",
        arguments: [
            ("4MB", "\"4MiB\""), ("4m", "\"4MiB\""), ("16 k", "\"16KiB\""), ("1gib", "\"1GiB\""), ("4", nil),
            ("MB", nil),
        ]
            as [(String, String?)]
    )
    func sizeSuggestions(text: String, expected: String?) {
        #expect(SizeText.suggestion(for: text) == expected)
    }

    @Test("A size is written as it would be read", arguments: [1, 1000, 1024, 65_536, 4_194_304, 1_073_741_824])
    func sizesDescribed(bytes: Int) {
        #expect(SizeText.bytes(SizeText.describe(bytes)) == bytes)
    }
}
