// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import NIOCore
import Synchronization

/// What leads back to a caller of the 2024-11-05 transport: one stream for everything (MCP 2024-11-05, Transports).
///
/// Calls live on the event loops of the connections that brought them; the stream has its own.
final class LegacyReturn: MessageSink, Sendable {
    private static let window = 256 * 1024

    private let stream: NIOLoopBound<CallerStream>
    /// Bytes on their way to the stream's event loop, and how many may be, beside one message.
    private let inTransit = Atomic<Int>(0)
    private let limit: Int
    /// Whether the stream's connection takes no more.
    private let isFull = Atomic<Bool>(false)

    init(_ stream: NIOLoopBound<CallerStream>, limit: Int) {
        self.stream = stream
        self.limit = limit
    }

    var isWritable: Bool {
        !self.isFull.load(ordering: .relaxed) && self.inTransit.load(ordering: .relaxed) < Self.window
    }

    func send(_ message: ByteBuffer) {
        let count = message.readableBytes
        let before = self.inTransit.add(count, ordering: .relaxed).oldValue
        guard before <= self.limit else {
            // A caller that has lost one message can rely on none: its stream breaks, and it begins anew.
            self.inTransit.subtract(count, ordering: .relaxed)
            return self.stream.execute { $0.breakConnection() }
        }
        self.stream.execute { stream in
            self.inTransit.subtract(count, ordering: .relaxed)
            stream.send(message)
            stream.flush()
            if !stream.isWritable { self.isFull.store(true, ordering: .relaxed) }
        }
    }

    /// The connection takes bytes again, or there is none any more that could be slow.
    func taken() { self.isFull.store(false, ordering: .relaxed) }
}

/// Stands for the answer to a POST of such a caller, which has been taken already: what would be its body is a message on
/// the stream.
final class MessageResponder: DownstreamResponder {
    let loop: LoopResources
    private let sink: any MessageSink
    /// Told when the answer is out.
    private let onAnswer: () -> Void

    init(loop: LoopResources, sink: any MessageSink, onAnswer: @escaping () -> Void) {
        self.loop = loop
        self.sink = sink
        self.onAnswer = onAnswer
    }

    var messages: (any MessageSink)? { self.sink }
    var isWritable: Bool { self.sink.isWritable }

    func respond(status: Int, body: ByteBuffer?, fields: (inout ByteBuffer) -> Void) {
        self.onAnswer()
        if let body, body.readableBytes > 0 { self.sink.send(body) }
    }

    // Answers come as messages only.
    func begin(status: Int, length: Int?, fields: (inout ByteBuffer) -> Void) {}
    func send(_ bytes: ByteBuffer) {}
    func flush() {}
    func finish() {}
    func reset() {}
}
