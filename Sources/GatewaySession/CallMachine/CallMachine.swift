// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayPolicy
package import GatewayWire

// One message of a caller, from the moment that it may be sent until its caller has the one answer that it gets:
//
//     new ─▶ queued ─▶ choosing ─▶ opening ─▶ sent ─▶ short, whole ──────────▶ done     a whole answer in one piece
//                         ▲           ▲         │  └▶ short ─▶ relaying ─────▶ done     a long one, part by part
//                         │           │         ├▶ streaming ────────────────▶ done     messages, one by one
//                         │           │         │    ▲  └▶ resuming                     … taken up again where they broke off
//                         │           │         │    └──────┘
//                         │           │         ├▶ refusal ─▶ judging ─▶ again or done   401, 403
//                         │           │         └▶ failure ─▶ reopening, asking, pausing, done
//                         └───────────┴─ again ──────┘
//     done may have `draining` before it: the caller has its answer, and what the upstream still sends is read and dropped.
//
// The caller may leave, block, take its call back, and the clock may run out in every state. What decides what happens
// then is in one place: whether the upstream may have run the message (`executed`), and whether the caller is there.
//
// Over a link (a child, a stream that many calls share) there is no HTTP answer of the call's own: the message goes from
// `opening` to `streaming`, and its answer is the last of the messages that come for it.

/// The rules of one call: what is sent when and with which credential, what is held back, what is sent again, and who is
/// told what in the end (contract §4, credentials §2.4).
///
/// Pure: bytes, sockets, clocks and metrics are the driver's. Times count from any one origin.
package enum CallMachine {
    /// What is known of a call before it starts.
    package struct Facts: Sendable {
        package var era: CallerEra
        package var messageClass: RetryRules.MessageClass
        package var isInitialize = false
        /// Whether the answer is a stream that ends when either side wants it to.
        package var isListening = false
        /// Whether the upstream is reached through a stream of messages that other calls use as well.
        package var isOverLink = false
        /// Whether the upstream has a pool of credentials.
        package var hasCredentials = false
        /// Whether the message is so long that a server may refuse it without having read it to its end: what comes next on
        /// such a connection would be read as the rest of it.
        package var isLong = false
        /// Whether messages that come before the answer can go to the caller beside it.
        package var takesMessages = true
        /// Whether the caller gets the answer as one message among those of other calls.
        package var isMessageWise = false
        /// An answer up to this size is held until it is whole, so that a truncated one never looks complete.
        package var holdThreshold = 64 * 1024
        /// How many bytes a stream may have without the answer where nothing of it goes out before.
        package var streamLimit = Int.max
        package var startedAt: Duration
        /// How long a call may take, as it was when this one began.
        package var timeout: Duration

        /// Facts of a call that is nothing special.
        package init(
            era: CallerEra,
            messageClass: RetryRules.MessageClass,
            startedAt: Duration,
            timeout: Duration
        ) {
            self.era = era
            self.messageClass = messageClass
            self.startedAt = startedAt
            self.timeout = timeout
        }

        /// Whether an answer is owed.
        var isRequest: Bool { self.messageClass != .oneWay }
    }

    /// When something happens, and how long a call of the upstream may take by then: a reload may have changed that.
    package struct Moment: Sendable {
        package var now: Duration
        package var timeout: Duration

        package init(_ now: Duration, timeout: Duration) {
            self.now = now
            self.timeout = timeout
        }
    }

    /// What the head of an answer says, as far as it decides what becomes of the call.
    package struct Head: Sendable {
        package var status: Int
        package var mediaType = HTTP1MediaType.json
        /// Whether it announces a body of no bytes.
        package var isEmpty = false
        /// Whether the body ends with the connection, so that only the JSON itself says whether it is complete.
        package var isCloseDelimited = false
        /// Whether the body has a coding that cannot be taken off.
        package var isUndecodable = false
        /// Whether the answer must be read before the caller may see it: something in it is not for the caller.
        package var isRewritten = false
        /// What a 503 says of when better times come; nil: nothing.
        package var retryAfter: Duration?

        package init(status: Int) { self.status = status }
    }

    /// Why an attempt failed on its way or before it began.
    package struct Failure: Sendable {
        package var ending: RetryRules.Ending
        /// Whether the upstream can have run the message, as the transport knows it.
        package var executed: RetryRules.Executed
        /// Whether there was no connection: whatever refuses connections may be starting, and a moment later it may not.
        package var isOfDialling = false
        /// Whether waiting does not cure what is wrong, or the time for it is spent.
        package var isFinal = false
        /// What an outbound proxy wants to be left alone for.
        package var retryAfter = Duration.zero

        package init(_ ending: RetryRules.Ending, executed: RetryRules.Executed) {
            self.ending = ending
            self.executed = executed
        }
    }

    /// What came of opening what leads to the upstream, or of opening a lost session again.
    package enum Opening: Sendable {
        /// The session is open.
        case open
        /// The session is there as it was: what was refused in it was refused for itself.
        case kept
        /// The credential was refused; `isFirst` is false if that was the answer to another call, for which this one waited.
        case refused(status: Int, isFirst: Bool)
        /// For a reason that the driver knows.
        case failed(executed: RetryRules.Executed)
        /// The session is over for good.
        case over
    }

    /// A message that came from the upstream for the call.
    package enum Event: Sendable, CaseIterable {
        /// A sign that the upstream is at work on the call.
        case progress
        case notification
        /// A request of the server.
        case question
        /// The response to the message.
        case answer
        /// Nothing that concerns the call.
        case foreign
        /// No message at all.
        case garbage
    }

    /// Names one waiting time; what fires under another number is late, and is ignored.
    package struct Timer: Hashable, Sendable {
        let number: Int

        /// The timer that a call started as its `number`th.
        package init(_ number: Int) { self.number = number }
    }

    /// What the driver found unreadable in an answer that is complete.
    package enum Flaw: Hashable, Sendable, CaseIterable {
        /// No JSON-RPC message.
        case message
        /// A list of tools from which nothing can be left out.
        case toolList
        /// An event that is larger than events may be.
        case largeEvent
    }
}
