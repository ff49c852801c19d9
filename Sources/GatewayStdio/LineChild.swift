// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import Logging
package import NIOCore

/// A child as its owner uses it, on one event loop: lines both ways, and an end that a ``StdioChildDelegate`` hears of.
///
/// It is a ``StdioChild``, except in tests that need no process.
package protocol LineChild: AnyObject {
    /// Whether it runs only to be asked what it speaks.
    var isTrial: Bool { get set }
    /// The last lines of its standard error, for the log; nil: it said nothing.
    var lastErrors: Logger.MetadataValue? { get }
    /// When it last wrote anything; its beginning if it never did.
    var lastOutput: NIODeadline { get }
    /// Bytes that it was sent and has not read.
    var pendingBytes: Int { get }
    /// Whether nothing is read from it.
    var isReadingPaused: Bool { get set }

    /// Starts it, once.
    func start()
    /// Writes a message as a line; `written` hears whether every byte went out.
    func send(_ message: ByteBuffer, written: (@Sendable (Bool) -> Void)?)
    /// Ends it in order.
    func stop()
    /// Ends it at once.
    func kill()
}

extension StdioChild: LineChild {}
