// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayObservability

enum Colour: Int, MetricLabel {
    case red
    case green

    var metricLabel: String { "\(self)" }
}

enum Shape: Int, MetricLabel {
    case round
    case square
    case odd

    var metricLabel: String { "\(self)" }
}

@Suite("Counters and gauges") struct CounterTests {
    static let definition = MetricDefinition("things_total", .counter, help: "Things.", labels: ["server"])

    @Test("A counter adds, and never goes down", arguments: [(1, 1), (5, 5), (0, 0), (-1, 0), (Int.min, 0)])
    func adds(amount: Int, expected: Int) {
        let counter = MetricsRegistry().counter(Self.definition, ["a"])
        counter.increment(by: amount)
        #expect(counter.value == expected)
    }

    @Test("Asking twice for the same labels gives the same handle, other labels give another")
    func sameHandle() {
        let registry = MetricsRegistry()
        let first = registry.counter(Self.definition, ["a"])
        #expect(registry.counter(Self.definition, ["a"]) === first)
        #expect(registry.counter(Self.definition, ["b"]) !== first)
    }

    @Test("Increments from many threads are all counted")
    func concurrent() async {
        let registry = MetricsRegistry()
        let grid = registry.counters(
            MetricDefinition("pairs_total", .counter, help: "Pairs.", labels: ["colour", "shape"]),
            by: Colour.self,
            and: Shape.self
        )
        let counter = registry.counter(Self.definition, ["a"])
        await withTaskGroup { group in
            for _ in 0..<8 {
                group.addTask {
                    for _ in 0..<10_000 {
                        counter.increment()
                        grid.increment(.green, .odd)
                    }
                }
            }
        }
        #expect(counter.value == 80_000)
        #expect(grid.value(.green, .odd) == 80_000)
    }

    @Test("Each pair of a grid has its own counter", arguments: Colour.allCases, Shape.allCases)
    func grid(colour: Colour, shape: Shape) {
        let grid = CounterGrid<Colour, Shape>()
        grid.increment(colour, shape, by: 3)
        for row in Colour.allCases {
            for column in Shape.allCases {
                #expect(grid.value(row, column) == (row == colour && column == shape ? 3 : 0))
            }
        }
    }

    @Test("A gauge goes up and down and can be set")
    func gauge() {
        let gauge = MetricsRegistry().gauge(MetricDefinition("level", .gauge, help: "Level."))
        gauge.set(10)
        gauge.add(5)
        gauge.subtract(20)
        #expect(gauge.value == -5)
    }
}
