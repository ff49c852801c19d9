// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Where the value of a header field that may come once stands in the bytes of a head.
package enum HeaderField: Hashable, Sendable {
    case absent
    /// The value, with or without white space around it.
    case one(Range<Int>)
    /// The field came more than once.
    case repeated
}

/// The headers that tell the era of a POST and what it is for (2026-07-28, Streamable HTTP).
package struct RoutingHeaders: Hashable, Sendable {
    /// The field `MCP-Protocol-Version`.
    package var version: HeaderField
    /// The field `Mcp-Method`.
    package var method: HeaderField
    /// The field `Mcp-Name`.
    package var name: HeaderField

    package init(version: HeaderField = .absent, method: HeaderField = .absent, name: HeaderField = .absent) {
        self.version = version
        self.method = method
        self.name = name
    }
}

/// How a name is written in `Mcp-Name` (2026-07-28, Streamable HTTP; SEP-2243).
package enum HeaderNameValue {
    private static let prefix: StaticString = "=?base64?"
    private static let suffix: StaticString = "?="

    /// Whether the field value `field` stands for exactly `name`, a string of `body`.
    ///
    /// White space around the value does not count. `=?base64?…?=` is decoded strictly (RFC 4648 §4: alphabet, padding,
    /// no spare bits, nothing else), and what cannot be decoded stands for nothing; without the prefix or the suffix a
    /// value is literal.
    package static func stands(_ field: Range<Int>, in head: Span<UInt8>, for name: JSONString, in body: Span<UInt8>)
        -> Bool
    {
        let value = self.trimmed(field, in: head)
        let prefixCount = self.prefix.utf8CodeUnitCount
        let suffixCount = self.suffix.utf8CodeUnitCount
        if value.count >= prefixCount + suffixCount,
            JSONString(content: value.prefix(prefixCount), isEscaped: false).equals(self.prefix, in: head),
            JSONString(content: value.suffix(suffixCount), isEscaped: false).equals(self.suffix, in: head)
        {
            let encoded = value.dropFirst(prefixCount).dropLast(suffixCount)
            guard let decoded = Base64.decode(head.extracting(encoded)) else { return false }
            return name.equals(decoded.span, in: body)
        }
        return name.equals(head.extracting(value), in: body)
    }

    /// The range without the spaces and tabs at its ends (OWS, RFC 9110 §5.6.3).
    static func trimmed(_ field: Range<Int>, in head: Span<UInt8>) -> Range<Int> {
        func isWhiteSpace(_ index: Int) -> Bool { head[index] == 0x20 || head[index] == 0x09 }
        var range = field
        while let first = range.first, isWhiteSpace(first) { range.removeFirst() }
        while let last = range.last, isWhiteSpace(last) { range.removeLast() }
        return range
    }
}
