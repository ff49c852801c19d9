// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// A stream of events outlives the connection that carries it: connections break, and its caller comes back with the id
// of the last event that it saw (MCP 2025-11-25, Transports, Resumability and Redelivery). Everything that can happen to
// a stream can happen at any moment, the end of its connection above all, so each moment says what every event means
// to it:
//
//     unattached ─► attached ◄──► lost          a connection broke, and its caller is waited for
//          │            │          │
//          │            ├──────────┴─► finished    the last event is sent, and can be asked for again
//          └────────────┴──────────────┴──► over   nobody can come back for it any more
//
// A stream that is finished is waited for like one that lost its connection if a caller lost one before: it may lose
// the next one as well. Of one that lost none a short end is kept without a timer, as long as there is room for it: a
// connection can break with the last bytes on their way, and nobody here would know.
//
// The driver owns connections, timer and source, and does what it is told after the machine has decided. So whatever
// a connection calls back in the middle of a write meets a machine that has written down what led to that write.

/// The rules of one stream of events to a caller (protocol §1.1).
package enum ResumableStream {
    /// What a stream goes by.
    package struct Settings: Hashable, Sendable {
        /// Whether events have ids and are kept, so that a caller can come back for them.
        package var isResumable: Bool
        /// Whether a connection that begins anew gets an event with an id and nothing else first.
        package var isPrimed = false
        /// Bytes that may pile up in the connection of a caller that does not read, beside one event.
        package var overdueLimit: Int
        /// How long a stream waits for its caller to come back.
        package var patience = Duration.seconds(60)
        /// Bytes up to which an end is kept although nobody is known to have missed anything; a stream keeps as much where its
        /// session has no room for more.
        package var keptUnasked = 16 * 1024

        /// `overdueLimit` is in bytes.
        package init(isResumable: Bool, overdueLimit: Int) {
            self.isResumable = isResumable
            self.overdueLimit = overdueLimit
        }
    }

    /// What to do with a connection that comes for the stream.
    package enum Attachment: Equatable, Sendable {
        /// The stream goes on there, behind `opening`; a connection that it has ends in order. `isAnother`: it went on
        /// elsewhere before.
        case stay(Opening, isAnother: Bool)
        /// The stream is finished: send what came after this event, end the connection in order, and wait so long for its
        /// caller to ask again.
        case takeRest(after: Int, patience: Duration)
        /// There is nothing for it: end the connection in order.
        case close
    }

    /// What a connection gets first.
    package enum Opening: Equatable, Sendable {
        case nothing
        /// An event with an id and nothing else.
        case priming
        /// What came after this event and is kept.
        case events(after: Int)
    }

    /// What to do with an event.
    package enum Sending: Equatable, Sendable {
        /// Nobody gets it.
        case drop
        /// It is kept for a caller that comes back.
        case keep
        /// Send it; it is kept as well if the stream is resumable.
        case send
        /// Too much piled up: break the connection. The event is kept if the stream is resumable.
        case breakConnection(Loss)
    }

    /// What follows the loss of a connection.
    package enum Loss: Equatable, Sendable {
        /// The stream had none.
        case nothing
        /// Wait so long for the caller.
        case wait(Duration)
        /// Nobody can come back: the stream is over.
        case end
    }

    /// What follows the last event; a connection that the stream has ends in order.
    package enum Finish: Equatable, Sendable {
        /// Nothing more: it is finished already, or its caller is waited for already.
        case nothing
        /// Wait so long for a caller that lost something.
        case wait(Duration)
        /// Keep it if there is room, else say `noRoom`.
        case keep
        /// The stream is over.
        case end
    }
}
