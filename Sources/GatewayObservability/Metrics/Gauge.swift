// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// A whole number that goes up and down; one relaxed atomic operation each time.
package final class Gauge: Sendable {
    private let cell = Atomic<Int>(0)

    package init() {}

    package func set(_ value: Int) { self.cell.store(value, ordering: .relaxed) }

    /// Adds `amount`, which may be negative.
    package func add(_ amount: Int) { self.cell.wrappingAdd(amount, ordering: .relaxed) }

    package func subtract(_ amount: Int) { self.cell.wrappingSubtract(amount, ordering: .relaxed) }

    package var value: Int { self.cell.load(ordering: .relaxed) }
}

extension Gauge: MetricSource {
    func write(to text: inout MetricsText, as definition: MetricDefinition, labels: [String]) {
        text.sample(definition, labels: labels, integer: self.value)
    }
}

/// A number that is read when it is scraped.
struct MetricCallback: MetricSource {
    /// nil leaves the sample out.
    let read: @Sendable () -> Double?

    func write(to text: inout MetricsText, as definition: MetricDefinition, labels: [String]) {
        guard let value = self.read() else { return }
        text.sample(definition, labels: labels, double: value)
    }
}
