// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire
import NIOCore

extension Upstream {
    /// A `tools/list` answer without the tools that the filter hides; nil if it cannot be read.
    func filtered(_ body: ByteBuffer, _ envelope: Envelope) -> ByteBuffer? {
        guard let filter = self.configuration.toolFilter, envelope.kind == .result else { return body }
        do {
            let removals = try ToolCatalogue.removals(in: body.readableBytesUInt8Span) { filter.admits($0) }
            return body.edited((removals ?? []).map { MessageEdit($0, []) })
        } catch {
            return nil
        }
    }
}
