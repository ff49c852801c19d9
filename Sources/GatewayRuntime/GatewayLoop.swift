// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayObservability
package import GatewayTransport
import GatewayWire
package import NIOCore

/// What belongs to one event loop: its connections to every upstream, its timer, its clock.
///
/// Unchecked because nothing here is locked: after `init` every member is touched on `eventLoop` only.
package final class GatewayLoop: @unchecked Sendable {
    package let eventLoop: any EventLoop
    package let sweeper: LoopSweeper
    /// One pool per upstream, by its index.
    private var pools: [UpstreamPool] = []
    private let allocator = ByteBufferAllocator()
    private var dateLine: (text: ByteBuffer, validUntil: NIODeadline) = (ByteBuffer(), .uptimeNanoseconds(0))

    package init(eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
        self.sweeper = LoopSweeper(eventLoop: eventLoop)
    }

    /// Called once, before the loop gets any work.
    func setUp(upstreams: [Upstream]) {
        self.pools = upstreams.map { upstream in
            UpstreamPool(
                eventLoop: self.eventLoop,
                dialer: upstream.dialer,
                sweeper: self.sweeper,
                open: upstream.metrics.openConnections,
                idle: upstream.metrics.idleConnections
            )
        }
    }

    func pool(of upstream: Upstream) -> UpstreamPool { self.pools[upstream.index] }

    func closePools() {
        for pool in self.pools { pool.close() }
    }

    package func buffer(capacity: Int) -> ByteBuffer { self.allocator.buffer(capacity: capacity) }

    /// `Date: …` with its line end, made at most once a second (RFC 9110 §6.6.1).
    package func dateField(now: NIODeadline) -> ByteBuffer {
        if now >= self.dateLine.validUntil {
            self.dateLine = (
                ByteBuffer(string: "Date: \(HTTPDate.text(nanoseconds: Platform.wallClock()))\r\n"), now + .seconds(1)
            )
        }
        return self.dateLine.text
    }
}
