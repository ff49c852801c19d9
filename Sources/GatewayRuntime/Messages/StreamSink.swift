// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import NIOCore

/// A caller's session as upstream sessions know it that callers share: where the caller hears what it did not ask for.
protocol StreamSink: AnyObject, Sendable {
    /// The slot where what belongs to the caller's session as a whole goes.
    var home: CredentialID { get }
    /// A message of a slot's session as its caller may see it: questions have ids that no other has.
    func heard(_ message: ByteBuffer, by slot: CredentialID, depth: Int) -> ByteBuffer
    /// Sends a message on the stream that the caller listens on; returns whether there is one.
    ///
    /// `taken` is called, anywhere, when the message waits no longer to be sent.
    @discardableResult
    func deliver(_ message: ByteBuffer, taken: @escaping @Sendable () -> Void) -> Bool
}
