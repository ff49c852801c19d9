// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Where a request id or progress token stands in a message, and its type (JSON-RPC 2.0 §4, `RequestId` and
/// `ProgressToken` of every MCP schema).
///
/// Rules of faults S6.3: a string of at most ``maximumStringBytes`` bytes, or an integer below 2⁶³ in magnitude
/// without fraction or exponent.
package struct MessageID: Hashable, Sendable {
    /// The bytes that a string id may have between its quotes, as written.
    package static let maximumStringBytes = 256

    private let value: JSONValue

    /// Reads an id that stands alone, with nothing around it; anything that is no valid id gives nil.
    package init?(literal bytes: Span<UInt8>) {
        var scanner = JSONScanner(depthLimit: 1)
        guard let value = try? scanner.value(in: bytes), value.range == 0..<bytes.count,
            let id = MessageID(value, in: bytes)
        else { return nil }
        self = id
    }

    /// Takes a scanned value for an id; nil if the rules of faults S6.3 do not allow it.
    init?(_ value: JSONValue, in bytes: Span<UInt8>) {
        switch value.kind {
        case .string, .escapedString:
            guard value.range.count - 2 <= Self.maximumStringBytes else { return nil }
        case .integer:
            guard let integer = value.integer(in: bytes), integer != .min else { return nil }
        default:
            return nil
        }
        self.value = value
    }

    /// The id as written, with the quotes of a string: what is echoed byte for byte.
    package var range: Range<Int> { self.value.range }

    /// The id if it is a string; nil if it is an integer.
    package var string: JSONString? { self.value.string }

    /// The id if it is an integer; nil if it is a string.
    package func integer(in bytes: Span<UInt8>) -> Int64? { self.value.integer(in: bytes) }

    /// Whether two ids, each in its own bytes, are the same: of one type, and the same number or, decoded, the same
    /// bytes (faults S8.1: string "1" is not number 1); allocates nothing.
    package func equals(_ other: MessageID, in otherBytes: Span<UInt8>, own bytes: Span<UInt8>) -> Bool {
        switch (self.string, other.string) {
        case (let own?, let theirs?): own.equals(theirs, in: otherBytes, own: bytes)
        case (nil, nil): self.integer(in: bytes) == other.integer(in: otherBytes)
        default: false
        }
    }

    /// The id on its own, to keep after the message is gone or to look up.
    package func value(in bytes: Span<UInt8>) -> MessageIDValue {
        if let string = self.string { return .string(string.decodedBytes(in: bytes)) }
        return .integer(self.integer(in: bytes) ?? 0)
    }
}

/// A request id or progress token without its message: equal exactly if type and decoded value are.
package enum MessageIDValue: Hashable, Sendable {
    case integer(Int64)
    /// The decoded bytes: a Swift string would take canonically equivalent ids for one.
    case string([UInt8])
}
