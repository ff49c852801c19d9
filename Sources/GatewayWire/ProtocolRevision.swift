// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A published revision of MCP, ordered by date: the raw value is its name on the wire.
package enum ProtocolRevision: String, Hashable, Sendable, CaseIterable, Comparable {
    case november2024 = "2024-11-05"
    case march2025 = "2025-03-26"
    case june2025 = "2025-06-18"
    case november2025 = "2025-11-25"
    case july2026 = "2026-07-28"

    /// Whether the revision has no `initialize` and no sessions: every request carries its envelope in `_meta`.
    package var isStateless: Bool { self >= .july2026 }

    /// Whether a message may be an array of messages: only in 2025-03-26 (`basic/index`, Batching).
    package var allowsBatches: Bool { self == .march2025 }

    package static func < (left: ProtocolRevision, right: ProtocolRevision) -> Bool { left.rawValue < right.rawValue }

    /// The revision of this name; nil for a name that is not one of them, byte for byte.
    package init?(_ name: Span<UInt8>) {
        let text = JSONString(content: 0..<name.count, isEscaped: false)
        guard name.count == 10 else { return nil }
        if text.equals("2025-11-25", in: name) {
            self = .november2025
        } else if text.equals("2026-07-28", in: name) {
            self = .july2026
        } else if text.equals("2025-06-18", in: name) {
            self = .june2025
        } else if text.equals("2025-03-26", in: name) {
            self = .march2025
        } else if text.equals("2024-11-05", in: name) {
            self = .november2024
        } else {
            return nil
        }
    }

    /// The revision that a JSON string names, decoded; nil for any other text.
    package init?(_ name: JSONString, in bytes: Span<UInt8>) {
        if name.isEscaped {
            guard name.content.count <= 60 else { return nil }
            self.init(name.decodedBytes(in: bytes).span)
        } else {
            self.init(bytes.extracting(name.content))
        }
    }
}
