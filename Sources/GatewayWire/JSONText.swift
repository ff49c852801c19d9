// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Writes JSON (RFC 8259).
package enum JSONText {
    /// Appends `string` as a literal with its quotes.
    ///
    /// The quote, the backslash and the control characters below U+0020 are escaped, everything else stays UTF-8.
    package static func append(string: some StringProtocol, to output: inout [UInt8]) {
        output.reserveCapacity(output.count + string.utf8.count + 2)
        output.append(UInt8(ascii: "\""))
        for byte in string.utf8 { self.append(contentByte: byte, to: &output) }
        output.append(UInt8(ascii: "\""))
    }

    /// Appends the bytes in `range` of `bytes` as they are: a literal taken from another message.
    package static func append(raw range: Range<Int>, of bytes: Span<UInt8>, to output: inout [UInt8]) {
        bytes.extracting(range).withUnsafeBufferPointer { output.append(contentsOf: $0) }
    }

    private static func append(contentByte byte: UInt8, to output: inout [UInt8]) {
        let letter: UInt8
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"): letter = byte
        case 0x08: letter = UInt8(ascii: "b")
        case 0x09: letter = UInt8(ascii: "t")
        case 0x0a: letter = UInt8(ascii: "n")
        case 0x0c: letter = UInt8(ascii: "f")
        case 0x0d: letter = UInt8(ascii: "r")
        case ..<0x20:
            output.append(contentsOf: "\\u00".utf8)
            output.append(self.hexDigit(byte >> 4))
            output.append(self.hexDigit(byte & 0x0f))
            return
        default:
            output.append(byte)
            return
        }
        output.append(UInt8(ascii: "\\"))
        output.append(letter)
    }

    private static func hexDigit(_ value: UInt8) -> UInt8 {
        value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
    }
}
