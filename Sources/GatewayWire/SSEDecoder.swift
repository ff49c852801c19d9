// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Finds the events of an event stream in bytes that come in any pieces (WHATWG HTML, Server-sent events).
///
/// Made for a relay: it says how many bytes a complete block has, so that they can be forwarded as they are. The caller
/// keeps what is not consumed yet and shows all of it, with what has come since, at every call; the decoder remembers
/// how far it has looked, so that a stream that comes byte by byte costs no more than one that comes whole.
///
///     while true {
///         switch decoder.next(in: unconsumed) {
///         case .event(let event): consume event.length bytes
///         case .comment(let length), .ignored(let length): consume length bytes
///         case .needsMore: wait for bytes
///         case .tooLong: give the stream up
///         }
///     }
///
/// A line ends with LF, CR or CRLF. A CR ends its line at once; an LF that comes after it in a later piece is reported
/// as a blank line of its own, which changes nothing for whoever reads the forwarded bytes.
package struct SSEDecoder: Sendable {
    package enum Step: Hashable, Sendable {
        /// A block of fields with the blank line that ends it; comments between its fields are part of it.
        case event(SSEEvent)
        /// Complete comment lines and blank lines outside a block: may be forwarded as they are, or dropped.
        case comment(length: Int)
        /// Bytes that mean nothing and must not be forwarded: the byte order mark at the start of the stream.
        case ignored(length: Int)
        /// Nothing is complete yet.
        case needsMore
        /// A block is longer than ``maximumEventBytes``, or a line that may begin one is: every later call says the
        /// same.
        case tooLong
    }

    /// The bytes that a block may have, its last line end included (the LF of a CRLF that ends it is not counted).
    package let maximumEventBytes: Int

    package init(maximumEventBytes: Int = 4 * 1024 * 1024) {
        self.maximumEventBytes = maximumEventBytes
    }

    /// Takes one step.
    ///
    /// - Parameter bytes: everything from the end of what the last step consumed; never less than at the last call if
    ///   that consumed nothing.
    package mutating func next(in bytes: Span<UInt8>) -> Step {
        .needsMore
    }

    /// At the end of the stream: whether a block, or a piece of one, was cut off and is to be dropped.
    package func finish() -> Bool {
        false
    }
}
