// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import NIOCore

/// Who asked for a connection and sends one request on it: told everything that happens until the answer ends.
///
/// All calls come on the connection's event loop. After `upstreamEnded` or `upstreamFailed` nothing more comes for
/// this request, and the connection must not be used.
package protocol UpstreamReceiver: AnyObject {
    /// A connection stands; the receiver sends its request now, or gives the connection back with `release`.
    func upstreamConnected(_ connection: UpstreamConnection)
    /// The head of the final answer is there; readable from `connection.response` until this call returns.
    func upstreamAnswered(_ connection: UpstreamConnection)
    /// A part of the answer's body, framing removed.
    func upstreamSent(_ bytes: ByteBuffer)
    /// No more bytes at this moment: the time to flush what was relayed.
    func upstreamPaused()
    /// The answer is complete; the connection is back in its pool or closed.
    func upstreamEnded()
    func upstreamFailed(_ error: TransportError)
}
