// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Why a text is not JSON that the gateway takes (RFC 8259).
package struct JSONError: Error, Hashable, Sendable {
    /// What is wrong; the raw value is for messages.
    package enum Reason: String, Hashable, Sendable {
        case unexpectedByte = "not JSON"
        case unexpectedEnd = "the JSON text ends too early"
        case trailingBytes = "bytes after the end of the JSON text"
        case notUTF8 = "not UTF-8"
        case byteOrderMark = "a byte order mark before the JSON text"
        case controlCharacter = "a control character in a JSON string"
        case brokenEscape = "a broken escape in a JSON string"
        case tooDeep = "JSON nested too deeply"
        case tooLong = "a JSON text of 2 GiB and more"
    }

    package let reason: Reason
    /// Where it was noticed, in bytes from the start.
    package let offset: Int

    package init(_ reason: Reason, at offset: Int) {
        self.reason = reason
        self.offset = offset
    }
}

/// Where a JSON value stands, and its type.
package struct JSONValue: Hashable, Sendable {
    package enum Kind: UInt8, Hashable, Sendable {
        case object
        case array
        case string
        /// A string with a backslash in it.
        case escapedString
        /// A number without fraction and exponent.
        case integer
        /// Any other number.
        case fraction
        case boolean
        case null
    }

    package let kind: Kind
    // 32 bits keep envelopes small; the scanner takes no longer texts.
    private let start: UInt32
    private let end: UInt32

    @inline(__always)
    init(kind: Kind, range: Range<Int>) {
        self.kind = kind
        self.start = UInt32(clamping: range.lowerBound)
        self.end = UInt32(clamping: range.upperBound)
    }

    /// The value in the text, with the quotes of a string.
    package var range: Range<Int> { Int(self.start)..<max(Int(self.start), Int(self.end)) }

    /// The string, if this is one.
    package var string: JSONString? {
        switch self.kind {
        case .string, .escapedString:
            JSONString(content: Int(self.start) + 1..<Int(self.end) - 1, isEscaped: self.kind == .escapedString)
        default:
            nil
        }
    }

    /// The value of an integer; nil for any other value, and for one that does not fit 64 bits.
    package func integer(in bytes: Span<UInt8>) -> Int64? {
        guard self.kind == .integer else { return nil }
        var index = Int(self.start)
        let isNegative = bytes[index] == UInt8(ascii: "-")
        if isNegative { index += 1 }
        guard Int(self.end) - index <= 19 else { return nil }
        var magnitude: UInt64 = 0
        while index < Int(self.end) {
            // 19 digits stay below 10¹⁹, which fits.
            magnitude = magnitude &* 10 &+ UInt64(bytes[index] &- UInt8(ascii: "0"))
            index += 1
        }
        guard magnitude <= UInt64(Int64.max) else {
            return isNegative && magnitude == UInt64(Int64.max) + 1 ? .min : nil
        }
        return isNegative ? -Int64(magnitude) : Int64(magnitude)
    }
}
