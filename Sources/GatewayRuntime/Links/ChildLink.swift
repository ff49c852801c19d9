// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewayWire
import Logging
import NIOCore

/// A link that is a child process.
struct ChildLink: LinkKind {
    let configuration: StdioUpstreamConfiguration
    let access: StdioAccess

    func makeChannel(of link: UpstreamLink, after last: LinkCredential?) -> any LinkChannel {
        StdioChannel(
            self.configuration,
            name: link.upstream.name,
            access: self.access,
            lineLimit: link.loop.limits.lineBytes,
            on: link.loop,
            logger: link.settings.logger,
            buffers: link.upstream.buffers,
            delegate: link
        )
    }

    /// Package runners download before they run.
    func openingTimeout(_ limits: Limits) -> TimeAmount { .seconds(60) }

    var countsAsChild: Bool { true }
    var isSupervised: Bool { true }
    var isOpenToBothEras: Bool { true }
    /// A line that is in the pipe is known to be.
    var mayRunBeforeSent: Bool { false }

    var reasonOfEnd: GatewayError.Reason { .childExited }
    var reasonOfSilence: GatewayError.Reason { .upstreamProtocol }
    var verdictOnNonsense: UpstreamVerdict { .exited }
    func verdict(on error: GatewayError, wasOpen: Bool) -> UpstreamVerdict? { nil }

    var nonsense: Logger.Message { "standard output has a line that is no message" }

    func text(of fault: MessageFault) -> String {
        "; it wrote to standard output what is no MCP message, see the log: \(fault.advice)"
    }
}
