// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Logging
import NIOCore

/// A stream of messages to and from an upstream; confined to one event loop.
///
/// Opened once: after its end a new one is made.
protocol LinkChannel: AnyObject {
    func open()
    /// Sends one message, of a caller or of the gateway itself; `completion` hears, once, of its fate as far as it concerns
    /// this message alone.
    func send(_ message: ByteBuffer, isCallers: Bool, completion: @escaping (LinkSending) -> Void)
    /// What it shows its upstream; nil if that is nothing.
    var credential: LinkCredential? { get }
    /// Whether the credential that it was opened with is no longer configured, so that nothing more is sent with it.
    var isCredentialGone: Bool { get }
    /// Bytes that wait to be sent.
    var pendingBytes: Int { get }
    /// Whether it was opened only to find out what its upstream speaks, so that its owner tells of its end.
    var isTrial: Bool { get set }
    /// The last lines of what its upstream said beside messages, for the log; nil: nothing.
    var lastErrors: Logger.MetadataValue? { get }
    /// When anything came from its upstream last, be it a part of a message; its beginning if nothing did.
    var lastReceived: NIODeadline { get }
    /// Whether nothing is read, because whoever it is for cannot take more.
    var isReadingPaused: Bool { get set }
    /// Ends it in order; the delegate hears of the end.
    func close()
    /// Ends it at once, since what it says makes no sense.
    func kill()
    /// Ends it at once, so that the next one uses another credential.
    func endRefused()
}

/// What became of a message.
enum LinkSending {
    /// The upstream has all of it.
    case sent
    /// It could not be sent, or was refused; the channel goes on.
    case failed(GatewayError)
}

/// Hears of a channel, on its event loop.
protocol LinkChannelDelegate: AnyObject {
    /// Messages may be sent from now on.
    func channelOpened()
    func channelReceived(_ message: ByteBuffer)
    /// No more messages at this moment.
    func channelPaused()
    /// It goes on, but its credential is refused for calls.
    func channelRefused()
    /// The last call; `error` says of calls in flight what happened, except whether they ran.
    func channelClosed(_ error: GatewayError)
}

extension LinkChannel {
    /// Sends a message of the gateway itself.
    func send(_ message: ByteBuffer, completion: @escaping (LinkSending) -> Void) {
        self.send(message, isCallers: false, completion: completion)
    }
}
