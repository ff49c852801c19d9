// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// Something with samples of one metric.
protocol MetricSource: Sendable {
    /// Writes the samples of one series, or of one group of series whose first labels are `labels`.
    func write(to text: inout MetricsText, as definition: MetricDefinition, labels: [String])
}

/// All metrics of one process.
///
/// A handle is asked for once, where the configuration is loaded, and held by whoever moves it: asking costs a lock,
/// moving it costs an atomic addition. Asking twice for the same metric and labels gives the same handle. Asking with
/// the wrong number of labels, for another type of metric or with another definition of the same name is a mistake in
/// our own code and stops the process.
///
/// There is no façade of swift-metrics in front of it: nothing else in the process emits through one, and its handles
/// would cost a dynamic call for each increment.
package final class MetricsRegistry: Sendable {
    /// The media type of what `render` writes (Prometheus text exposition format).
    package static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    private struct Series {
        var labels: [String]
        var source: any MetricSource
    }

    /// All series of one metric, in the order of their labels.
    private struct Family {
        var definition: MetricDefinition
        var series: [Series]
    }

    /// In the order of names.
    private let families = Mutex<[Family]>([])

    package init() {}

    /// The counter for these label values, in the order of the definition's labels.
    package func counter(_ definition: MetricDefinition, _ labels: [String] = []) -> Counter {
        self.handle(definition, .counter, labels, missing: 0) { Counter() }
    }

    /// Counters for each value of the last label of the definition; `labels` are the values of those before it.
    package func counters<Label: MetricLabel>(
        _ definition: MetricDefinition,
        _ labels: [String] = [],
        by label: Label.Type
    ) -> CounterFamily<Label> {
        self.handle(definition, .counter, labels, missing: 1) { CounterFamily<Label>() }
    }

    /// Counters for each pair of values of the last two labels; `labels` are the values of those before them.
    package func counters<Row: MetricLabel, Column: MetricLabel>(
        _ definition: MetricDefinition,
        _ labels: [String] = [],
        by row: Row.Type,
        and column: Column.Type
    ) -> CounterGrid<Row, Column> {
        self.handle(definition, .counter, labels, missing: 2) { CounterGrid<Row, Column>() }
    }

    /// The gauge for these label values.
    package func gauge(_ definition: MetricDefinition, _ labels: [String] = []) -> Gauge {
        self.handle(definition, .gauge, labels, missing: 0) { Gauge() }
    }

    /// The histogram for these label values; `buckets` count when it is first asked for.
    package func histogram(
        _ definition: MetricDefinition,
        _ labels: [String] = [],
        buckets: Histogram.Buckets = .latency
    ) -> Histogram {
        self.handle(definition, .histogram, labels, missing: 0) { Histogram(buckets: buckets) }
    }

    /// Has a counter or a gauge read at each scrape; the last `read` for the same labels is the one that counts.
    ///
    /// `read` runs on the thread of the scrape, outside every lock of the registry, and must not block. nil leaves the
    /// sample out of this scrape.
    package func callback(
        _ definition: MetricDefinition,
        _ labels: [String] = [],
        read: @escaping @Sendable () -> Double?
    ) {
        precondition(definition.kind != .histogram, "a histogram cannot be read by a callback")
        precondition(labels.count == definition.labelNames.count, "one value for each label of \(definition.name)")
        self.families.withLock { families in
            let family = Self.family(of: definition, in: &families)
            let (index, found) = Self.place(of: labels, in: families[family].series)
            let series = Series(labels: labels, source: MetricCallback(read: read))
            if found {
                families[family].series[index] = series
            } else {
                families[family].series.insert(series, at: index)
            }
        }
    }

    /// Takes every series with this label out of the scrape, for what a reload removed.
    ///
    /// Handles that somebody still holds can be moved, to no effect; asking again gives new ones that begin at 0.
    package func removeSeries(where label: String, is value: String) {
        self.families.withLock { families in
            for index in families.indices {
                guard let place = families[index].definition.labelNames.firstIndex(of: label) else { continue }
                families[index].series.removeAll { place < $0.labels.count && $0.labels[place] == value }
            }
        }
    }

    /// Takes the series of one family out of the scrape whose first labels are these.
    ///
    /// Handles that somebody still holds can be moved, to no effect; asking again gives new ones that begin at 0.
    package func removeSeries(of definition: MetricDefinition, _ labels: [String]) {
        self.families.withLock { families in
            guard let index = families.firstIndex(where: { $0.definition.name == definition.name }) else { return }
            families[index].series.removeAll { $0.labels.starts(with: labels) }
        }
    }

    /// Appends everything in the Prometheus text format, version 0.0.4, in the order of names and labels.
    package func render(into output: inout [UInt8]) {
        let families = self.families.withLock { $0 }
        var text = MetricsText()
        for family in families where !family.series.isEmpty {
            text.begin(family.definition)
            for series in family.series {
                series.source.write(to: &text, as: family.definition, labels: series.labels)
            }
        }
        output.append(contentsOf: text.bytes)
    }

    /// Finds or makes a handle; `missing` is how many labels at the end the handle fills in by itself.
    private func handle<Handle: MetricSource>(
        _ definition: MetricDefinition,
        _ kind: MetricDefinition.Kind,
        _ labels: [String],
        missing: Int,
        make: () -> Handle
    ) -> Handle {
        precondition(definition.kind == kind, "\(definition.name) is a \(definition.kind.rawValue)")
        precondition(
            labels.count + missing == definition.labelNames.count,
            "one value for each label of \(definition.name)"
        )
        return self.families.withLock { families in
            let family = Self.family(of: definition, in: &families)
            let (index, found) = Self.place(of: labels, in: families[family].series)
            if found {
                guard let handle = families[family].series[index].source as? Handle else {
                    preconditionFailure("\(definition.name) was asked for as another type")
                }
                return handle
            }
            let handle = make()
            families[family].series.insert(Series(labels: labels, source: handle), at: index)
            return handle
        }
    }

    /// The index of the family, which is inserted if it is new.
    private static func family(of definition: MetricDefinition, in families: inout [Family]) -> Int {
        let index = families.firstIndex { $0.definition.name >= definition.name } ?? families.endIndex
        if index < families.endIndex && families[index].definition.name == definition.name {
            precondition(families[index].definition == definition, "two definitions of \(definition.name)")
            return index
        }
        families.insert(Family(definition: definition, series: []), at: index)
        return index
    }

    /// Where these labels are or belong.
    private static func place(of labels: [String], in series: [Series]) -> (index: Int, found: Bool) {
        var low = 0
        var high = series.count
        while low < high {
            let middle = (low + high) / 2
            if series[middle].labels.lexicographicallyPrecedes(labels) { low = middle + 1 } else { high = middle }
        }
        return (low, low < series.count && series[low].labels == labels)
    }
}
