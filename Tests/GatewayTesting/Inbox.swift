// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import NIOCore
import NIOPosix
import Synchronization

/// Something that a test waited for did not come.
package struct TestTimeout: Error, CustomStringConvertible {
    package let description: String

    package init(description: String) {
        self.description = description
    }
}

/// State that changes from event loops and that a test waits for: every wait ends, with the state it asked for or with
/// an error that says what was missing.
package final class Inbox<State: Sendable>: Sendable {
    private struct Waiter {
        let number: Int
        let look: (inout State) -> Bool
        let continuation: CheckedContinuation<Bool, Never>
    }

    private struct Shelf: ~Copyable {
        var state: State
        var waiters: [Waiter] = []
        var next = 0
    }

    private let shelf: Mutex<Shelf>

    package init(_ state: State) {
        self.shelf = Mutex(Shelf(state: state))
    }

    /// The state as it is.
    package var now: State { self.shelf.withLock { $0.state } }

    /// Changes the state and wakes whoever waits for what it is now.
    package func change(_ body: (inout State) -> Void) {
        let woken = self.shelf.withLock { shelf in
            body(&shelf.state)
            var woken: [CheckedContinuation<Bool, Never>] = []
            shelf.waiters.removeAll { waiter in
                guard waiter.look(&shelf.state) else { return false }
                woken.append(waiter.continuation)
                return true
            }
            return woken
        }
        for continuation in woken { continuation.resume(returning: true) }
    }

    /// Waits until `take` gives a value; it may take something out of the state.
    ///
    /// - Throws: ``TestTimeout`` with `what` and the state after `seconds`.
    package func wait<Value: Sendable>(
        _ what: String,
        seconds: Int64 = 20,
        _ take: @escaping @Sendable (inout State) -> Value?
    ) async throws -> Value {
        let found = Mutex<Value?>(nil)
        let look: @Sendable (inout State) -> Bool = { state in
            guard let value = take(&state) else { return false }
            found.withLock { $0 = value }
            return true
        }
        let isFound = await withCheckedContinuation { continuation in
            let number: Int? = self.shelf.withLock { shelf in
                guard !look(&shelf.state) else { return nil }
                shelf.next += 1
                shelf.waiters.append(Waiter(number: shelf.next, look: look, continuation: continuation))
                return shelf.next
            }
            guard let number else { return continuation.resume(returning: true) }
            MultiThreadedEventLoopGroup.singleton.next().scheduleTask(in: .seconds(seconds)) { self.giveUp(number) }
        }
        guard isFound, let value = found.withLock({ $0 }) else {
            throw TestTimeout(
                description: "waited \(seconds) s for \(what); there is \(String("\(self.now)".prefix(2000)))"
            )
        }
        return value
    }

    private func giveUp(_ number: Int) {
        let waiter: CheckedContinuation<Bool, Never>? = self.shelf.withLock { shelf in
            guard let index = shelf.waiters.firstIndex(where: { $0.number == number }) else { return nil }
            return shelf.waiters.remove(at: index).continuation
        }
        waiter?.resume(returning: false)
    }
}
