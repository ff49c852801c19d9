// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import GatewayWire
import NIOCore

/// An upstream's answer to `initialize`, kept to answer callers that share the session (contract §2, `isolation`).
struct InitializeResult: Sendable {
    /// The `result` object as it came.
    private let json: ByteBuffer
    /// Where `protocolVersion` stands in it, with its quotes.
    private let versionRange: Range<Int>
    /// What the upstream negotiated; nil if it is a version that we do not know.
    let revision: ProtocolRevision?
    let version: String

    /// nil if the message is no InitializeResult.
    init?(_ message: ByteBuffer, _ envelope: Envelope) {
        let bytes = message.readableBytesUInt8Span
        guard let result = envelope.result,
            let value = Envelope.member("protocolVersion", at: result.lowerBound, in: bytes),
            let version = value.string?.decoded(in: bytes)
        else { return nil }
        self.json = ByteBuffer(bytes: message.bytes(result))
        let start = value.range.lowerBound - result.lowerBound
        self.versionRange = start..<(start + value.range.count)
        self.version = version
        self.revision = ProtocolRevision(rawValue: version)
    }

    /// Whether it is of a revision that has a handshake: a server that answers with another one did not answer it.
    ///
    /// Versions are dates, which compare as text.
    var hasHandshake: Bool { self.version < ProtocolRevision.july2026.rawValue }

    /// What a caller that asked for `requested` gets: the lower of both, or the upstream's if it asked for one that does
    /// not exist or has no handshake.
    func negotiated(_ requested: String?) -> String {
        guard let requested, let asked = ProtocolRevision(rawValue: requested), !asked.isStateless else {
            return self.version
        }
        return min(asked.rawValue, self.version)
    }

    /// The whole message for a caller.
    func message(id: [UInt8], version: String) -> ByteBuffer {
        var message = ByteBuffer(staticString: #"{"jsonrpc":"2.0","id":"#)
        message.writeBytes(id)
        message.writeStaticString(#","result":"#)
        let edit = MessageEdit(self.versionRange, Array(JSONText.quoted(version).utf8))
        message.writeImmutableBuffer(version == self.version ? self.json : self.json.edited([edit]))
        message.writeStaticString("}")
        return message
    }
}
