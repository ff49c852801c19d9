// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
import GatewayObservability
package import GatewayTransport
import GatewayWire
package import NIOCore
import Synchronization

/// What belongs to one event loop: its timer, its clock, and the limits that its requests go by.
///
/// Unchecked because nothing here is locked: after `init` every member is touched on `eventLoop` only.
package final class LoopResources: @unchecked Sendable {
    package let eventLoop: any EventLoop
    /// Which of the event loops of a process it is, from 0 on: there are as many as at the start until the end.
    package let number: Int
    package let sweeper: LoopSweeper
    /// What is allowed to whatever begins on this loop now.
    ///
    /// Who needs one at each message reads it here; who needs one for longer takes it when it begins.
    // Unchecked: it is set between the events of the loop, when nobody reads it (decision 0014).
    @exclusivity(unchecked) package private(set) var limits = Limits()
    /// Calls, streams and whatever waits that began here and has not ended.
    private var exchanges = 0
    /// The same, for other threads to read.
    private let publishedExchanges = Atomic<Int>(0)
    private let allocator = ByteBufferAllocator()
    private var dateLine: (text: ByteBuffer, validUntil: NIODeadline) = (ByteBuffer(), .uptimeNanoseconds(0))

    package init(eventLoop: any EventLoop, number: Int = 0) {
        self.eventLoop = eventLoop
        self.number = number
        self.sweeper = LoopSweeper(eventLoop: eventLoop)
    }

    /// One for each event loop of a group.
    package static func all(of group: any EventLoopGroup) -> [LoopResources] {
        group.makeIterator().enumerated().map { LoopResources(eventLoop: $1, number: $0) }
    }

    /// Goes by other limits from now on.
    func goBy(_ limits: Limits) { self.limits = limits }

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

    /// Runs on the loop, from anywhere; at once if that is where the caller is.
    func run(_ body: @escaping @Sendable () -> Void) {
        if self.eventLoop.inEventLoop { body() } else { self.eventLoop.execute(body) }
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
