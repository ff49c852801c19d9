// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayTransport

/// What each event loop has of one upstream: its connections, and the settings that its calls go by.
///
/// Unchecked because nothing is locked: which lanes there are never changes, and each is touched on its own event loop only.
struct UpstreamLanes: @unchecked Sendable {
    /// What one event loop has.
    final class Lane {
        /// nil if the upstream is no HTTP server.
        let pool: UpstreamPool?
        var settings: UpstreamSettings

        init(_ pool: UpstreamPool?, _ settings: UpstreamSettings) {
            self.pool = pool
            self.settings = settings
        }
    }

    private let loops: [LoopResources]
    /// By the number of the event loop.
    private let lanes: [Lane]

    /// `dialer` is nil if the upstream is no HTTP server.
    init(
        _ dialer: Dialer?,
        _ settings: UpstreamSettings,
        _ metrics: UpstreamMetrics,
        _ buffers: BufferLedger,
        on loops: [LoopResources]
    ) {
        self.loops = loops
        self.lanes = loops.map { loop in
            let pool = dialer.map { dialer in
                UpstreamPool(
                    eventLoop: loop.eventLoop,
                    dialer: dialer,
                    sweeper: loop.sweeper,
                    buffers: buffers,
                    open: metrics.openConnections,
                    idle: metrics.idleConnections
                )
            }
            return Lane(pool, settings)
        }
    }

    /// That of an event loop, asked for and used there.
    subscript(loop: LoopResources) -> Lane { self.lanes[loop.number] }

    /// Gives other settings to what begins from now on.
    func tune(_ settings: UpstreamSettings) {
        for loop in self.loops {
            loop.run {
                self[loop].settings = settings
                self[loop].pool?.tune(connectTimeout: settings.limits.connectTimeout)
            }
        }
    }

    /// Closes what connections are idle now, and each other one when it is given back.
    func close() {
        for loop in self.loops { loop.run { self[loop].pool?.close() } }
    }
}

extension LoopResources {
    /// nil for an upstream that is no HTTP server.
    func pool(of upstream: Upstream) -> UpstreamPool? { upstream.lanes[self].pool }

    /// What calls of an upstream go by that begin now.
    func settings(of upstream: Upstream) -> UpstreamSettings { upstream.lanes[self].settings }
}
