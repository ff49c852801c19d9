// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
import Logging

/// What can change of an upstream while it lives: nothing that is begun has to end for it.
///
/// Each event loop has the settings at hand; who is on none asks the upstream for them.
package final class UpstreamSettings: Sendable {
    /// How long one request may take.
    package let timeout: Duration
    /// How long the upstream may be idle before it is probed; nil: never.
    package let pingInterval: Duration?
    package let autoReconnect: Bool
    package let reconnectInterval: Duration
    /// Whether calls are written to the access log.
    package let isLogEnabled: Bool
    /// Whether the start fails if the upstream cannot be initialised.
    package let panicIfInvalid: Bool
    /// Which tools are hidden; nil: none.
    package let toolFilter: ToolFilterWatch?
    /// What is allowed to the upstream, and to those who call it.
    package let limits: Limits

    /// `last` are the settings before these: a filter that is the same goes on with what it knows.
    init(
        _ configuration: UpstreamConfiguration,
        _ limits: Limits,
        after last: UpstreamSettings? = nil,
        logger: Logger
    ) {
        self.timeout = configuration.timeout
        self.pingInterval = configuration.pingInterval
        self.autoReconnect = configuration.autoReconnect
        self.reconnectInterval = configuration.reconnectInterval
        self.isLogEnabled = configuration.isLogEnabled
        self.panicIfInvalid = configuration.panicIfInvalid
        self.toolFilter =
            if let last = last?.toolFilter, last.filter == configuration.toolFilter {
                last
            } else {
                configuration.toolFilter.map { ToolFilterWatch($0, upstream: configuration.name, logger: logger) }
            }
        self.limits = limits
    }

    /// The same settings with other limits.
    init(_ settings: UpstreamSettings, _ limits: Limits) {
        self.timeout = settings.timeout
        self.pingInterval = settings.pingInterval
        self.autoReconnect = settings.autoReconnect
        self.reconnectInterval = settings.reconnectInterval
        self.isLogEnabled = settings.isLogEnabled
        self.panicIfInvalid = settings.panicIfInvalid
        self.toolFilter = settings.toolFilter
        self.limits = limits
    }
}
