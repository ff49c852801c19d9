// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayWire
package import NIOCore

extension HTTP1Field {
    /// The name in lower case, of a field of the head in `bytes`; nil if it does not lie in them.
    package func lowercasedName(in bytes: ByteBuffer) -> String? {
        bytes.getString(at: bytes.readerIndex + self.nameRange.lowerBound, length: self.nameRange.count)?.lowercased()
    }

    /// The value, of a field of the head in `bytes`; nil if it does not lie in them.
    package func value(in bytes: ByteBuffer) -> ByteBufferView? {
        bytes.viewBytes(at: bytes.readerIndex + self.valueRange.lowerBound, length: self.valueRange.count)
    }
}
