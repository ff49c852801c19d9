// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import NIOCore

/// The right to answer one request, given out by the listener's connection and used on its event loop.
///
/// A request gets either one `respond`, or `begin`, any number of `send` and then `finish` or `reset`. Behind that, and
/// once the caller is gone, the right is revoked: what is said by it goes nowhere.
package protocol DownstreamResponder: StreamOutlet {
    var loop: LoopResources { get }
    /// Where messages that come before the answer go, if not into the answer itself.
    var messages: (any MessageSink)? { get }

    /// Sends a whole answer. `fields` appends field lines; length, date and connection are the responder's.
    func respond(status: Int, body: ByteBuffer?, fields: (inout ByteBuffer) -> Void)
    /// Starts an answer of `length` bytes, or of an unknown number.
    func begin(status: Int, length: Int?, fields: (inout ByteBuffer) -> Void)
}

/// Takes messages one by one, where several calls of a caller share what leads back to it.
package protocol MessageSink: AnyObject {
    /// Whether messages can be sent on without piling up.
    var isWritable: Bool { get }
    /// Whether the caller takes messages before its answers: not where it takes JSON alone.
    var takesMessages: Bool { get }
    func send(_ message: ByteBuffer)
    /// How many bytes of answers may be held until they are complete, beside those that are; negative: too many are.
    var room: Int { get }
    /// So many more bytes of answers are held until they are complete; negative: fewer.
    func holds(_ change: Int)
}

extension MessageSink {
    package var takesMessages: Bool { true }
    package var room: Int { .max / 2 }
    package func holds(_ change: Int) {}
}

/// What a connection holds while the runtime works on its request; called on its event loop.
package protocol DownstreamExchange: AnyObject {
    /// The caller went away (`isClosed`), or shut down its side.
    func downstreamLeft(isClosed: Bool)
    /// The caller takes bytes again.
    func downstreamBecameWritable()
    /// The caller took next to nothing for too long, or too much is held for it: its connection is broken.
    func downstreamIsSlow()
    /// The process ends: streams without an end of their own end now.
    func drain()
}

extension DownstreamResponder {
    package var messages: (any MessageSink)? { nil }

    /// Answers with a JSON body.
    package func respond(status: Int, json: [UInt8], fields: (inout ByteBuffer) -> Void = { _ in }) {
        self.respond(status: status, body: ByteBuffer(bytes: json)) { buffer in
            buffer.writeStaticString("Content-Type: application/json\r\n")
            fields(&buffer)
        }
    }
}
