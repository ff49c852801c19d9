// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire
import Logging
import NIOCore

/// What a child and an HTTP+SSE stream do differently where they carry the messages of a link.
protocol LinkKind: Sendable {
    /// The channel of a link; `last` is the one before it, if there was one.
    func makeChannel(of link: UpstreamLink, after last: LinkCredential?) -> any LinkChannel
    /// How long a server may take to answer `initialize`.
    func openingTimeout(_ limits: Limits) -> TimeAmount

    /// Whether every link is one of the children of which `limits.childrenPerServer` may run.
    var countsAsChild: Bool { get }
    /// Whether it is started again by the rules for processes, and if need be when it answers nothing any more.
    var isSupervised: Bool { get }
    /// Whether it speaks the era of its first request for as long as it lives, so that it can be asked for either.
    var isOpenToBothEras: Bool { get }
    /// Whether a message may have run before the channel knows that the upstream has all of it.
    var mayRunBeforeSent: Bool { get }

    /// Why calls fail that meet no session, or whose session ends.
    var reasonOfEnd: GatewayError.Reason { get }
    /// Why the opening fails of one that does not answer as it should.
    var reasonOfSilence: GatewayError.Reason { get }
    /// What the end of a channel says of the upstream where that does not speak the protocol.
    var verdictOnNonsense: UpstreamVerdict { get }
    /// What such an end says of the credentials; nil: nothing.
    func verdict(on error: GatewayError, wasOpen: Bool) -> UpstreamVerdict?

    /// What the log has of a line, or an event, that is no message.
    var nonsense: Logger.Message { get }
    /// What is said of that in a message about something for which it may be the reason.
    func text(of fault: MessageFault) -> String
}
