// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// One connection of a caller serves one request at a time: its head is read, then its body, then somebody answers, and
// only then the next request is read. Everything that can happen to the connection, the end of it above all, can happen
// at any of these moments, so each moment says what every event means to it:
//
//     idle ─► head ─► admitting ─► body ─► complete ─► answering ─┐
//      ▲        │         │          │                    │       │
//      └────────┼─────────┼──────────┼────────────────────┴───────┘ the answer is out, and the caller may ask again
//               └─────────┴──────────┴─► lingering ─► closed        refused before it was read to its end
//                          any of them ─► flushing ─► closed        nothing more is read; what was written is taken first
//
// The driver owns bytes, socket and clock. It calls each event from outside of any other: what the channel fires while
// the driver writes or closes comes afterwards.

/// The rules of one connection of a caller (RFC 9112 §9, faults S6, S10).
package enum HTTP1ServerConnection {
    /// The bounds of a connection, `mcpProxy.limits`.
    package struct Limits: Hashable, Sendable {
        /// From the first byte of a head to its end; also what a connection may take to send its first byte.
        package var headTimeout = Duration.seconds(10)
        /// From the end of a head to the end of its body, extended by `bodyRate`.
        package var bodyTimeout = Duration.seconds(30)
        /// Bytes per second that buy a body more time.
        package var bodyRate = 64 * 1024
        package var bodyBytes = 4 * 1024 * 1024
        /// How long a connection is kept without a request.
        package var idleTimeout = Duration.seconds(75)
        /// How long a caller may take next to nothing of what waits for it.
        package var slowReader = Duration.seconds(60)
        package var requestsPerConnection = 1_000_000

        package init() {}
    }

    /// What to do with the bytes that wait.
    package enum Step: Equatable {
        /// Nothing, until more bytes come, or the answer is out.
        case wait
        /// A head is complete: take this many bytes, decide whether the request is admitted, and say so by `admitted` or
        /// `refused`.
        case head(length: Int)
        /// These bytes belong to the body; `consumed` are done with.
        case body(Range<Int>, consumed: Int)
        /// These bytes only frame the body.
        case skip(Int)
        /// The request is complete: hand it over. An answer is open from now on.
        case handOver
        /// The framing is in doubt: answer the error, and close.
        case reject(HTTP1Error)
        /// The body is larger than the bound: answer 413, and close.
        case rejectBody
        /// Nothing more comes: close when everything is taken.
        case flushAndClose
    }

    /// How the body of an admitted request is read.
    package enum BodyPlan: Equatable {
        /// There is none.
        case none
        /// All of it is here: take this many bytes, without a copy.
        case take(Int)
        /// It is collected; about `expecting` bytes come. `sendsContinue`: the caller waits for a 100 before it sends them.
        case collect(expecting: Int, sendsContinue: Bool)
        case tooLarge
    }

    /// How a request is refused that need not be answered by anybody else.
    package enum Refusal: Equatable {
        /// As a whole answer: the request is here to its end, which is so many bytes away. An answer is open from now on.
        case answer(skipping: Int)
        /// With an answer behind which the connection ends.
        case answerAndClose
    }

    /// What follows an answer that is out.
    package enum AfterAnswer: Equatable {
        /// The next request is read.
        case next
        /// The connection closes when everything is taken.
        case flushAndClose
        /// There was no answer open.
        case nothing
    }

    /// How a caller is told that its answer ends too early.
    package enum BreakOff: Equatable {
        /// The connection is reset.
        case reset
        /// The connection closes when everything is taken, before the end that the framing promised.
        case flushAndClose
    }

    /// How the end of the body of an answer is told.
    package enum AnswerFraming: Equatable {
        case length
        case chunked
        /// By the end of the connection.
        case close
    }

    /// What the look at the clock asks for.
    package enum Tick: Equatable {
        case nothing
        /// The request takes too long to arrive: answer 408, and close.
        case tooSlow
        case flushAndClose
        case close
        /// The caller takes too little of what waits for it: whoever answers is told, and the connection is broken.
        case breakSlowReader
    }

    /// What the end of the process asks for.
    package enum Drain: Equatable {
        case nothing
        case flushAndClose
        /// Whoever answers is told.
        case tell
    }
}
