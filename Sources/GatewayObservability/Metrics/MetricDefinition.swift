// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What one metric is called, what it means and which labels it has.
///
/// There is one definition for each metric, in `MetricDefinition+Gateway.swift`: whoever moves it names it there.
package struct MetricDefinition: Hashable, Sendable {
    /// The types of the exposition format that are used here.
    package enum Kind: String, Sendable {
        case counter
        case gauge
        case histogram
    }

    /// With the prefix and, for counters, with `_total`: `mcp_proxy_requests_total`.
    package let name: String
    package let kind: Kind
    /// One sentence for the scrape; any text, it is escaped.
    package let help: String
    /// In the order in which values are given.
    package let labelNames: [String]

    package init(_ name: String, _ kind: Kind, help: String, labels: [String] = []) {
        self.name = name
        self.kind = kind
        self.help = help
        self.labelNames = labels
    }
}

/// A closed list of values of one label, so that a counter for each is found by an index instead of by a hash.
///
/// An enum with `Int` raw values that count from 0 gets `metricIndex` for free.
package protocol MetricLabel: CaseIterable, Sendable {
    /// The place in `allCases`.
    var metricIndex: Int { get }
    /// The value of the label in the scrape.
    var metricLabel: String { get }
}

extension MetricLabel where Self: RawRepresentable, RawValue == Int {
    package var metricIndex: Int { self.rawValue }
}
