// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// Durations sorted into fixed buckets; two relaxed atomic additions each.
///
/// The sum is kept in nanoseconds in 64 bits and starts again at 0 after 292 years of added time, which a scraper takes
/// for a restart.
package final class Histogram: Sendable {
    /// The upper bounds of the buckets, each included, in rising order; the last bucket, without a bound, is implied.
    package struct Buckets: Hashable, Sendable {
        let bounds: [Int64]

        package init(_ bounds: [Duration]) {
            self.bounds = bounds.map(\.wholeNanoseconds)
            precondition(zip(self.bounds, self.bounds.dropFirst()).allSatisfy(<), "bounds rise")
        }

        /// From what a gateway adds by itself to the longest answer that is usual.
        package static let latency = Buckets([
            .milliseconds(1), .milliseconds(5), .milliseconds(25), .milliseconds(100), .milliseconds(250),
            .milliseconds(500), .seconds(1), .milliseconds(2500), .seconds(5), .seconds(10), .seconds(30), .seconds(60),
            .seconds(300),
        ])
    }

    private let bounds: [Int64]
    /// One for each bound, and one for what is above all of them.
    private let cells: AtomicCells
    private let sum = Atomic<Int>(0)

    init(buckets: Buckets) {
        self.bounds = buckets.bounds
        self.cells = AtomicCells(count: buckets.bounds.count + 1)
    }

    /// Counts one duration; a negative one counts as 0.
    package func observe(_ duration: Duration) {
        self.observe(nanoseconds: duration.wholeNanoseconds)
    }

    /// Counts one duration in nanoseconds; a negative one counts as 0.
    package func observe(nanoseconds: Int64) {
        let nanoseconds = max(0, nanoseconds)
        var index = 0
        while index < self.bounds.count && self.bounds[index] < nanoseconds { index += 1 }
        self.cells.add(1, at: index)
        self.sum.wrappingAdd(Int(nanoseconds), ordering: .relaxed)
    }

    /// How many durations were counted.
    package var count: Int {
        (0..<self.cells.count).reduce(0) { $0 &+ self.cells.load(at: $1) }
    }
}

extension Histogram: MetricSource {
    func write(to text: inout MetricsText, as definition: MetricDefinition, labels: [String]) {
        var total = 0
        for (index, bound) in self.bounds.enumerated() {
            total &+= self.cells.load(at: index)
            text.sample(definition, suffix: "_bucket", labels: labels, bound: .nanoseconds(bound), integer: total)
        }
        total &+= self.cells.load(at: self.bounds.count)
        text.sample(definition, suffix: "_bucket", labels: labels, bound: .infinity, integer: total)
        text.sample(definition, suffix: "_sum", labels: labels, nanoseconds: self.sum.load(ordering: .relaxed))
        text.sample(definition, suffix: "_count", labels: labels, integer: total)
    }
}

extension Duration {
    /// Whole nanoseconds, rounded towards zero; what does not fit is the nearest value that does.
    var wholeNanoseconds: Int64 {
        let (seconds, attoseconds) = self.components
        let (scaled, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        if overflow { return seconds < 0 ? .min : .max }
        let (sum, carried) = scaled.addingReportingOverflow(attoseconds / 1_000_000_000)
        if carried { return seconds < 0 ? .min : .max }
        return sum
    }
}
