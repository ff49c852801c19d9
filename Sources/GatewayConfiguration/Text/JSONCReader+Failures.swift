// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

extension JSONCReader {
    /// A failure at the present place.
    func failure(_ code: Finding.Code, _ message: String, suggestion: String? = nil) -> Failure {
        Failure(code: code, position: self.position, path: self.path, message: message, suggestion: suggestion)
    }

    /// What is here is not what can be here.
    ///
    /// One character of it is shown at most: what stands outside of quotes by mistake may be a secret.
    func unexpected(_ expected: String, suggestion: String? = nil) -> Failure {
        let found: String
        switch self.peek {
        case nil: found = "the end of the document"
        case UInt8(ascii: "'"): found = "a single quote"
        case UInt8(ascii: "#"): found = "# (comments begin with //)"
        case .some(let byte) where byte < 0x80: found = Self.name(of: byte)
        case .some: found = "a character outside of quotes"
        }
        return self.failure(.syntax, "found \(found), expected \(expected)", suggestion: suggestion)
    }

    static func name(of byte: UInt8) -> String {
        switch byte {
        case UInt8(ascii: "\n"), UInt8(ascii: "\r"): "a line break"
        case UInt8(ascii: "\t"): "a tab"
        case 0x21..<0x7f: "`\(Unicode.Scalar(byte))`"
        default: "the control character \(byte)"
        }
    }

    /// Checks that the document is UTF-8, before anything else looks at it.
    mutating func checkEncoding() throws(Failure) {
        if self.bytes.starts(with: [0xff, 0xfe]) || self.bytes.starts(with: [0xfe, 0xff]) {
            throw self.failure(
                .badEncoding,
                "the document is UTF-16; accepted is UTF-8, with or without a byte order mark"
            )
        }
        let bad: Int
        do {
            _ = try UTF8Span(validating: self.bytes.span)
            return
        } catch {
            bad = error.byteOffsets.lowerBound
        }
        var place = SourcePosition.start
        let mark = self.bytes.starts(with: [0xef, 0xbb, 0xbf]) ? 3 : 0
        var index = mark
        while index < bad {
            place.advance(over: self.bytes[index], next: index + 1 < self.bytes.count ? self.bytes[index + 1] : nil)
            index += 1
        }
        self.position = place
        throw self.failure(.badEncoding, "found bytes that are not UTF-8; save the document as UTF-8")
    }
}
