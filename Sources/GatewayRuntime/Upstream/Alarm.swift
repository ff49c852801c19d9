// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import NIOCore
import Synchronization

/// A sleep that somebody can end early.
///
/// One sleeper at a time.
package final class Alarm: Sendable {
    private enum State {
        case idle
        /// Rung while nobody slept: the next sleep ends at once.
        case rung
        case asleep(CheckedContinuation<Bool, Never>)
    }

    private let state = Mutex(State.idle)
    /// Tells the timer of one sleep from that of another.
    private let sleeps = Atomic<Int>(0)

    package init() {}

    /// Ends the sleep that runs, or the next one.
    package func ring() {
        let sleeper: CheckedContinuation<Bool, Never>? = self.state.withLock { state in
            guard case .asleep(let continuation) = state else {
                state = .rung
                return nil
            }
            state = .idle
            return continuation
        }
        sleeper?.resume(returning: false)
    }

    /// Sleeps for `delay`, without end if nil, or until the task is cancelled; false if ended early.
    package func sleep(_ delay: Duration?, on eventLoop: any EventLoop) async -> Bool {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isRung = self.state.withLock { state in
                    if case .rung = state {
                        state = .idle
                        return true
                    }
                    state = .asleep(continuation)
                    self.sleeps.add(1, ordering: .relaxed)
                    return false
                }
                if isRung { return continuation.resume(returning: false) }
                if let delay { self.startTimer(delay, on: eventLoop) }
                // Cancelled before there was anybody to wake: the handler has run, or is about to find the sleeper.
                if Task.isCancelled { self.ring() }
            }
        } onCancel: {
            self.ring()
        }
    }

    private func startTimer(_ delay: Duration, on eventLoop: any EventLoop) {
        let sleep = self.sleeps.load(ordering: .relaxed)
        eventLoop.scheduleTask(in: TimeAmount(max(delay, .milliseconds(1)))) { self.ranOut(sleep) }
    }

    /// A timer of a sleep that is over already wakes nobody.
    private func ranOut(_ sleep: Int) {
        let sleeper: CheckedContinuation<Bool, Never>? = self.state.withLock { state in
            guard case .asleep(let continuation) = state, self.sleeps.load(ordering: .relaxed) == sleep else {
                return nil
            }
            state = .idle
            return continuation
        }
        sleeper?.resume(returning: true)
    }
}
