// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import GatewayWire
import NIOCore
import Synchronization

/// What the tools of an upstream want said in `Mcp-Param-*`, as far as their lists were passed on.
///
/// Kept where the gateway is the HTTP server for callers of the stateless era: an upstream that is one checks the headers
/// itself (protocol S15). A tool that nobody was shown yet is not checked.
final class AdvertisedParameters: Sendable {
    let tools = Mutex<[[UInt8]: ParameterHeaders]>([:])
    /// Tools above this number are not checked.
    private static let limit = 10_000

    /// Callers are shown this answer to `tools/list`.
    func learn(from answer: ByteBuffer) {
        let listed = ParameterHeaders.read(answer.readableBytesUInt8Span)
        guard !listed.isEmpty else { return }
        self.tools.withLock { tools in
            for (tool, headers) in listed where headers == nil || tools.count < Self.limit || tools[tool] != nil {
                tools[tool] = headers
            }
        }
    }
}
