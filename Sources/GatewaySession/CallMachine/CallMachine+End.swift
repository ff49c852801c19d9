// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewayWire

// Everything that can come in every state: the caller, the clock, the bounds of the gateway. `isUnsent` is asked for only
// where nothing but the driver knows whether the message left: it takes the message back if it did not.

extension CallMachine.StateMachine {
    // MARK: The caller

    /// The caller went away (`isClosed`), or shut down its side.
    package mutating func callerLeft(isClosed: Bool) -> Action {
        // What is left of an answer that is out concerns the upstream only.
        guard !self.isOver else { return .none }
        // A handshake caller that closes its sending side may still read, and one that is gone did not cancel: the call
        // goes on, and its answer waits for the caller where it has a stream. For the stateless era going away is
        // cancelling (protocol S6).
        guard self.facts.era == .stateless else {
            guard isClosed else { return .none }
            self.isCallerThere = false
            // The rest of an answer that is no stream of messages is for nobody: it is not read to its end.
            if self.state == .relaying { return .end(self.end(.callerLeft(isReset: false), .readOn)) }
            return .detach
        }
        self.isCallerThere = !isClosed
        return .end(self.end(.callerLeft(isReset: !isClosed), self.cancellation(.callerLeft)))
    }

    /// The caller reads its answer on another connection.
    package mutating func callerMoved() { self.isCallerThere = false }

    /// The caller took next to nothing for too long: its connection is broken.
    package mutating func callerIsSlow() -> Action {
        guard !self.isOver else { return .none }
        return .end(self.end(.callerIsSlow, self.cancellation(.ended)))
    }

    /// The caller takes no more for now.
    package mutating func callerBlocked(now: Duration) -> Action {
        guard !self.isOver, self.blockedSince == nil else { return .none }
        self.blockedSince = now
        return .pauseReading
    }

    /// The caller takes bytes again, or there is none any more that could be slow.
    package mutating func callerWritable() -> Action {
        guard self.blockedSince != nil else { return .none }
        self.blockedSince = nil
        return .resumeReading
    }

    /// The caller took the call back: the upstream has a moment to say so, since many do not answer any more.
    package mutating func takenBack(now: Duration) {
        guard !self.isOver else { return }
        self.isTakenBack = true
        self.deadline = min(self.deadline, now + Self.takeBackTime)
    }

    /// The answer opens a session of which nobody would ever know.
    package mutating func nobodyWaits() -> Action {
        guard !self.isOver else { return .none }
        return .end(self.end(.callerLeft(isReset: false), .over))
    }

    // MARK: The clock and the bounds

    /// The clock was looked at.
    package mutating func tick(now: Duration, isUnsent: @autoclosure () -> Bool) -> Action {
        if case .draining(let since) = self.state {
            guard let since else {
                self.state = .draining(since: now)
                return .none
            }
            guard now - since >= Self.drainTime else { return .none }
            self.state = .done
            return .over
        }
        guard now >= self.deadline, self.state != .done else { return .none }
        if self.isTakenBack { return .end(self.end(.takenBack, .cancel(.ended, isTold: false))) }
        let isTold = self.isTold && (self.facts.isOverLink || self.isConnected && self.facts.era == .handshake)
        if self.state == .relaying { return .end(self.end(.broken(isTimeout: true), .timedOut(isTold: isTold))) }
        // It may still be at work on what it began to answer.
        let executed = self.executed(isUnsent: isUnsent()) == .no ? RetryRules.Executed.no : .unknown
        return .end(self.ending(.timedOut, executed, .timedOut(isTold: isTold)))
    }

    /// There is no room for what is held: `limits.bufferedBytes`.
    package mutating func noRoom(isUnsent: @autoclosure () -> Bool) -> Action {
        guard !self.isOver else { return .none }
        return self.fail(.noRoom, self.executed(isUnsent: isUnsent()))
    }

    /// The gateway or the upstream goes: a stream without an end of its own ends as its era says (protocol §1.2, listen).
    package mutating func drain() -> Action {
        guard self.facts.isListening, self.facts.isRequest, !self.isOver else { return .none }
        let hasBegun = self.facts.isOverLink || self.state == .streaming && self.facts.takesMessages
        guard hasBegun else { return self.fail(.drained, .no) }
        return .end(self.end(.listeningEnded, self.cancellation(.drained)))
    }

    /// The upstream is no more, and what was under way with it had its time.
    package mutating func upstreamGone(isUnsent: @autoclosure () -> Bool) -> Action {
        guard !self.isOver else { return .none }
        return self.fail(.upstreamGone, self.executed(isUnsent: isUnsent()))
    }

    // MARK: Ends

    /// Whether the upstream can have run the message, if nothing more is heard of it.
    func executed(isUnsent: @autoclosure () -> Bool) -> RetryRules.Executed {
        let executed: RetryRules.Executed =
            switch self.state {
            case .new, .queued, .choosing, .judging, .pausing, .refusal: .no
            case .asking(_, let executed, _, _): executed
            case .opening: isUnsent() ? .no : .unknown
            case .failure(let status), .reopening(let status, isCertain: false): self.executed(status)
            case .reopening(_, isCertain: true): .no
            case .sent, .streaming, .resuming: .unknown
            case .short, .whole, .relaying, .draining, .done: .yes
            }
        return self.including(executed)
    }

    /// The same, with what is known of attempts that were given up.
    func including(_ executed: RetryRules.Executed) -> RetryRules.Executed {
        executed == .no && self.mayHaveRun ? .unknown : executed
    }

    /// Nobody takes back the message that opens a session.
    private var isTold: Bool { !self.facts.isInitialize }

    private func cancellation(_ reason: CallMachine.Cancellation) -> CallMachine.UpstreamEnd {
        .cancel(reason, isTold: self.isTold)
    }

    mutating func fail(_ fault: CallMachine.Fault, _ executed: RetryRules.Executed) -> Action {
        .end(self.ending(fault, executed))
    }

    mutating func ending(_ fault: CallMachine.Fault, _ executed: RetryRules.Executed) -> CallMachine.End {
        self.ending(fault, executed, self.cancellation(.ended))
    }

    private mutating func ending(
        _ fault: CallMachine.Fault,
        _ executed: RetryRules.Executed,
        _ upstream: CallMachine.UpstreamEnd
    ) -> CallMachine.End {
        let executed = self.including(executed)
        var end = self.end(.fault(fault, executed: executed), upstream)
        if executed == .no { end.mayStillRun = false }
        return end
    }

    /// Ends the call; what was taken for it is given back once.
    mutating func end(_ reason: CallMachine.Reason, _ upstream: CallMachine.UpstreamEnd) -> CallMachine.End {
        let readsOn = upstream == .readOn && self.isConnected
        let end = CallMachine.End(
            reason: reason,
            upstream: upstream == .readOn && !readsOn ? .over : upstream,
            mayStillRun: !self.isUpstreamDone,
            releasesCredential: self.holdsCredential,
            cancelsTimer: self.isTimerSet,
            wasBlocked: self.blockedSince != nil
        )
        self.holdsCredential = false
        self.isTimerSet = false
        self.timer = nil
        self.blockedSince = nil
        self.held = 0
        self.state = readsOn ? .draining(since: nil) : .done
        return end
    }
}
