// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Checks and small parsers for field names and values.
///
/// For what is written into a head: names and values from the configuration or a peer are checked with these before
/// they go out (faults S5.1).
package enum HTTP1Text {
    /// Whether the bytes are a token: a field name or a method (RFC 9110 §5.6.2); an empty span is none.
    package static func isToken(_ bytes: Span<UInt8>) -> Bool {
        for index in bytes.indices where !HTTP1Bytes.isToken(bytes[index]) { return false }
        return !bytes.isEmpty
    }

    /// Whether the text is a token.
    package static func isToken(_ text: String.UTF8View) -> Bool {
        !text.isEmpty && text.allSatisfy(HTTP1Bytes.isToken)
    }

    /// Whether the bytes can stand as a field value: no control bytes but tab, no white space at either end
    /// (RFC 9110 §5.5).
    ///
    /// Empty is a value. Bytes above 0x7f are allowed as `obs-text`.
    package static func isFieldValue(_ bytes: Span<UInt8>) -> Bool {
        for index in bytes.indices where !HTTP1Bytes.isFieldValue(bytes[index]) { return false }
        guard !bytes.isEmpty else { return true }
        return !HTTP1Bytes.isOptionalWhitespace(bytes[0])
            && !HTTP1Bytes.isOptionalWhitespace(bytes[bytes.count &- 1])
    }

    /// Whether the text can stand as a field value.
    package static func isFieldValue(_ text: String.UTF8View) -> Bool {
        guard let first = text.first, let last = text.last else { return true }
        return text.allSatisfy(HTTP1Bytes.isFieldValue) && !HTTP1Bytes.isOptionalWhitespace(first)
            && !HTTP1Bytes.isOptionalWhitespace(last)
    }

    /// Whether every byte is visible ASCII, 0x21...0x7e: what a session id must be (MCP, transports, Session Management).
    ///
    /// An empty span is not.
    package static func isVisibleASCII(_ bytes: Span<UInt8>) -> Bool {
        for index in bytes.indices where bytes[index] <= 0x20 || bytes[index] >= 0x7f { return false }
        return !bytes.isEmpty
    }

    /// The number that one or more decimal digits and nothing else spell; nil otherwise and beyond `Int.max`.
    package static func decimal(_ bytes: Span<UInt8>) -> Int? {
        guard !bytes.isEmpty else { return nil }
        var value = 0
        for index in bytes.indices {
            let byte = bytes[index]
            guard HTTP1Bytes.isDigit(byte) else { return nil }
            let (product, overflowed) = value.multipliedReportingOverflow(by: 10)
            let (sum, carried) = product.addingReportingOverflow(Int(byte &- UInt8(ascii: "0")))
            guard !overflowed, !carried else { return nil }
            value = sum
        }
        return value
    }

    /// Whether the bytes spell `lowercase`, which must be in lower case, in any letter case.
    package static func equalsIgnoringCase(_ bytes: Span<UInt8>, _ lowercase: StaticString) -> Bool {
        HTTP1Bytes.equalsIgnoringCase(bytes, lowercase)
    }

    /// Whether `token`, which must be in lower case, is an element of a comma-separated list such as `Connection`.
    ///
    /// Elements are compared whole, in any letter case, without white space around them.
    package static func list(_ bytes: Span<UInt8>, contains token: StaticString) -> Bool {
        var start = 0
        while start <= bytes.count {
            var end = start
            while end < bytes.count, bytes[end] != UInt8(ascii: ",") { end &+= 1 }
            if HTTP1Bytes.equalsIgnoringCase(bytes.extracting(HTTP1Bytes.trimmed(start..<end, bytes)), token) {
                return true
            }
            start = end &+ 1
        }
        return false
    }

    /// The media type of a `Content-Type` value; its parameters are ignored (RFC 9110 §8.3.1).
    package static func mediaType(_ value: Span<UInt8>) -> HTTP1MediaType {
        var end = 0
        while end < value.count, value[end] != UInt8(ascii: ";") { end &+= 1 }
        let type = value.extracting(HTTP1Bytes.trimmed(0..<end, value))
        if HTTP1Bytes.equalsIgnoringCase(type, "application/json") { return .json }
        if HTTP1Bytes.equalsIgnoringCase(type, "text/event-stream") { return .eventStream }
        if HTTP1Bytes.equalsIgnoringCase(type, "text/html") { return .html }
        return .other
    }
}

/// The media types that the transports use.
package enum HTTP1MediaType: Sendable {
    /// `application/json`
    case json
    /// `text/event-stream`
    case eventStream
    /// `text/html`: what people are shown, and no server of MCP says.
    case html
    case other

    /// Whether it is one of the two that answers of MCP have.
    package var isOfMCP: Bool { self == .json || self == .eventStream }
}
