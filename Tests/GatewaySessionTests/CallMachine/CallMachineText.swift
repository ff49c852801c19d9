// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession

// Actions in few words, so that what a table expects of every event in every state can be read.

extension CallMachine.Action {
    var text: String {
        switch self {
        case .none: "–"
        case .queue: "queue"
        case .choose: "choose"
        case .open(let isFresh): isFresh ? "open afresh" : "open"
        case .accepted(.hold): "accepted, hold"
        case .accepted(.stream(let begins)): begins ? "accepted, begin stream" : "accepted, read stream"
        case .accepted(.end(let end)): "accepted, \(end.text)"
        case .wait(_, let time, let keepsBody): "wait \(time)\(keepsBody ? " for the body" : "")"
        case .redirect: "redirect"
        case .readBody: "read body"
        case .readAnswer: "read answer"
        case .judge(let status, .answer): "judge \(status)"
        case .judge(let status, .opening(let isFirst)): "judge \(status) of opening\(isFirst ? "" : " by another")"
        case .reopen(let isCertain): isCertain ? "reopen" : "reopen if lost"
        case .askBudget: "ask budget"
        case .connectForRest: "connect for rest"
        case .takenUp(let isPaused): isPaused ? "taken up, paused" : "taken up"
        case .pauseReading: "pause"
        case .resumeReading: "resume"
        case .detach: "detach"
        case .end(let end): end.text
        case .over: "over"
        }
    }
}

// What ends a call, and what its caller is told of whether the message ran.

extension CallMachine.Action {
    var end: CallMachine.End? {
        switch self {
        case .end(let end), .accepted(.end(let end)): end
        default: nil
        }
    }

    var executed: RetryRules.Executed? { self.end?.reason.executed }

    var isWait: Bool { if case .wait = self { true } else { false } }
}

extension CallMachine.Received {
    var end: CallMachine.End? { if case .act(let action) = self { action.end } else { nil } }
}

extension CallMachine.End {
    var text: String { "end \(self.reason.text), \(self.upstream.text)" }
}

extension CallMachine.UpstreamEnd {
    var text: String {
        switch self {
        case .over: "over"
        case .readOn: "read on"
        case .cancel(let reason, let isTold): "cancel \(reason)\(isTold ? "" : " untold")"
        case .timedOut(let isTold): "too late\(isTold ? "" : " untold")"
        }
    }
}

extension CallMachine.Reason {
    var text: String {
        switch self {
        case .fault(.flawed(let flaw), let executed): "flawed(\(flaw))=\(executed)"
        case .fault(let fault, let executed): "\(fault)=\(executed)"
        case .sessionOver(let executed): "sessionOver=\(executed)"
        default: "\(self)"
        }
    }

    /// Whether the upstream can have run the message, where the caller is told so.
    var executed: RetryRules.Executed? {
        switch self {
        case .fault(_, let executed), .sessionOver(let executed): executed
        default: nil
        }
    }
}

extension CallMachine.Received {
    var text: String { if case .act(let action) = self { action.text } else { self == .drop ? "–" : "\(self)" } }
}

extension CallMachine.Delivery {
    var text: String { if case .act(let action) = self { action.text } else { self == .drop ? "–" : "\(self)" } }
}
