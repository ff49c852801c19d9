// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// A number that only grows; one relaxed atomic addition each time.
package final class Counter: Sendable {
    private let cell = Atomic<Int>(0)

    init() {}

    /// Adds `amount`; a negative one is not added.
    package func increment(by amount: Int = 1) {
        guard amount > 0 else { return }
        self.cell.wrappingAdd(amount, ordering: .relaxed)
    }

    package var value: Int { self.cell.load(ordering: .relaxed) }
}

extension Counter: MetricSource {
    func write(to text: inout MetricsText, as definition: MetricDefinition, labels: [String]) {
        text.sample(definition, labels: labels, integer: self.value)
    }
}

/// One counter for each value of a label.
///
/// All of them are in the scrape from the start, so that a rate can be taken of the first increment.
package final class CounterFamily<Label: MetricLabel>: Sendable {
    private let cells: AtomicCells
    private let labels: [String]

    init() {
        self.labels = Label.allCases.map(\.metricLabel)
        self.cells = AtomicCells(count: self.labels.count)
        precondition(
            zip(Label.allCases, 0...).allSatisfy { $0.metricIndex == $1 },
            "metricIndex counts allCases from 0"
        )
    }

    /// Adds `amount`; a negative one is not added.
    package func increment(_ label: Label, by amount: Int = 1) {
        guard amount > 0 else { return }
        self.cells.add(amount, at: label.metricIndex)
    }

    package func value(_ label: Label) -> Int { self.cells.load(at: label.metricIndex) }
}

extension CounterFamily: MetricSource {
    func write(to text: inout MetricsText, as definition: MetricDefinition, labels: [String]) {
        for (index, label) in self.labels.enumerated() {
            text.sample(definition, labels: labels + [label], integer: self.cells.load(at: index))
        }
    }
}

/// One counter for each pair of values of two labels.
///
/// Only those that moved are in the scrape: most pairs never occur.
package final class CounterGrid<Row: MetricLabel, Column: MetricLabel>: Sendable {
    private let cells: AtomicCells
    private let rows: [String]
    private let columns: [String]

    init() {
        self.rows = Row.allCases.map(\.metricLabel)
        self.columns = Column.allCases.map(\.metricLabel)
        self.cells = AtomicCells(count: self.rows.count * self.columns.count)
        precondition(
            zip(Row.allCases, 0...).allSatisfy { $0.metricIndex == $1 }
                && zip(Column.allCases, 0...).allSatisfy { $0.metricIndex == $1 },
            "metricIndex counts allCases from 0"
        )
    }

    /// Adds `amount`; a negative one is not added.
    package func increment(_ row: Row, _ column: Column, by amount: Int = 1) {
        guard amount > 0 else { return }
        self.cells.add(amount, at: row.metricIndex * self.columns.count + column.metricIndex)
    }

    package func value(_ row: Row, _ column: Column) -> Int {
        self.cells.load(at: row.metricIndex * self.columns.count + column.metricIndex)
    }
}

extension CounterGrid: MetricSource {
    func write(to text: inout MetricsText, as definition: MetricDefinition, labels: [String]) {
        for (row, rowLabel) in self.rows.enumerated() {
            for (column, columnLabel) in self.columns.enumerated() {
                let value = self.cells.load(at: row * self.columns.count + column)
                guard value != 0 else { continue }
                text.sample(definition, labels: labels + [rowLabel, columnLabel], integer: value)
            }
        }
    }
}
