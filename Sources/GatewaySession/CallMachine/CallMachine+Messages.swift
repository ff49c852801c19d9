// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewayWire

// Answers that are the last of several messages, and streams that broke off before theirs: a handshake upstream, which
// may also have ended its stream to be polled, is asked for the rest of it. The call itself is never sent again (faults
// F20).

extension CallMachine.StateMachine {
    /// A message came; `rest` is what the upstream wants to be left alone for should its stream break off here, nil if it
    /// cannot be taken up again.
    package mutating func event(
        _ event: CallMachine.Event,
        rest: Duration? = nil,
        at moment: @autoclosure () -> CallMachine.Moment
    ) -> CallMachine.Delivery {
        guard self.state == .streaming else { return .drop }
        self.pauseBeforeRest = rest
        self.resumptions = 0
        switch event {
        case .progress:
            self.progressed(moment())
            return self.facts.takesMessages ? .deliver : .elsewhere
        case .notification:
            return self.facts.takesMessages ? .deliver : .elsewhere
        case .question:
            // The stateless era has no requests of servers (protocol S11).
            if self.facts.era == .stateless { return .drop }
            if self.facts.takesMessages { return .deliver }
            // Each costs a request of ours, unless it becomes one of a session that callers share.
            self.questions += 1
            return self.hasOwnIDs || self.questions <= Self.questionLimit ? .elsewhere : .drop
        case .answer:
            self.isUpstreamDone = true
            return .answer
        case .foreign:
            return .drop
        case .garbage:
            return .act(self.fail(.flawed(.message), .yes))
        }
    }

    /// A sign of life of the call: the clock starts again, up to a point (contract §2, `timeout`).
    private mutating func progressed(_ moment: CallMachine.Moment) {
        guard !self.facts.isListening, !self.isTakenBack else { return }
        let last = self.facts.startedAt + max(self.facts.timeout, Self.longestTime)
        self.deadline = min(moment.now + moment.timeout, last)
    }

    /// A link gave the upstream a message that nobody answers, or need not give it.
    package mutating func taken() -> Action {
        guard !self.isOver else { return .none }
        return .end(self.end(.taken, .over))
    }

    // MARK: Taking up again

    /// The stream is over without the answer.
    mutating func broke(isTruncated: Bool) -> Action {
        guard self.facts.era == .handshake, self.isResumable else {
            return self.fail(.streamEnded(isTruncated: isTruncated), .unknown)
        }
        return self.resumeLater()
    }

    private var isResumable: Bool { self.pauseBeforeRest != nil && self.resumptions < Self.resumptionLimit }

    /// Asks for the rest when the upstream wants to be asked.
    mutating func resumeLater() -> Action {
        guard let pauseBeforeRest, self.isResumable else { return self.fail(.streamLost, .unknown) }
        self.state = .resuming(isConnecting: false)
        self.resumptions += 1
        return self.wait(pauseBeforeRest, keepsBody: false)
    }

    /// The upstream answered the question for the rest.
    mutating func resumed(_ head: CallMachine.Head) -> Action {
        guard head.status == 200, head.mediaType == .eventStream else { return self.fail(.streamLost, .unknown) }
        self.state = .streaming
        return .takenUp(isPaused: self.blockedSince != nil)
    }
}
