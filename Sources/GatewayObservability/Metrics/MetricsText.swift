// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Writes samples in the Prometheus text exposition format, version 0.0.4.
struct MetricsText {
    /// The value of a bucket's `le` label.
    enum Bound {
        case nanoseconds(Int64)
        case infinity
    }

    private(set) var bytes: [UInt8] = []

    /// Begins a metric: `# HELP` and `# TYPE`.
    mutating func begin(_ definition: MetricDefinition) {
        self.append("# HELP ")
        self.append(definition.name)
        self.append(" ")
        self.append(definition.help, escaping: false)
        self.append("\n# TYPE ")
        self.append(definition.name)
        self.append(" ")
        self.append(definition.kind.rawValue)
        self.append("\n")
    }

    mutating func sample(
        _ definition: MetricDefinition,
        suffix: String = "",
        labels: [String],
        bound: Bound? = nil,
        integer: Int
    ) {
        self.key(definition, suffix: suffix, labels: labels, bound: bound)
        self.append(String(integer))
        self.append("\n")
    }

    mutating func sample(_ definition: MetricDefinition, suffix: String, labels: [String], nanoseconds: Int) {
        self.key(definition, suffix: suffix, labels: labels, bound: nil)
        self.append(seconds: Int64(nanoseconds))
        self.append("\n")
    }

    mutating func sample(_ definition: MetricDefinition, labels: [String], double: Double) {
        self.key(definition, suffix: "", labels: labels, bound: nil)
        self.append(Self.text(of: double))
        self.append("\n")
    }

    /// A number as the format wants it: whole numbers without a fraction, `NaN`, `+Inf`, `-Inf`.
    static func text(of value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        if let whole = Int64(exactly: value), whole.magnitude <= 1 << 53 { return String(whole) }
        return value.description
    }

    /// Name and labels up to the space before the value.
    private mutating func key(_ definition: MetricDefinition, suffix: String, labels: [String], bound: Bound?) {
        self.append(definition.name)
        self.append(suffix)
        var separator = "{"
        for (name, value) in zip(definition.labelNames, labels) {
            self.append(separator)
            self.append(name)
            self.append("=\"")
            self.append(value, escaping: true)
            self.append("\"")
            separator = ","
        }
        if let bound {
            self.append(separator)
            self.append("le=\"")
            switch bound {
            case .nanoseconds(let nanoseconds): self.append(seconds: nanoseconds)
            case .infinity: self.append("+Inf")
            }
            self.append("\"")
            separator = ","
        }
        self.append(separator == "{" ? " " : "} ")
    }

    private mutating func append(_ text: String) {
        self.bytes.append(contentsOf: text.utf8)
    }

    /// Escapes a backslash and a line feed, and in label values a quote.
    private mutating func append(_ text: String, escaping quotes: Bool) {
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\\"): self.append("\\\\")
            case UInt8(ascii: "\n"): self.append("\\n")
            case UInt8(ascii: "\"") where quotes: self.append("\\\"")
            default: self.bytes.append(byte)
            }
        }
    }

    /// Nanoseconds as seconds, exactly, without zeros at the end: `0.005`, `2.5`, `300`.
    private mutating func append(seconds nanoseconds: Int64) {
        if nanoseconds < 0 { self.append("-") }
        let (whole, rest) = nanoseconds.magnitude.quotientAndRemainder(dividingBy: 1_000_000_000)
        self.append(String(whole))
        guard rest != 0 else { return }
        var digits = String(rest)
        digits = "." + String(repeating: "0", count: 9 - digits.count) + digits
        while digits.last == "0" { digits.removeLast() }
        self.append(digits)
    }
}
