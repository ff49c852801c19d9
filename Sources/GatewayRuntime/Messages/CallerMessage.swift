// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewayWire
import NIOCore

/// One JSON-RPC message of a caller, as far as the relay needs to know it.
struct CallerMessage {
    let envelope: Envelope
    let era: CallerEra
    let body: ByteBuffer

    var method: MCPMethod { self.envelope.method ?? .other }
    /// Whether an answer is owed.
    var isRequest: Bool { self.envelope.kind == .request }

    /// Whether it is about a call or a question that is under way: an answer, a cancellation, or progress.
    var isAboutWork: Bool {
        switch self.envelope.kind {
        case .request: false
        case .result, .error: true
        case .notification: self.method == .cancelledNotification || self.method == .progressNotification
        }
    }

    /// What is at stake if the message runs twice (faults §4.2).
    var messageClass: RetryRules.MessageClass {
        guard self.isRequest else { return .oneWay }
        return self.method.isSafe ? .safe : .call
    }

    /// The id as the caller wrote it; nil if no answer is owed.
    var idBytes: [UInt8]? {
        guard self.isRequest, let id = self.envelope.id else { return nil }
        return self.bytes(id.range)
    }

    /// Whether the answer is a stream that ends when either side wants it to.
    var isListening: Bool { self.method == .subscriptionsListen }

    /// Whether an upstream's message is the response to this one.
    func isAnswered(by answer: Envelope, in bytes: ByteBuffer) -> Bool {
        guard let id = self.envelope.id else { return false }
        let body = self.body
        return answer.isResponse(to: id, in: body.readableBytesUInt8Span, own: bytes.readableBytesUInt8Span)
    }

    func bytes(_ range: Range<Int>) -> [UInt8] {
        self.body.getBytes(at: self.body.readerIndex + range.lowerBound, length: range.count) ?? []
    }

    func text(_ string: JSONString) -> String { string.decoded(in: self.body.readableBytesUInt8Span) }
}
