// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The levels of `notifications/message`, from the least to the most severe (RFC 5424 §6.2.1; MCP, Logging).
package enum LogSeverity: String, CaseIterable, Comparable, Sendable {
    case debug
    case info
    case notice
    case warning
    case error
    case critical
    case alert
    case emergency

    package static func < (one: LogSeverity, other: LogSeverity) -> Bool { one.rank < other.rank }

    private var rank: Int {
        switch self {
        case .debug: 0
        case .info: 1
        case .notice: 2
        case .warning: 3
        case .error: 4
        case .critical: 5
        case .alert: 6
        case .emergency: 7
        }
    }
}
