// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import Logging

/// Writes the events of swift-log to a `LogOutput`: a constant message, everything else in metadata (contract §5).
///
/// Metadata become fields in the order of their names, `upstream` and `server` first and long texts last, so that a cut
/// line keeps the facts. Numbers and booleans are numbers and booleans in JSON.
package struct GatewayLogHandler: LogHandler {
    /// The depth to which lists and dictionaries are written.
    private static let depthLimit = 8
    /// Texts of more bytes than this come last.
    private static let longText = 256

    package var logLevel: Logger.Level
    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?
    private let output: LogOutput

    package init(_ output: LogOutput) {
        self.output = output
        self.logLevel = output.level
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { self.metadata[key] }
        set { self.metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        var metadata = self.metadata
        if let provided = self.metadataProvider?.get() { metadata.merge(provided) { $1 } }
        if let given = event.metadata { metadata.merge(given) { $1 } }
        if let error = event.error { metadata["error"] = .string("\(error)") }
        self.output.write(event.level, event.message.description) { line in
            for (name, value) in metadata.sorted(by: { Self.rank($0) < Self.rank($1) }) {
                line.field(name) { Self.write(value, to: &$0, depth: 0) }
            }
        }
    }

    private static func rank(_ entry: (key: String, value: Logger.MetadataValue)) -> (Int, String) {
        switch (entry.key, entry.value) {
        case ("upstream", _), ("server", _): (0, entry.key)
        case (_, .string(let text)) where text.utf8.count > Self.longText: (2, entry.key)
        case (_, .stringConvertible(let value)) where value is PeerText: (2, entry.key)
        case (_, .array), (_, .dictionary): (2, entry.key)
        default: (1, entry.key)
        }
    }

    private static func write(_ value: Logger.MetadataValue, to line: inout LogLine, depth: Int) {
        switch value {
        case .string(let text):
            Self.write(text.utf8.span, to: &line, depth: depth)
        case .stringConvertible(let value):
            if let peer = value as? PeerText {
                Self.write(peer.bytes.span, to: &line, depth: depth, isCut: peer.isCut)
            } else if let number = Self.number(value) {
                line.append(number: number)
            } else {
                Self.write(value.description.utf8.span, to: &line, depth: depth)
            }
        case .array, .dictionary:
            guard depth < Self.depthLimit else { return Self.write("…".utf8.span, to: &line, depth: depth) }
            Self.writeElements(of: value, to: &line, depth: depth + 1)
        }
    }

    /// Writes lists and dictionaries as JSON, in both forms of a line.
    private static func writeElements(of value: Logger.MetadataValue, to line: inout LogLine, depth: Int) {
        if case .array(let values) = value {
            line.append(values, in: ("[", "]")) { Self.write($1, to: &$0, depth: depth) }
        } else if case .dictionary(let values) = value {
            line.append(values.sorted { $0.key < $1.key }, in: ("{", "}")) { line, entry in
                line.append(text: entry.key.utf8.span, style: .json)
                line.append(number: ":")
                Self.write(entry.value, to: &line, depth: depth)
            }
        }
    }

    /// A text inside a list is always quoted.
    private static func write(_ text: Span<UInt8>, to line: inout LogLine, depth: Int, isCut: Bool = false) {
        if depth == 0 {
            line.append(value: text, isCut: isCut)
        } else {
            line.append(text: text, style: .json, isCut: isCut)
        }
    }

    /// The text of a number or of a boolean; nil: it is none, or none that JSON can write.
    private static func number(_ value: any CustomStringConvertible & Sendable) -> String? {
        switch value {
        case let integer as any BinaryInteger: integer.description
        case let double as Double where double.isFinite: double.description
        case let boolean as Bool: boolean ? "true" : "false"
        default: nil
        }
    }
}
