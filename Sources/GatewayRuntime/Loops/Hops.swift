// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import NIOCore

extension LoopResources {
    /// Runs on the loop, and gives back what came of it.
    func asked<Answer: Sendable>(_ body: @escaping @Sendable (LoopResources) -> Answer) async -> Answer {
        await withCheckedContinuation { continuation in
            self.eventLoop.execute { continuation.resume(returning: body(self)) }
        }
    }
}

extension NIOLoopBound {
    /// Runs on the value's event loop, from anywhere; at once if that is where the caller is.
    func execute(_ body: @escaping @Sendable (Value) -> Void) {
        if self.eventLoop.inEventLoop { return body(self.value) }
        self.eventLoop.execute { body(self.value) }
    }

    /// Runs on the value's event loop, and gives back what came of it.
    func asked<Answer: Sendable>(_ body: @escaping @Sendable (Value) -> Answer) async -> Answer {
        await withCheckedContinuation { continuation in self.execute { continuation.resume(returning: body($0)) } }
    }
}
