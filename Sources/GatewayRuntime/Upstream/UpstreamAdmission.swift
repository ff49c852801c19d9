// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import GatewayModel
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
        var deadline: NIODeadline
        /// Called once with whether there is a place now.
        let admitted: @Sendable (Bool) -> Void
    }

    private struct Line {
        /// How many may wait, and how long.
        var limit: Int
        var time: TimeAmount
        /// In the order of their deadlines, which is that in which they came.
        var waiters: Deque<Waiter> = []
        /// When the timer fires that ends the wait of the first, if it is still there; nil: none runs.
        var timer: NIODeadline?

        /// Whose wait a timer has to be set for; nil if one fires in time, or if nobody waits.
        mutating func untimed() -> Waiter? {
            guard let first = self.waiters.first, self.timer.map({ first.deadline < $0 }) ?? true else { return nil }
            self.timer = first.deadline
            return first
        }
    }

    private let capacity: Atomic<Int>
    private let running = Atomic<Int>(0)
    private let waiting = Atomic<Int>(0)
    private let line: Mutex<Line>
    private let tickets = Atomic<UInt64>(0)

    init(_ limits: Limits) {
        self.capacity = Atomic(limits.inFlightPerUpstream)
        self.line = Mutex(Line(limit: limits.queuePerUpstream, time: TimeAmount(limits.queueWait)))
    }

    /// Goes by other limits from now on.
    ///
    /// Whoever has a place keeps it, and whoever is in line stays there, but for no longer than somebody who came now.
    func tune(_ limits: Limits) {
        self.capacity.store(limits.inFlightPerUpstream, ordering: .relaxed)
        let time = TimeAmount(limits.queueWait)
        let untimed = self.line.withLock { line in
            line.limit = limits.queuePerUpstream
            line.time = time
            let deadline = NIODeadline.now() + time
            for index in line.waiters.indices where line.waiters[index].deadline > deadline {
                line.waiters[index].deadline = deadline
            }
            return line.untimed()
        }
        self.setTimer(for: untimed)
        if self.waiting.load(ordering: .acquiring) > 0 { self.admitWaiting() }
    }

    var runningCount: Int { self.running.load(ordering: .relaxed) }

    /// Takes a place if one is free and nobody waits.
    func enter() -> Bool {
        guard self.waiting.load(ordering: .acquiring) == 0 else { return false }
        return self.take()
    }

    private func take() -> Bool {
        if self.running.add(1, ordering: .acquiringAndReleasing).newValue <= self.capacity.load(ordering: .relaxed) {
            return true
        }
        self.running.subtract(1, ordering: .acquiringAndReleasing)
        return false
    }

    /// Gets in line; returns the ticket by which the waiter can leave it, or nil if the line is full.
    func wait(on eventLoop: any EventLoop, _ admitted: @escaping @Sendable (Bool) -> Void) -> UInt64? {
        let ticket = self.tickets.add(1, ordering: .relaxed).newValue
        let (isInLine, untimed): (Bool, Waiter?) = self.line.withLock { line in
            guard line.waiters.count < line.limit else { return (false, nil) }
            let deadline = NIODeadline.now() + line.time
            line.waiters.append(
                Waiter(ticket: ticket, eventLoop: eventLoop, deadline: deadline, admitted: admitted)
            )
            self.waiting.store(line.waiters.count, ordering: .releasing)
            return (true, line.untimed())
        }
        guard isInLine else { return nil }
        self.setTimer(for: untimed)
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

    private func setTimer(for waiter: Waiter?) {
        guard let waiter else { return }
        waiter.eventLoop.scheduleTask(deadline: waiter.deadline) { self.expire(waiter.deadline) }
    }

    /// The timer fired that was set to this moment.
    private func expire(_ deadline: NIODeadline) {
        let now = NIODeadline.now()
        let (late, untimed): ([Waiter], Waiter?) = self.line.withLock { line in
            var late: [Waiter] = []
            // Another one was set since then.
            guard line.timer == deadline else { return (late, nil) }
            while let first = line.waiters.first, first.deadline <= now {
                late.append(first)
                line.waiters.removeFirst()
            }
            self.waiting.store(line.waiters.count, ordering: .releasing)
            line.timer = nil
            return (late, line.untimed())
        }
        self.setTimer(for: untimed)
        for waiter in late { waiter.eventLoop.execute { waiter.admitted(false) } }
    }
}
