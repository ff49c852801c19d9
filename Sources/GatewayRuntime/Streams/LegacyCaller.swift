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
    /// Bytes that the stream was given and its connection has not taken.
    private let pending = Atomic<Int>(0)

    init(_ stream: NIOLoopBound<CallerStream>) {
        self.stream = stream
    }

    var isWritable: Bool { self.pending.load(ordering: .relaxed) < Self.window }

    func send(_ message: ByteBuffer) {
        self.pending.add(message.readableBytes, ordering: .relaxed)
        self.stream.execute { stream in
            stream.send(message)
            stream.flush()
            if stream.isWritable { self.taken() }
        }
    }

    /// The connection takes bytes again.
    func taken() { self.pending.store(0, ordering: .relaxed) }
}

/// Hears of the stream of such a caller: with it the session ends.
final class LegacyStreamSource: StreamSource {
    private let session: CallerSession
    private let onEnd: () -> Void

    init(_ session: CallerSession, onEnd: @escaping () -> Void) {
        self.session = session
        self.onEnd = onEnd
    }

    func streamBecameWritable() { self.session.messages?.taken() }
    func streamExpired() { self.onEnd() }
}

/// Stands for the answer to a POST of such a caller, which has been taken already: what would be its body is a message on
/// the stream.
final class MessageResponder: DownstreamResponder {
    let loop: GatewayLoop
    private let sink: any MessageSink

    init(loop: GatewayLoop, sink: any MessageSink) {
        self.loop = loop
        self.sink = sink
    }

    var messages: (any MessageSink)? { self.sink }
    var isWritable: Bool { self.sink.isWritable }

    func respond(status: Int, body: ByteBuffer?, fields: (inout ByteBuffer) -> Void) {
        if let body, body.readableBytes > 0 { self.sink.send(body) }
    }

    // Answers come as messages only.
    func begin(status: Int, length: Int?, fields: (inout ByteBuffer) -> Void) {}
    func send(_ bytes: ByteBuffer) {}
    func flush() {}
    func finish() {}
    func reset() {}
}
