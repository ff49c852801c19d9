// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayPolicy

// What the machine tells its driver to do. Each event has one of these as its result; where a result is narrow it has an
// enum of its own, so that a driver cannot forget a case and need not name one that never comes.

extension CallMachine {
    /// What to do next.
    package enum Action: Hashable, Sendable {
        case none
        /// Get in line for a place at the upstream, and call `admitted`.
        case queue
        /// Take the next credential, and call `chosen`.
        case choose
        /// Let go of what is left of the last attempt, open what leads to the upstream, and send the message there.
        ///
        /// `isFresh`: not on a connection that was kept.
        case open(isFresh: Bool)
        /// The upstream took the credential: report that, then go on with the answer.
        case accepted(Acceptance)
        /// Call `timerFired` after this time; unless `keepsBody`, what was held of an answer is forgotten.
        case wait(Timer, Duration, keepsBody: Bool)
        /// See whether the redirect leads anywhere, and call `redirected`.
        case redirect
        /// Call `bodyRead` with what the held body is to the message.
        case readBody
        /// Read the held body as the answer, and call `answered` or `flawed`.
        case readAnswer
        /// Report to the pool that the credential was refused, and call `judged`.
        case judge(status: Int, Refusal)
        /// Open the session again, and call `reopened`.
        ///
        /// `isCertain`: it is lost; else it may be.
        case reopen(isCertain: Bool)
        /// See whether the upstream may have one more retry, and call `budget`.
        case askBudget
        /// Ask for a connection on which the stream is taken up again.
        case connectForRest
        /// The stream goes on; `isPaused`: its caller takes nothing at the moment.
        case takenUp(isPaused: Bool)
        case pauseReading
        case resumeReading
        /// The caller is gone, and may come back for what its stream keeps.
        case detach
        case end(End)
        /// Nothing more happens: cut what may be left of the upstream's answer.
        case over
    }

    /// How an answer goes on whose credential was accepted.
    package enum Acceptance: Hashable, Sendable {
        /// Its body is held.
        case hold
        /// It is a stream of events; `begins`: its head goes out now.
        case stream(begins: Bool)
        case end(End)
    }

    /// Who refused a credential.
    package enum Refusal: Hashable, Sendable {
        /// The answer to the message, of which so much as was wanted is held.
        case answer
        /// The answer to what would have opened a session; `isFirst`: of this call.
        case opening(isFirst: Bool)
    }

    /// What to do with a connection that stands.
    package enum Connected: Hashable, Sendable {
        case send
        /// Ask for the rest of the stream.
        case askForRest
        /// Nobody needs it any more.
        case release
    }

    /// What to do with a part of a body.
    package enum Received: Hashable, Sendable {
        case drop
        /// Add it to what is held.
        case hold
        case relay
        /// Send the head and what is held, then this and what follows as it comes.
        case relayHeld
        /// Add it to what is held, which is more than is wanted of it: call `bodyRead` with what that is to the message.
        case holdAndRead
        /// Read the events in it, and call `event` for each.
        case read
        case act(Action)
    }

    /// What to do with a message that came for the call.
    package enum Delivery: Hashable, Sendable {
        case drop
        /// It goes to the caller beside the answer.
        case deliver
        /// The caller takes none there: it gets it where it listens, if it does.
        case elsewhere
        /// It is the answer: see that the caller may have it, and call `answered` or `flawed`.
        case answer
        case act(Action)
    }

    /// The end of a call.
    package struct End: Hashable, Sendable {
        package var reason: Reason
        package var upstream: UpstreamEnd
        /// Whether the upstream may go on with the message: ids that were given out for it stay taken then.
        package var mayStillRun: Bool
        /// Whether a credential is held that nothing was learned of.
        package var releasesCredential: Bool
        package var cancelsTimer: Bool
        /// Whether the call counted among those whose caller takes nothing.
        package var wasBlocked: Bool
    }

    /// Why a call ends, which says what its caller is told.
    package enum Reason: Hashable, Sendable {
        /// With the upstream's answer.
        case answered
        /// With the upstream's answer, which came with a status of 400 or above.
        case answeredWithFailure
        /// The last byte of a long answer went out.
        case relayed
        /// It was a message that nobody answers, and is with the upstream.
        case taken
        /// The gateway itself had the answer.
        case answeredHere
        /// With an error of the gateway.
        case fault(Fault, executed: RetryRules.Executed)
        /// The upstream forgot the session, and the caller has to open a new one.
        ///
        /// `executed` is for a caller whose session another unit serves by now, to which this means nothing.
        case sessionOver(executed: RetryRules.Executed)
        /// The caller took the call back, and the upstream did not answer any more.
        case takenBack
        /// An answer of which a part went out breaks off.
        case broken(isTimeout: Bool)
        /// `isReset`: its connection, which is still there, is broken.
        case callerLeft(isReset: Bool)
        case callerIsSlow
        /// The gateway or the upstream goes, and the stream ends as its era says.
        case listeningEnded
    }

    /// What becomes of what the upstream may still do.
    package enum UpstreamEnd: Hashable, Sendable {
        /// There is nothing.
        case over
        /// What it sends is read and dropped for a while, which keeps the connection: `ended`, `failed` and `received` go on.
        case readOn
        /// It is let go of at once, and told why if `isTold` and there is a way to tell.
        case cancel(Cancellation, isTold: Bool)
        /// It is let go of since it was not done in time.
        case timedOut(isTold: Bool)
    }

    /// Why an upstream is let go of.
    package enum Cancellation: Hashable, Sendable {
        /// The call is over.
        case ended
        case callerLeft
        /// The gateway or the upstream goes.
        case drained
    }

    /// An error of the gateway, in its own words elsewhere.
    package enum Fault: Hashable, Sendable {
        case queueFull
        case credentialRejected(status: Int)
        case credentialsExhausted
        /// The driver knows more: what the transport or the opening said.
        case reported
        case timedOut
        case noRoom
        case redirected
        case rateLimited
        case status(Int)
        case undecodable
        case noBody
        case wrongContentType
        case webPage
        case notJSON
        case truncated
        case flawed(Flaw)
        case tooLarge
        case endlessStream
        case streamEnded(isTruncated: Bool)
        case streamLost
        /// A stream that had not begun when the gateway or the upstream was told to go.
        case drained
        /// The upstream is no more, and what was under way with it had its time.
        case upstreamGone
    }
}
