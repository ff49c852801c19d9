// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// Sends messages of the gateway's own a few at a time: a session with a thousand subscriptions must not come back to its
/// upstream as a flood of requests, each with a connection of its own.
///
/// Confined to its event loop.
final class PacedSending {
    /// Messages that are under way at a time.
    static let atATime = 8

    private var rest: ArraySlice<[UInt8]>
    private let loop: LoopResources
    private let send: ([UInt8], @escaping () -> Void) -> Void

    private init(
        _ rest: ArraySlice<[UInt8]>,
        on loop: LoopResources,
        _ send: @escaping ([UInt8], @escaping () -> Void) -> Void
    ) {
        self.rest = rest
        self.loop = loop
        self.send = send
    }

    /// Calls `send` for each of these in order, on `loop`, where this is called; it calls back when the message is over.
    static func run(
        _ subjects: [[UInt8]],
        on loop: LoopResources,
        _ send: @escaping ([UInt8], @escaping () -> Void) -> Void
    ) {
        let sending = PacedSending(subjects[...], on: loop, send)
        for _ in 0..<Self.atATime { sending.next() }
    }

    private func next() {
        guard let subject = self.rest.popFirst() else { return }
        let sending = NIOLoopBound(self, eventLoop: self.loop.eventLoop)
        // Later: a message can be over at once, and so could all that follow, one inside the other.
        self.send(subject) { sending.eventLoop.execute { sending.value.next() } }
    }
}
