// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What is to be done when this happens in this state; what is not listed is nothing.
///
/// The same as the table of decision 0032 says in words.
enum CallTable {
    static let expected: [CallStage: String] = [
        .new: """
        start: choose
        start without place: queue
        answered here: end answeredHere, over
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=no, too late untold
        no room: end noRoom=no, cancel ended
        upstream gone: end upstreamGone=no, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .queued: """
        admitted: choose
        not admitted: end queueFull=no, cancel ended
        answered here: end answeredHere, over
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=no, too late untold
        no room: end noRoom=no, cancel ended
        upstream gone: end upstreamGone=no, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .choosing: """
        chosen: open
        none left: end credentialsExhausted=no, cancel ended
        answered here: end answeredHere, over
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=no, too late untold
        no room: end noRoom=no, cancel ended
        upstream gone: end upstreamGone=no, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .opening: """
        opening failed: end reported=no, cancel ended
        opening refused: judge 403 of opening
        opening over: end sessionOver=no, cancel ended untold
        credential removed: choose
        answered here: end answeredHere, over
        connected: send
        not dialled: ask budget
        lost: end reported=unknown, cancel ended
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=no, too late untold
        no room: end noRoom=unknown, cancel ended
        upstream gone: end upstreamGone=unknown, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .sent: """
        opening failed: end reported=no, cancel ended
        answered here: end answeredHere, read on
        200: accepted, hold
        200 events: accepted, begin stream
        302: end redirected=no, cancel ended
        307: redirect
        401: wait 0.1 seconds for the body
        followed: open
        not followed: end redirected=no, cancel ended
        not dialled: ask budget
        lost: end reported=unknown, cancel ended
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=unknown, too late
        no room: end noRoom=unknown, cancel ended
        upstream gone: end upstreamGone=unknown, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .short: """
        answered here: end answeredHere, read on
        bytes: hold
        many: relayHeld
        ended: end noBody=unknown, cancel ended
        not dialled: ask budget
        lost: end reported=unknown, cancel ended
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=unknown, too late
        no room: end noRoom=yes, cancel ended
        upstream gone: end upstreamGone=yes, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .whole: """
        answered here: end answeredHere, read on
        bytes: hold
        many: end tooLarge=yes, cancel ended
        ended: read answer
        not dialled: ask budget
        lost: end reported=unknown, cancel ended
        answered: end answered, read on
        flawed: end flawed(message)=yes, cancel ended
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=unknown, too late
        no room: end noRoom=yes, cancel ended
        upstream gone: end upstreamGone=yes, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .relaying: """
        answered here: end answeredHere, read on
        bytes: relay
        many: relay
        ended: end relayed, over
        not dialled: end broken(isTimeout: false), over
        lost: end broken(isTimeout: false), over
        taken: end taken, over
        left: end callerLeft(isReset: false), read on
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end broken(isTimeout: true), too late
        no room: end noRoom=yes, cancel ended
        upstream gone: end upstreamGone=yes, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .streaming: """
        answered here: end answeredHere, read on
        bytes: read
        many: read
        ended: end streamEnded(isTruncated: false)=unknown, cancel ended
        not dialled: end streamEnded(isTruncated: true)=unknown, cancel ended
        lost: end streamEnded(isTruncated: true)=unknown, cancel ended
        answered: end answered, read on
        flawed: end flawed(message)=yes, cancel ended
        progress: deliver
        notification: deliver
        question: deliver
        answer: answer
        garbage: end flawed(message)=yes, cancel ended
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=unknown, too late
        no room: end noRoom=unknown, cancel ended
        upstream gone: end upstreamGone=unknown, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .refusal: """
        answered here: end answeredHere, read on
        bytes: hold
        many: holdAndRead
        ended: read body
        not dialled: read body
        lost: read body
        body foreign: judge 403
        body answer: judge 403
        body loss: judge 403
        timer: read body
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=no, too late
        no room: end noRoom=no, cancel ended
        upstream gone: end upstreamGone=no, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .failure: """
        answered here: end answeredHere, read on
        bytes: hold
        many: reopen if lost
        ended: read body
        not dialled: reopen if lost
        lost: reopen if lost
        body foreign: reopen if lost
        body answer: end answeredWithFailure, read on
        body loss: reopen
        timer: reopen if lost
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=unknown, too late
        no room: end noRoom=unknown, cancel ended
        upstream gone: end upstreamGone=unknown, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .judging: """
        answered here: end answeredHere, over
        again: choose
        rejected: end credentialRejected(status: 403)=no, cancel ended
        exhausted: end credentialsExhausted=no, cancel ended
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=no, too late untold
        no room: end noRoom=no, cancel ended
        upstream gone: end upstreamGone=no, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .reopening: """
        credential removed: choose
        answered here: end answeredHere, over
        reopened: open
        kept: read body
        reopening refused: judge 403 of opening by another
        reopening failed: end sessionOver=no, cancel ended untold
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=no, too late untold
        no room: end noRoom=no, cancel ended
        upstream gone: end upstreamGone=no, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .asking: """
        answered here: end answeredHere, over
        granted: wait 0.05 seconds
        not granted: end reported=no, cancel ended
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=no, too late untold
        no room: end noRoom=no, cancel ended
        upstream gone: end upstreamGone=no, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .pausing: """
        answered here: end answeredHere, over
        timer: open
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=no, too late untold
        no room: end noRoom=no, cancel ended
        upstream gone: end upstreamGone=no, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .resumingLater: """
        answered here: end answeredHere, over
        timer: connect for rest
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=unknown, too late untold
        no room: end noRoom=unknown, cancel ended
        upstream gone: end upstreamGone=unknown, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .resuming: """
        opening failed: end reported=unknown, cancel ended
        answered here: end answeredHere, over
        connected: askForRest
        200: end streamLost=unknown, cancel ended
        200 events: taken up
        302: end streamLost=unknown, cancel ended
        307: end streamLost=unknown, cancel ended
        401: end streamLost=unknown, cancel ended
        500: end streamLost=unknown, cancel ended
        ended: wait 1.0 seconds
        not dialled: wait 1.0 seconds
        lost: wait 1.0 seconds
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=unknown, too late untold
        no room: end noRoom=unknown, cancel ended
        upstream gone: end upstreamGone=unknown, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .draining: """
        many: over
        ended: over
        not dialled: over
        lost: over
        """,
        .done: "",
        .openingLink: """
        opening failed: end reported=no, cancel ended
        opening refused: end credentialRejected(status: 403)=no, cancel ended
        opening over: end sessionOver=no, cancel ended untold
        credential removed: open
        answered here: end answeredHere, over
        connected: send
        not dialled: end reported=no, cancel ended
        lost: end reported=unknown, cancel ended
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=no, too late
        no room: end noRoom=unknown, cancel ended
        upstream gone: end upstreamGone=unknown, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
        .link: """
        answered here: end answeredHere, over
        bytes: read
        many: read
        ended: end streamEnded(isTruncated: false)=unknown, cancel ended
        not dialled: end reported=no, cancel ended
        lost: end reported=unknown, cancel ended
        answered: end answered, over
        flawed: end flawed(message)=yes, cancel ended
        progress: deliver
        notification: deliver
        question: deliver
        answer: answer
        garbage: end flawed(message)=yes, cancel ended
        taken: end taken, over
        left: detach
        slow: end callerIsSlow, cancel ended
        blocked: pause
        deadline: end timedOut=unknown, too late
        no room: end noRoom=unknown, cancel ended
        upstream gone: end upstreamGone=unknown, cancel ended
        nobody waits: end callerLeft(isReset: false), over
        """,
    ]
}
