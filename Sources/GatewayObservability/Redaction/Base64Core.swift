// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire

/// The characters of a base64 text that depend on one value alone, whatever is encoded before and behind it.
///
/// Base64 writes three bytes as four characters (RFC 4648 §4), so a value inside a longer one, such as the password in
/// `user:password`, is written in one of three ways, by how many bytes are before it modulo 3. A character at either end
/// that shares its six bits with a neighbour is not in the core.
enum Base64Core {
    /// The core of a value with `alignment` (0, 1 or 2) bytes before it in its group, without padding.
    static func encode(_ value: [UInt8], alignment: Int) -> [UInt8] {
        let bits = 8 * alignment..<8 * (alignment + value.count)
        var core: [UInt8] = []
        var position = (bits.lowerBound + 5) / 6 * 6
        while position + 6 <= bits.upperBound {
            let index = (position - bits.lowerBound) / 8
            let window = UInt16(value[index]) << 8 | (index + 1 < value.count ? UInt16(value[index + 1]) : 0)
            core.append(Base64.alphabet[Int(window >> UInt16(10 - position % 8)) & 63])
            position += 6
        }
        return core
    }

    /// The same in the alphabet for URLs and file names (RFC 4648 §5).
    static func urlSafe(_ text: [UInt8]) -> [UInt8] {
        text.map { byte in
            switch byte {
            case UInt8(ascii: "+"): UInt8(ascii: "-")
            case UInt8(ascii: "/"): UInt8(ascii: "_")
            default: byte
            }
        }
    }
}
