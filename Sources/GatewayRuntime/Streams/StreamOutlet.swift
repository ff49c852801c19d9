// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import NIOCore

/// What takes the bytes of a stream of events; confined to the event loop of the stream.
package protocol StreamOutlet: AnyObject {
    /// Whether bytes can be sent on without piling up.
    var isWritable: Bool { get }
    func send(_ bytes: ByteBuffer)
    func flush()
    /// Ends the stream in order.
    func finish()
    /// Breaks the connection, so that what was sent cannot be taken for all of it.
    func reset()
}

/// What fills a stream; told on the event loop of the stream.
protocol StreamSource: AnyObject {
    /// The outlet takes bytes again, or there is none any more that could be slow.
    func streamBecameWritable()
    /// The stream has another connection than the one that it began on.
    func streamMoved()
    /// The connection of the stream was lost; its caller may come back.
    func streamDetached()
    /// Nobody came back for the stream in time.
    func streamExpired()
}

extension StreamSource {
    func streamDetached() { self.streamBecameWritable() }
    func streamMoved() {}
}
