// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import NIOCore

// NIO fires events inside our own calls: a write that fails at once closes the channel, and before `flush` returns the
// handler has had the rest of the input (`channelRead`), `errorCaught` and `channelInactive`. A handler that runs on
// behind its call would do so with what those changed, and those would see what the handler had not yet written down.
// So the handler says when it is in such a call, and what comes meanwhile waits until the handler has returned.

/// The calls of one channel handler to its channel, and the events that NIO fired inside them: each is handled right
/// after on the event loop, in the order in which they came.
///
/// The handler puts `begin()` and `end()` around `write`, `flush`, `read`, and whatever else is not the last thing that
/// it does. Each event that it takes from NIO asks `mustWait` first, and goes to `keep(_:)` if it must. Confined to its
/// event loop.
package final class CallOuts {
    private let eventLoop: any EventLoop
    /// How many calls the handler is in.
    private var depth = 0
    /// What came inside them, and what came after that and before it was handled.
    private var kept: [() -> Void] = []

    package init(on eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
    }

    /// Whether an event that NIO fires now must wait: it is fired inside a call of the handler, or another one waits.
    package var mustWait: Bool { self.depth > 0 || !self.kept.isEmpty }

    /// The handler calls its channel now.
    package func begin() { self.depth += 1 }

    /// The call has returned.
    package func end() { self.depth -= 1 }

    /// Handles an event as soon as the handler has returned, and everything that waits already is handled.
    ///
    /// `handle` has to look at the state of that moment: a handler that was removed meanwhile has no context any more.
    package func keep(_ handle: @escaping () -> Void) {
        self.kept.append(handle)
        guard self.kept.count == 1 else { return }
        let calls = NIOLoopBound(self, eventLoop: self.eventLoop)
        self.eventLoop.execute { calls.value.handleKept() }
    }

    private func handleKept() {
        // One that is being handled is still listed, so that what comes meanwhile is listed behind it.
        var index = 0
        while index < self.kept.count {
            self.kept[index]()
            index += 1
        }
        self.kept.removeAll()
    }
}
