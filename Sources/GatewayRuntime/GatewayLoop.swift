// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayObservability
package import GatewayTransport
import GatewayWire
package import NIOCore
import Synchronization

/// What belongs to one event loop: its connections to every upstream, its timer, its clock.
///
/// Unchecked because nothing here is locked: after `init` every member is touched on `eventLoop` only.
package final class GatewayLoop: @unchecked Sendable {
    package let eventLoop: any EventLoop
    package let sweeper: LoopSweeper
    /// Calls, streams and whatever waits that began here and has not ended.
    private var exchanges = 0
    /// The same, for other threads to read.
    private let publishedExchanges = Atomic<Int>(0)
    /// One pool per HTTP upstream, by its index.
    private var pools: [UpstreamPool?] = []
    /// What all callers share of the upstreams that are at home here, by index.
    private var links: [Int: UpstreamLinks] = [:]
    private let allocator = ByteBufferAllocator()
    private var dateLine: (text: ByteBuffer, validUntil: NIODeadline) = (ByteBuffer(), .uptimeNanoseconds(0))

    package init(eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
        self.sweeper = LoopSweeper(eventLoop: eventLoop)
    }

    /// Called once, before the loop gets any work.
    func setUp(upstreams: [Upstream]) {
        self.pools = upstreams.map { upstream in
            guard case .http(let http) = upstream.transport else { return nil }
            return UpstreamPool(
                eventLoop: self.eventLoop,
                dialer: http.dialer,
                sweeper: self.sweeper,
                buffers: upstream.buffers,
                open: upstream.metrics.openConnections,
                idle: upstream.metrics.idleConnections
            )
        }
    }

    /// nil for an upstream that is no HTTP server.
    func pool(of upstream: Upstream) -> UpstreamPool? { self.pools[upstream.index] }

    /// The links that callers share of an upstream that is at home on this loop.
    func links(of upstream: Upstream) -> UpstreamLinks {
        if let links = self.links[upstream.index] { return links }
        let links = UpstreamLinks(upstream, settings: upstream.linkSettings, on: self)
        self.links[upstream.index] = links
        return links
    }

    /// A call, a stream or something that waits began, or ended; from here to there the loop looks at its deadlines.
    func began(_ exchange: any Sweepable) {
        self.exchanges += 1
        self.publishedExchanges.store(self.exchanges, ordering: .relaxed)
        self.sweeper.add(exchange)
    }

    func ended(_ exchange: any Sweepable) {
        guard exchange.sweepIndex >= 0 else { return }
        self.exchanges -= 1
        self.publishedExchanges.store(self.exchanges, ordering: .relaxed)
        self.sweeper.remove(exchange)
    }

    var exchangeCount: Int { self.publishedExchanges.load(ordering: .relaxed) }

    func closePools() {
        for pool in self.pools { pool?.close() }
    }

    /// Ends every shared link; `completion` hears when their upstreams are gone.
    func closeLinks(_ completion: @escaping () -> Void) {
        var left = self.links.count
        guard left > 0 else { return completion() }
        for links in self.links.values {
            links.close {
                left -= 1
                if left == 0 { completion() }
            }
        }
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
