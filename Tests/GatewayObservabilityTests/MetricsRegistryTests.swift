// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayObservability

@Suite("Metrics registry") struct MetricsRegistryTests {
    static func scrape(_ registry: MetricsRegistry) -> String {
        var output: [UInt8] = []
        registry.render(into: &output)
        return String(decoding: output, as: UTF8.self)
    }

    @Test("A scrape is in the order of names and labels, however the metrics were made")
    func order() {
        let registry = MetricsRegistry()
        let second = MetricDefinition("b_total", .counter, help: "B.", labels: ["server", "reason"])
        let first = MetricDefinition("a", .gauge, help: "A.")
        registry.counter(second, ["y", "1"]).increment()
        registry.counter(second, ["x", "2"]).increment(by: 2)
        registry.counter(second, ["x", "1"]).increment(by: 3)
        registry.gauge(first).set(-4)
        #expect(
            Self.scrape(registry) == """
                # HELP a A.
                # TYPE a gauge
                a -4
                # HELP b_total B.
                # TYPE b_total counter
                b_total{server="x",reason="1"} 3
                b_total{server="x",reason="2"} 2
                b_total{server="y",reason="1"} 1

                """
        )
    }

    @Test("Rendering appends and keeps what was there")
    func appends() {
        let registry = MetricsRegistry()
        registry.gauge(MetricDefinition("a", .gauge, help: "A.")).set(1)
        var output = Array("before\n".utf8)
        registry.render(into: &output)
        #expect(String(decoding: output, as: UTF8.self).hasPrefix("before\n# HELP a A.\n"))
    }

    @Test(
        "A label value is escaped so that it cannot end its line or its quotes",
        arguments: [
            ("plain", "plain"), ("a\"b", "a\\\"b"), ("a\\b", "a\\\\b"), ("a\nb", "a\\nb"), ("é", "é"), ("", ""),
            ("\\n\"} 1", "\\\\n\\\"} 1"),
        ]
    )
    func escaping(value: String, expected: String) {
        let registry = MetricsRegistry()
        registry.gauge(MetricDefinition("a", .gauge, help: "\\ and\n\"quote\"", labels: ["l"]), [value]).set(1)
        #expect(
            Self.scrape(registry)
                == "# HELP a \\\\ and\\n\"quote\"\n# TYPE a gauge\na{l=\"\(expected)\"} 1\n"
        )
    }

    @Test(
        "A number is written as the format wants it",
        arguments: [
            (0, "0"), (-0.0, "0"), (1.5, "1.5"), (1e15, "1000000000000000"), (1e300, "1e+300"), (.infinity, "+Inf"),
            (-.infinity, "-Inf"), (.nan, "NaN"), (0.1, "0.1"),
        ] as [(Double, String)]
    )
    func numbers(value: Double, expected: String) {
        #expect(MetricsText.text(of: value) == expected)
    }

    @Test("A family shows every value of its label from the start, a grid only the pairs that moved")
    func families() {
        let registry = MetricsRegistry()
        let one = MetricDefinition("one_total", .counter, help: "One.", labels: ["server", "colour"])
        let two = MetricDefinition("two_total", .counter, help: "Two.", labels: ["server", "colour", "shape"])
        registry.counters(one, ["s"], by: Colour.self).increment(.green, by: 7)
        registry.counters(two, ["s"], by: Colour.self, and: Shape.self).increment(.red, .square)
        let samples = Self.scrape(registry).split(separator: "\n").filter { !$0.hasPrefix("#") }
        #expect(
            samples == [
                #"one_total{server="s",colour="red"} 0"#,
                #"one_total{server="s",colour="green"} 7"#,
                #"two_total{server="s",colour="red",shape="square"} 1"#,
            ]
        )
        #expect(registry.counters(one, ["s"], by: Colour.self).value(.green) == 7)
    }

    @Test("A callback is read at each scrape, the last one counts, and nil leaves the sample out")
    func callbacks() {
        let registry = MetricsRegistry()
        let definition = MetricDefinition("c", .gauge, help: "C.", labels: ["l"])
        registry.callback(definition, ["x"]) { 1 }
        registry.callback(definition, ["x"]) { 2.5 }
        registry.callback(definition, ["y"]) { nil }
        #expect(Self.scrape(registry) == "# HELP c C.\n# TYPE c gauge\nc{l=\"x\"} 2.5\n")
    }

    @Test("A callback may ask the registry for handles while it is read")
    func callbackOutsideLock() {
        let registry = MetricsRegistry()
        registry.callback(MetricDefinition("c", .gauge, help: "C.")) { [weak registry] in
            registry.map { Double($0.gauge(MetricDefinition("d", .gauge, help: "D.")).value) }
        }
        #expect(Self.scrape(registry).contains("c 0\n"))
    }

    @Test("Removing a server takes its series away and leaves the others")
    func removal() {
        let registry = MetricsRegistry()
        registry.counter(.childRestarts, ["gone"]).increment()
        registry.counter(.childRestarts, ["stays"]).increment()
        registry.gauge(.bufferedBytes).set(3)
        registry.counter(.configReloads, ["gone"]).increment()
        registry.removeSeries(where: "server", is: "gone")
        let samples = Self.scrape(registry).split(separator: "\n").filter { !$0.hasPrefix("#") }
        #expect(
            samples == [
                "mcp_proxy_buffered_bytes 3",
                #"mcp_proxy_child_restarts_total{server="stays"} 1"#,
                #"mcp_proxy_config_reloads_total{result="gone"} 1"#,
            ]
        )
        #expect(registry.counter(.childRestarts, ["gone"]).value == 0)
    }

    @Test("Every metric of the gateway has a legal name, a prefix, and the ending of its kind")
    func names() {
        #expect(Set(MetricDefinition.all.map(\.name)).count == MetricDefinition.all.count)
        for definition in MetricDefinition.all {
            #expect(definition.name.hasPrefix("mcp_proxy_"))
            #expect(definition.name.utf8.allSatisfy { $0 == UInt8(ascii: "_") || (0x61...0x7a).contains($0) })
            #expect(definition.name.hasSuffix("_total") == (definition.kind == .counter))
            #expect(!definition.help.isEmpty && definition.help.hasSuffix("."))
            #expect(Set(definition.labelNames).isDisjoint(with: ["le", "quantile"]))
        }
    }
}
