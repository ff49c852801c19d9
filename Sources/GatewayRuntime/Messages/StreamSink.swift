// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// Where an upstream leaves what it says to one caller beside answers: the stream that the caller listens on, if there is
/// one. All that upstreams know of callers' sessions.
protocol StreamSink: AnyObject, Sendable {
    /// The slot in which the caller hears what is about no call of its own.
    var home: Int { get }

    /// A message as the caller knows what it names, where several slots speak to one caller.
    func heard(_ message: ByteBuffer, by slot: Int, depth: Int) -> ByteBuffer

    /// Sends a message; returns whether there is a stream.
    ///
    /// `taken` is called, anywhere, when the message waits no longer to be sent.
    @discardableResult
    func deliver(_ message: ByteBuffer, taken: @escaping @Sendable () -> Void) -> Bool
}

extension StreamSink {
    @discardableResult
    func deliver(_ message: ByteBuffer) -> Bool { self.deliver(message) {} }
}
