// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

// The expectation macros cannot take spans: the same functions, over arrays.

extension JSONString {
    func equals(_ plain: [UInt8], in bytes: [UInt8]) -> Bool { self.equals(plain.span, in: bytes.span) }

    func equals(_ plain: StaticString, in bytes: [UInt8]) -> Bool { self.equals(plain, in: bytes.span) }

    func equals(_ other: JSONString, in otherBytes: [UInt8], own bytes: [UInt8]) -> Bool {
        self.equals(other, in: otherBytes.span, own: bytes.span)
    }

    func decoded(in bytes: [UInt8]) -> String { self.decoded(in: bytes.span) }

    func decodedBytes(in bytes: [UInt8]) -> [UInt8] { self.decodedBytes(in: bytes.span) }
}

extension JSONValue {
    func integer(in bytes: [UInt8]) -> Int64? { self.integer(in: bytes.span) }

    /// The value that is all of `bytes`.
    static func only(in bytes: [UInt8]) throws -> JSONValue {
        var scanner = JSONScanner()
        let value = try scanner.value(in: bytes.span)
        try scanner.finish(in: bytes.span)
        return value
    }
}

extension MessageID {
    init?(literal bytes: [UInt8]) { self.init(literal: bytes.span) }

    func integer(in bytes: [UInt8]) -> Int64? { self.integer(in: bytes.span) }

    func value(in bytes: [UInt8]) -> MessageIDValue { self.value(in: bytes.span) }

    func equals(_ other: MessageID, in otherBytes: [UInt8], own bytes: [UInt8]) -> Bool {
        self.equals(other, in: otherBytes.span, own: bytes.span)
    }
}

extension Envelope {
    /// The only message in `text`.
    init(_ text: String, from source: EnvelopeScanner.Source = .downstream) throws {
        let bytes = Array(text.utf8)
        guard case .message(let envelope) = try EnvelopeScanner(source: source).scan(bytes.span) else {
            throw EnvelopeError(code: .invalidRequest, offset: 0, reason: "a batch")
        }
        self = envelope
    }

    func isResponse(to requestID: MessageID, in requestBytes: [UInt8], own bytes: [UInt8]) -> Bool {
        self.isResponse(to: requestID, in: requestBytes.span, own: bytes.span)
    }
}

extension String {
    /// The bytes of a range that is an offset into the UTF-8 of this text.
    subscript(utf8 range: Range<Int>) -> String { String(decoding: Array(self.utf8)[range], as: UTF8.self) }
}
