// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import Logging

/// Bytes of a peer on their way into the log: a line of a child, an excerpt of a body.
///
/// They may be anything; the log shows them masked and escaped. Only this type may shorten such a text: it remembers
/// that there was more, and so a secret that the cut goes through is still masked.
package struct PeerText: CustomStringConvertible, Sendable {
    let bytes: [UInt8]
    /// Whether the text went on.
    let isCut: Bool

    /// Takes the first `limit` bytes of a text.
    package init(_ bytes: some Sequence<UInt8>, limit: Int = LogLine.limit) {
        var taken: [UInt8] = []
        var isCut = false
        for byte in bytes {
            guard taken.count < limit else {
                isCut = true
                break
            }
            taken.append(byte)
        }
        self.bytes = taken
        self.isCut = isCut
    }

    /// The text with what is not UTF-8 replaced.
    package var description: String { String(decoding: self.bytes, as: UTF8.self) }
}

extension Logger.MetadataValue {
    /// A text of a peer, of any bytes.
    package static func peer(_ bytes: some Sequence<UInt8>, limit: Int = LogLine.limit) -> Logger.MetadataValue {
        .stringConvertible(PeerText(bytes, limit: limit))
    }

    /// A whole number, which is one in JSON too.
    package static func number(_ value: Int) -> Logger.MetadataValue {
        .stringConvertible(value)
    }
}
