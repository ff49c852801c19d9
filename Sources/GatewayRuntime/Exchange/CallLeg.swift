// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession

/// The upstream's half of an exchange: how one message gets to its upstream, and what comes back for it.
///
/// It tells the machine of its exchange what happens, and does what that says. It knows nothing of what the caller's
/// connection is. Confined to the event loop of the caller's connection.
protocol CallLeg: AnyObject {
    /// The slot of the credential that the last attempt used; nil without a pool.
    var usedSlot: Int? { get }
    /// The text that stands behind the error of a call that took too long; empty if nothing is known.
    var timeoutDetail: String { get }

    /// Does what the machine wants of the upstream.
    func perform(_ action: CallMachine.Action)
    /// Takes the message back if it is not on its way; returns whether it is not.
    func withhold() -> Bool
    /// The caller takes no more, or does again.
    func pause(_ isPaused: Bool)
    /// What is held of an answer is of no use.
    func forgetBody()
    /// Lets go of the upstream.
    func letGo(_ end: CallMachine.UpstreamEnd)
    /// The caller is about to have its answer, and may use the id again at once, on whatever event loop.
    func freeID(mayStillRun: Bool)
    /// Sends the answer that the upstream gave, or that stands for it.
    func sendAnswer()
    /// The error for a fault of the answer, in which the exchange says whether the message can have run.
    func error(_ fault: CallMachine.Fault) -> GatewayError
    /// The session that the message went in is over.
    func sessionEnded()
    /// The caller has all that it gets; what was taken for the message is given back.
    func finish(releasesCredential: Bool)
    /// Nothing more happens: what is left is cut.
    func close()
}
