// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The 128 bits of an IPv6 address, for the comparison of literals (RFC 4291 §2.2, RFC 5952).
package struct IPv6Address: Hashable, Sendable {
    /// The address as a number, its first byte the highest.
    package let value: UInt128

    /// The loopback address, `::1`.
    static let loopback = IPv6Address(value: 1)

    init(value: UInt128) {
        self.value = value
    }

    /// Parses the text of an address without brackets; a zone, and any other text, gives nil.
    package init?(_ bytes: Span<UInt8>) {
        guard (2...45).contains(bytes.count) else { return nil }
        var value: UInt128 = 0
        var groups = 0
        /// How many groups stand before `::`.
        var gap: Int?
        var index = 0
        if bytes[0] == UInt8(ascii: ":") {
            guard bytes[1] == UInt8(ascii: ":") else { return nil }
            gap = 0
            index = 2
        }
        while index < bytes.count {
            let start = index
            var group: UInt128 = 0
            while index < bytes.count, index - start < 4, let digit = HTTP1Bytes.hexadecimalValue(bytes[index]) {
                group = group << 4 | UInt128(digit)
                index += 1
            }
            guard index > start, groups < 8 else { return nil }
            if index < bytes.count, bytes[index] == UInt8(ascii: ".") {
                guard let quad = Self.dottedQuad(bytes.extracting(start..<bytes.count)) else { return nil }
                value = value << 32 | UInt128(quad)
                groups += 2
                break
            }
            value = value << 16 | group
            groups += 1
            if index == bytes.count { break }
            guard bytes[index] == UInt8(ascii: ":"), index + 1 < bytes.count else { return nil }
            index += 1
            if bytes[index] == UInt8(ascii: ":") {
                guard gap == nil else { return nil }
                gap = groups
                index += 1
            }
        }
        if let gap {
            guard groups < 8 else { return nil }
            let tailBits = 16 * (groups - gap)
            let tail = value & ((1 << tailBits) - 1)
            value = (value >> tailBits) << (128 - 16 * gap) | tail
        } else if groups != 8 {
            return nil
        }
        self.value = value
    }

    /// The value of four decimal numbers with points between them, each of one to three digits and at most 255.
    package static func dottedQuad(_ bytes: Span<UInt8>) -> UInt32? {
        guard (7...15).contains(bytes.count) else { return nil }
        var value: UInt32 = 0
        var start = 0
        for part in 0..<4 {
            var end = start
            while end < bytes.count, bytes[end] != UInt8(ascii: ".") { end += 1 }
            guard end - start <= 3, let number = HTTP1Text.decimal(bytes.extracting(start..<end)), number <= 255,
                (end == bytes.count) == (part == 3)
            else { return nil }
            value = value << 8 | UInt32(number)
            start = min(end + 1, bytes.count)
        }
        return value
    }

    /// The canonical text: lower case, no leading zeros, `::` for the first longest run of two or more zero groups.
    var text: String {
        let groups = (0..<8).map { UInt16(truncatingIfNeeded: self.value >> (112 - 16 * $0)) }
        var longest = 0..<0
        var start = 0
        for index in 0...8 where index == 8 || groups[index] != 0 {
            if index - start > max(longest.count, 1) { longest = start..<index }
            start = index + 1
        }
        func joined(_ part: ArraySlice<UInt16>) -> String {
            part.map { String($0, radix: 16) }.joined(separator: ":")
        }
        if longest.isEmpty { return joined(groups[...]) }
        return joined(groups[..<longest.lowerBound]) + "::" + joined(groups[longest.upperBound...])
    }
}
