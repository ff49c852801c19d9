// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// A caller's call as the link knows it that carries it; told on the event loop of the caller.
protocol CallSink: AnyObject {
    /// The link sends it under this number.
    func became(_ number: Int64, with credential: LinkCredential?)
    /// The link sends it once more: its session was unknown to the upstream, so that it did not run.
    func isSentAgain()
    /// A notification or a response is with the upstream, or needed no sending.
    func taken()
    /// The link has no answer and never will.
    func failed(_ error: GatewayError)
    /// Something came for it; returns whether the message is on its way to the caller.
    @discardableResult
    func received(_ message: ByteBuffer, as arrival: CallArrival) -> Bool
    /// No more comes at this moment.
    func flush()
    /// The caller took the call back.
    func wasCancelled()
}

/// What a message is to the call that it came for.
enum CallArrival {
    /// The response, with which the call ends.
    case answer
    /// A sign that the upstream is at work on it.
    case progress
    /// A question or a notification that goes the same way.
    case message
}
