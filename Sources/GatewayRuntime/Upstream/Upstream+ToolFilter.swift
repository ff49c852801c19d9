// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire
import NIOCore

extension Upstream {
    /// A `tools/list` answer without the tools that the filter hides; nil if it cannot be read.
    ///
    /// `depth` is the limit that its envelope was read with (`limits.jsonDepth`).
    func filtered(_ body: ByteBuffer, _ envelope: Envelope, depth: Int) -> ByteBuffer? {
        guard let filter = self.configuration.toolFilter, envelope.kind == .result else { return body }
        do {
            let bytes = body.readableBytesUInt8Span
            let removals = try ToolCatalogue.removals(in: bytes, maximumDepth: depth) { filter.admits($0) }
            return body.edited((removals ?? []).map { MessageEdit($0, []) })
        } catch {
            return nil
        }
    }
}
