// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayObservability

@Suite("Histogram") struct HistogramTests {
    static let definition = MetricDefinition("wait_seconds", .histogram, help: "Waiting.", labels: ["server"])

    static func scrape(_ durations: [Duration]) -> [String] {
        let registry = MetricsRegistry()
        let histogram = registry.histogram(
            Self.definition,
            ["a"],
            buckets: Histogram.Buckets([.milliseconds(5), .milliseconds(2500), .seconds(300)])
        )
        for duration in durations { histogram.observe(duration) }
        var output: [UInt8] = []
        registry.render(into: &output)
        return String(decoding: output, as: UTF8.self).split(separator: "\n").dropFirst(2).map(String.init)
    }

    @Test("A scrape has a running total for each bound, the sum in seconds and the count")
    func scrape() {
        let lines = Self.scrape([.milliseconds(1), .milliseconds(5), .seconds(1), .seconds(300), .seconds(301)])
        #expect(
            lines == [
                #"wait_seconds_bucket{server="a",le="0.005"} 2"#,
                #"wait_seconds_bucket{server="a",le="2.5"} 3"#,
                #"wait_seconds_bucket{server="a",le="300"} 4"#,
                #"wait_seconds_bucket{server="a",le="+Inf"} 5"#,
                #"wait_seconds_sum{server="a"} 602.006"#,
                #"wait_seconds_count{server="a"} 5"#,
            ]
        )
    }

    @Test(
        "A duration is in the first bucket whose bound it does not exceed",
        arguments: [
            (Duration.milliseconds(5) - .nanoseconds(1), 0), (.milliseconds(5), 0),
            (.milliseconds(5) + .nanoseconds(1), 1), (.milliseconds(2500), 1),
            (.milliseconds(2500) + .nanoseconds(1), 2), (.seconds(300), 2), (.seconds(300) + .nanoseconds(1), 3),
            (.zero, 0), (.seconds(-1), 0), (.seconds(Int64.max), 3), (.seconds(Int64.min), 0),
        ]
    )
    func bounds(duration: Duration, bucket: Int) {
        let totals = Self.scrape([duration]).prefix(4).compactMap { $0.last }
        #expect(totals == (0..<4).map { $0 < bucket ? "0" : "1" })
    }

    @Test(
        "A duration in nanoseconds is exact, and saturates where it does not fit",
        arguments: [
            (Duration.nanoseconds(1), 1), (.zero, 0), (.seconds(-2), -2_000_000_000), (.nanoseconds(Int64.max), .max),
            (.seconds(9_223_372_036), 9_223_372_036_000_000_000), (.seconds(9_223_372_037), .max),
            (.seconds(Int64.max), .max), (.seconds(Int64.min), .min),
        ] as [(Duration, Int64)]
    )
    func nanoseconds(duration: Duration, expected: Int64) {
        #expect(duration.wholeNanoseconds == expected)
    }

    @Test("The count is the number of durations")
    func count() {
        let histogram = Histogram(buckets: .latency)
        for step in 0..<100 { histogram.observe(nanoseconds: Int64(step) * 10_000_000_000) }
        #expect(histogram.count == 100)
    }
}
