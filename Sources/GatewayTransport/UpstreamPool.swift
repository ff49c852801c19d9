// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayObservability
package import NIOCore

/// The connections of one event loop to one upstream: idle ones are reused newest first.
///
/// Confined to its event loop, so that a connection is always on the loop of the caller it serves and nothing is
/// locked. How many exchanges may run is decided before, by the upstream's limits.
package final class UpstreamPool: Sweepable {
    /// Below the 5 s of Node and uvicorn, so that we rather than they close first (faults F4).
    package static let idleLimit = TimeAmount.seconds(4)

    package var sweepIndex = -1
    package let eventLoop: any EventLoop
    private var dialer: Dialer
    private let sweeper: LoopSweeper
    /// Counts what is held of answers; nil: nobody counts.
    let buffers: BufferLedger?
    private var idle: [UpstreamConnection] = []
    private var dialing: [ObjectIdentifier: (connection: UpstreamConnection, deadline: NIODeadline)] = [:]
    private var isClosed = false
    private let openGauge: Gauge?
    private let idleGauge: Gauge?

    /// Connections that wait for a request, and those that are open at all.
    package var idleCount: Int { self.idle.count }
    package private(set) var openCount = 0

    /// `open` and `idle` count the connections of all loops together; `buffers` what they hold.
    package init(
        eventLoop: any EventLoop,
        dialer: Dialer,
        sweeper: LoopSweeper,
        buffers: BufferLedger? = nil,
        open: Gauge? = nil,
        idle: Gauge? = nil
    ) {
        self.openGauge = open
        self.idleGauge = idle
        self.eventLoop = eventLoop
        self.dialer = dialer
        self.sweeper = sweeper
        self.buffers = buffers
    }

    /// Gives connections that are opened from now on so much time.
    package func tune(connectTimeout: Duration) { self.dialer.timeout = TimeAmount(connectTimeout) }

    /// Finds or opens a connection; `receiver` hears of it, at once where one is idle.
    ///
    /// `isFresh` asks for a new one: what was sent on a kept-alive connection and failed is not sent on another.
    package func connect(for receiver: any UpstreamReceiver, isFresh: Bool = false) {
        while !isFresh, let connection = self.idle.popLast() {
            self.idleGauge?.subtract(1)
            guard connection.isUsable else {
                connection.close()
                continue
            }
            receiver.upstreamConnected(connection)
            return
        }
        let connection = UpstreamConnection(pool: self, receiver: receiver)
        if self.openCount == 0 { self.sweeper.add(self) }
        self.openCount += 1
        self.openGauge?.add(1)
        self.dialing[ObjectIdentifier(connection)] = (connection, .now() + self.dialer.timeout)
        self.dialer.dial(on: self.eventLoop, for: connection)
    }

    /// Closes what is idle now and whatever is given back from now on.
    package func close() {
        self.isClosed = true
        let idle = self.idle
        for connection in idle { connection.close() }
    }

    func release(_ connection: UpstreamConnection) {
        guard !self.isClosed else { return connection.close() }
        self.dialing[ObjectIdentifier(connection)] = nil
        connection.idleSince = .now()
        self.idle.append(connection)
        self.idleGauge?.add(1)
    }

    func connected(_ connection: UpstreamConnection) {
        self.dialing[ObjectIdentifier(connection)] = nil
    }

    /// Called once for each connection, when it closes.
    func forget(_ connection: UpstreamConnection) {
        self.dialing[ObjectIdentifier(connection)] = nil
        self.openCount -= 1
        self.openGauge?.subtract(1)
        guard self.openCount == 0 else { return }
        self.idleGauge?.subtract(self.idle.count)
        self.idle.removeAll()
        self.sweeper.remove(self)
    }

    private static let closesAtATime = 64

    package func sweep(now: NIODeadline) {
        for (connection, deadline) in self.dialing.values where deadline <= now { connection.dialTimedOut() }
        // Connections that closed by themselves stay listed until now, since looking for each would cost more than skipping
        // it here. Only some are closed in one sweep: closing takes time, in which nobody else on this loop is served.
        let due = self.idle.lazy.filter { $0.isIdle && $0.idleSince + $0.idleLimit <= now }.prefix(Self.closesAtATime)
        for connection in Array(due) { connection.close() }
        let before = self.idle.count
        self.idle.removeAll { !$0.isIdle }
        self.idleGauge?.subtract(before - self.idle.count)
    }
}
