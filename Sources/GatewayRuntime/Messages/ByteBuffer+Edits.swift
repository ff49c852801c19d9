// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import GatewayWire
import NIOCore

extension ByteBuffer {
    /// A copy with the edits made; ranges count from the reader index, do not overlap, and may come in any order.
    func edited(_ edits: [MessageEdit]) -> ByteBuffer {
        guard !edits.isEmpty else { return self }
        var copy = ByteBufferAllocator()
            .buffer(
                capacity: edits.reduce(self.readableBytes) { $0 + $1.text.count }
            )
        var position = self.readerIndex
        for edit in edits.sorted(by: { $0.range.lowerBound < $1.range.lowerBound }) {
            let start = self.readerIndex + edit.range.lowerBound
            if let kept = self.viewBytes(at: position, length: start - position) { copy.writeBytes(kept) }
            copy.writeBytes(edit.text)
            position = self.readerIndex + edit.range.upperBound
        }
        if let kept = self.viewBytes(at: position, length: self.writerIndex - position) { copy.writeBytes(kept) }
        return copy
    }

    /// The bytes of a range that counts from the reader index.
    func bytes(_ range: Range<Int>) -> [UInt8] {
        self.getBytes(at: self.readerIndex + range.lowerBound, length: range.count) ?? []
    }
}

extension Envelope {
    /// The id on its own, as type and value; nil without one.
    func idValue(in message: ByteBuffer) -> MessageIDValue? { self.id?.value(in: message.readableBytesUInt8Span) }
}
