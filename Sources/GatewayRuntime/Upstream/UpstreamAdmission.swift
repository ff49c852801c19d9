// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import NIOCore
import Synchronization

/// How many exchanges run at one upstream at a time, over all event loops; more wait in line for a while.
///
/// `limits.inFlightPerUpstream`, `queuePerUpstream`, `queueWait` (contract §6). Passing the gate costs one atomic
/// addition; the lock is taken only while somebody waits.
final class UpstreamAdmission: Sendable {
    /// Somebody who waits: told on its own event loop.
    struct Waiter: Sendable {
        /// Its place in line, by which it can leave.
        let ticket: UInt64
        let eventLoop: any EventLoop
        let deadline: NIODeadline
        /// Called once with whether there is a place now.
        let admitted: @Sendable (Bool) -> Void
    }

    private struct Line {
        /// In the order of their deadlines, which is that in which they came.
        var waiters: Deque<Waiter> = []
        /// Whether a timer runs that ends the wait of the first, if it is still there.
        var isTimed = false
    }

    private let capacity: Int
    private let queueLimit: Int
    private let queueWait: TimeAmount
    private let running = Atomic<Int>(0)
    private let waiting = Atomic<Int>(0)
    private let line = Mutex(Line())
    private let tickets = Atomic<UInt64>(0)

    init(capacity: Int, queue: Int, queueWait: TimeAmount) {
        self.capacity = capacity
        self.queueLimit = queue
        self.queueWait = queueWait
    }

    var runningCount: Int { self.running.load(ordering: .relaxed) }

    /// Takes a place if one is free and nobody waits.
    func enter() -> Bool {
        guard self.waiting.load(ordering: .acquiring) == 0 else { return false }
        return self.take()
    }

    private func take() -> Bool {
        if self.running.add(1, ordering: .acquiringAndReleasing).newValue <= self.capacity { return true }
        self.running.subtract(1, ordering: .acquiringAndReleasing)
        return false
    }

    /// Gets in line; returns the ticket by which the waiter can leave it, or nil if the line is full.
    func wait(on eventLoop: any EventLoop, _ admitted: @escaping @Sendable (Bool) -> Void) -> UInt64? {
        let ticket = self.tickets.add(1, ordering: .relaxed).newValue
        let deadline = NIODeadline.now() + self.queueWait
        let waiter = Waiter(ticket: ticket, eventLoop: eventLoop, deadline: deadline, admitted: admitted)
        let isTimed: Bool? = self.line.withLock { line in
            guard line.waiters.count < self.queueLimit else { return nil }
            line.waiters.append(waiter)
            self.waiting.store(line.waiters.count, ordering: .releasing)
            defer { line.isTimed = true }
            return line.isTimed
        }
        guard let isTimed else { return nil }
        if !isTimed { eventLoop.scheduleTask(deadline: deadline) { self.expire() } }
        // A place may have come free between the caller's look and its getting in line.
        self.admitWaiting()
        return ticket
    }

    /// Takes a waiter out of the line that wants no place any more; it may have been told of one already.
    func leaveLine(_ ticket: UInt64) {
        self.line.withLock { line in
            line.waiters.removeAll { $0.ticket == ticket }
            self.waiting.store(line.waiters.count, ordering: .releasing)
        }
    }

    /// Whether anybody waits.
    var waitingCount: Int { self.waiting.load(ordering: .relaxed) }

    /// Gives a place back.
    func leave() {
        self.running.subtract(1, ordering: .acquiringAndReleasing)
        if self.waiting.load(ordering: .acquiring) > 0 { self.admitWaiting() }
    }

    private func admitWaiting() {
        while true {
            let next: Waiter? = self.line.withLock { line in
                guard !line.waiters.isEmpty, self.take() else { return nil }
                let waiter = line.waiters.removeFirst()
                self.waiting.store(line.waiters.count, ordering: .releasing)
                return waiter
            }
            guard let next else { return }
            next.eventLoop.execute { next.admitted(true) }
        }
    }

    private func expire() {
        let now = NIODeadline.now()
        let (late, next) = self.line.withLock { line in
            var late: [Waiter] = []
            while let first = line.waiters.first, first.deadline <= now {
                late.append(first)
                line.waiters.removeFirst()
            }
            self.waiting.store(line.waiters.count, ordering: .releasing)
            line.isTimed = !line.waiters.isEmpty
            return (late, line.waiters.first)
        }
        if let next { next.eventLoop.scheduleTask(deadline: next.deadline) { self.expire() } }
        for waiter in late { waiter.eventLoop.execute { waiter.admitted(false) } }
    }
}
