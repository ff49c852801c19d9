// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayPolicy
import GatewayWire

extension CallMachine.StateMachine {
    package typealias Action = CallMachine.Action

    // MARK: Heads

    /// The head of an answer is there.
    package mutating func head(_ head: CallMachine.Head) -> Action {
        if case .resuming(isConnecting: true) = self.state { return self.resumed(head) }
        guard self.state == .sent else { return .none }
        self.isCloseDelimited = head.isCloseDelimited
        self.retryAfter = head.retryAfter
        switch head.status {
        case 200..<300:
            self.holdsCredential = false
            return .accepted(self.accepted(head))
        case 307, 308:
            return .redirect
        case 300..<400:
            return self.fail(.redirected, .no)
        case let status where StatusReading.refusesCredential(status):
            guard self.facts.hasCredentials || self.mayBeOfSession(head.status) else {
                return self.refused(head.status, .answer)
            }
            // What it says is read first, but not for long (credentials §2.4).
            self.state = .refusal(status: head.status)
            return self.wait(Self.refusalTime, keepsBody: true)
        default:
            // The body may be the answer.
            self.state = .failure(status: head.status)
            return self.mayBeOfSession(head.status) ? self.wait(Self.failureTime, keepsBody: true) : .none
        }
    }

    private mutating func accepted(_ head: CallMachine.Head) -> CallMachine.Acceptance {
        // A notification or a response is taken or not; nobody expects a body (protocol §1.1).
        guard self.facts.isRequest else { return .end(self.end(.taken, .readOn)) }
        if head.isUndecodable { return .end(self.ending(.undecodable, .yes)) }
        switch head.mediaType {
        case .json where head.isEmpty, .other where head.isEmpty:
            return .end(self.ending(.noBody, .unknown))
        case .json:
            // Without a length only the JSON itself says whether the connection was closed too early (faults F48).
            let isRead =
                head.isCloseDelimited || head.isRewritten || self.facts.isInitialize || self.facts.isMessageWise
                || self.hasOwnIDs
            self.state = isRead ? .whole : .short
            return .hold
        case .eventStream:
            self.state = .streaming
            // What must be read first keeps the head back too, since its fields depend on it.
            return .stream(begins: !self.facts.isInitialize && self.facts.takesMessages)
        case .html:
            return .end(self.ending(.webPage, .unknown))
        case .other:
            return .end(self.ending(.wrongContentType, .unknown))
        }
    }

    /// Whether the redirect is followed.
    package mutating func redirected(isFollowed: Bool) -> Action {
        guard self.state == .sent else { return .none }
        return isFollowed ? self.attempt(isFresh: false) : self.fail(.redirected, .no)
    }

    // MARK: Bodies

    /// A part of the body came.
    ///
    /// `isJSON`: whether it begins as JSON does; `limit`: how much of the answer may be held.
    package mutating func received(
        _ count: Int,
        isJSON: @autoclosure () -> Bool,
        limit: @autoclosure () -> Int
    ) -> CallMachine.Received {
        switch self.state {
        case .short:
            if self.held == 0, !isJSON() { return .act(self.fail(.notJSON, .yes)) }
            guard self.held + count >= self.facts.holdThreshold else {
                self.held += count
                return .hold
            }
            // A caller that left before gets none of it, and nobody else can.
            guard self.isCallerThere else { return .act(.end(self.end(.callerLeft(isReset: false), .readOn))) }
            self.state = .relaying
            return .relayHeld
        case .whole:
            if self.held == 0, !isJSON() { return .act(self.fail(.notJSON, .yes)) }
            return self.hold(count, limit()) ? .hold : .act(self.fail(.tooLarge, .yes))
        case .refusal:
            return self.hold(count, Self.drainLimit) ? .hold : .holdAndRead
        case .failure(let status):
            if self.hold(count, limit()) { return .hold }
            switch StatusReading(status: status, body: .foreign, session: self.session) {
            case .sessionLost: return .act(self.lost(status, isCertain: true))
            case .sessionInDoubt: return .act(self.lost(status, isCertain: false))
            case .answer, .credentialRefused, .failure:
                return .act(self.fail(.status(status), self.executed(status)))
            }
        case .relaying:
            return .relay
        case .streaming:
            // Nothing of it goes out before the answer, and a stream that goes on and on without one has none.
            guard self.facts.isInitialize else { return .read }
            return self.hold(count, self.facts.streamLimit) ? .read : .act(self.fail(.endlessStream, .unknown))
        case .draining:
            if self.hold(count, Self.drainLimit) { return .drop }
            self.state = .done
            return .act(.over)
        case .new, .queued, .choosing, .opening, .sent, .judging, .reopening, .asking, .pausing, .resuming, .done:
            return .drop
        }
    }

    private mutating func hold(_ count: Int, _ limit: Int) -> Bool {
        self.held += count
        return self.held <= limit
    }

    /// The body is complete; the connection is gone, or somebody else's.
    package mutating func ended() -> Action {
        self.isConnected = false
        switch self.state {
        case .short:
            self.isUpstreamDone = !self.isCloseDelimited
            guard self.held > 0 else { return self.fail(.noBody, .unknown) }
            return .end(self.end(.answered, .over))
        case .whole:
            self.isUpstreamDone = !self.isCloseDelimited
            return .readAnswer
        case .refusal, .failure:
            self.isUpstreamDone = !self.isCloseDelimited
            return .readBody
        case .relaying:
            return .end(self.end(.relayed, .over))
        case .streaming:
            return self.broke(isTruncated: false)
        case .resuming(isConnecting: true):
            return self.resumeLater()
        case .draining:
            self.state = .done
            return .over
        case .new, .queued, .choosing, .opening, .sent, .judging, .reopening, .asking, .pausing, .resuming, .done:
            return .none
        }
    }

    /// The answer was read, and may go to the caller.
    package mutating func answered() -> Action {
        switch self.state {
        case .whole, .streaming:
            self.isUpstreamDone = true
            return .end(self.end(.answered, .readOn))
        default:
            return .none
        }
    }

    /// What is complete cannot be read as it has to be.
    package mutating func flawed(_ flaw: CallMachine.Flaw) -> Action {
        switch self.state {
        case .whole where flaw == .message:
            // It may not have been complete after all.
            return self.fail(self.isCloseDelimited ? .truncated : .flawed(.message), .yes)
        case .whole, .streaming:
            return self.fail(.flawed(flaw), .yes)
        default:
            return .none
        }
    }

    // MARK: Statuses of 400 and above

    /// Whether a status without an answer to this message is, or may be, about the session and not about the message.
    func mayBeOfSession(_ status: Int) -> Bool {
        switch StatusReading(status: status, body: .foreign, session: self.session) {
        case .sessionLost, .sessionInDoubt: true
        case .answer, .credentialRefused, .failure: false
        }
    }

    /// The held body was read, as far as it matters.
    package mutating func bodyRead(_ body: StatusReading.Body, at moment: CallMachine.Moment) -> Action {
        switch self.state {
        case .refusal(let status):
            switch StatusReading(status: status, body: body, session: self.session) {
            case .sessionLost: return self.lost(status, isCertain: true)
            case .sessionInDoubt: return self.lost(status, isCertain: false)
            case .answer, .credentialRefused, .failure: return self.refused(status, .answer)
            }
        case .failure(let status):
            switch StatusReading(status: status, body: body, session: self.session) {
            case .sessionLost: return self.lost(status, isCertain: true)
            case .sessionInDoubt: return self.lost(status, isCertain: false)
            case .answer: return .end(self.end(.answeredWithFailure, .readOn))
            case .credentialRefused, .failure: return self.failed(with: status, at: moment)
            }
        case .reopening(let status, _) where self.session == .proven:
            switch StatusReading(status: status, body: body, session: .proven) {
            case .answer: return .end(self.end(.answeredWithFailure, .over))
            case .credentialRefused: return self.refused(status, .answer)
            case .sessionLost, .sessionInDoubt, .failure: return self.failed(with: status, at: moment)
            }
        default:
            return .none
        }
    }

    /// The message itself failed.
    private mutating func failed(with status: Int, at moment: CallMachine.Moment) -> Action {
        if status == 429 { return self.fail(.rateLimited, .no) }
        let executed = self.executed(status)
        if status == 503, (self.retryAfter ?? .seconds(Int64.max)) > Self.soon {
            return self.fail(.status(status), executed)
        }
        let ending = RetryRules.Ending.status(status, hadSession: self.session != .none)
        return self.retry(ending, or: .status(status), executed, at: moment)
    }

    /// What a status of 400 and above says of whether the message ran.
    func executed(_ status: Int) -> RetryRules.Executed {
        let ending = RetryRules.Ending.status(status, hadSession: self.session != .none)
        return RetryRules.decide(ending, message: self.facts.messageClass).executed
    }

    // MARK: Lost sessions

    /// The upstream does not know the session, or maybe not: it is opened again with the same credential and the message,
    /// which did not run, sent again (contract §4); a second time it is over.
    private mutating func lost(_ status: Int, isCertain: Bool) -> Action {
        self.isUpstreamDone = true
        self.isConnected = false
        guard self.session == .open else { return self.endSession() }
        self.state = .reopening(status: status, isCertain: isCertain)
        self.timer = nil
        return .reopen(isCertain: isCertain)
    }

    /// What came of opening the session again.
    package mutating func reopened(_ opening: CallMachine.Opening) -> Action {
        guard case .reopening(let status, let isCertain) = self.state, self.session == .open else { return .none }
        switch opening {
        case .open:
            self.isRenewed = true
            return self.attempt(isFresh: false)
        case .kept:
            // What was refused is the message, or its credential for this message.
            self.session = .proven
            return .readBody
        case .refused where status == 401:
            return self.refused(status, .answer)
        case .refused(let other, let isFirst):
            return self.refused(other, .opening(isFirst: isFirst))
        case .failed:
            return self.endSession()
        case .over:
            // For another reason perhaps: whether it was lost before may not be known.
            return self.endSession(isCertain ? .no : self.executed(status))
        }
    }

    /// The caller's session ends; told so, the caller opens a new one (protocol §1.1).
    mutating func endSession(_ executed: RetryRules.Executed = .no) -> Action {
        .end(self.end(.sessionOver(executed: self.including(executed)), .cancel(.ended, isTold: false)))
    }
}
