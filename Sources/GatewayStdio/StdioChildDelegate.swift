// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import NIOCore

/// What a child tells its owner; every call comes on the child's event loop.
package protocol StdioChildDelegate: AnyObject {
    /// The process runs and takes lines.
    func childStarted()

    /// One line of standard output without its line end, never empty.
    func childSent(_ line: ByteBuffer)

    /// No more lines at this moment: the time to flush.
    func childPaused()

    /// The process is gone (or never came to be): the last call.
    ///
    /// It never comes from within a call that the owner makes.
    func childEnded(_ ending: StdioChild.Ending)
}
