// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The id of a caller's session: 128 random bits, written as 32 hexadecimal digits.
///
/// Always ours: an upstream's id is never shown to a caller, nor a caller's taken over (contract §3, faults S7.1).
package struct SessionID: Hashable, Sendable {
    private let high: UInt64
    private let low: UInt64

    /// A new id from a generator that nobody can predict.
    package init(using generator: inout some RandomNumberGenerator) {
        self.high = generator.next()
        self.low = generator.next()
    }

    /// Reads an id that a caller presents; anything but 32 lower-case hexadecimal digits gives nil.
    package init?(_ text: Span<UInt8>) {
        guard text.count == 32 else { return nil }
        var halves: (UInt64, UInt64) = (0, 0)
        for index in 0..<32 {
            let digit: UInt8
            switch text[index] {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = text[index] - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = text[index] - UInt8(ascii: "a") + 10
            default: return nil
            }
            if index < 16 {
                halves.0 = halves.0 << 4 | UInt64(digit)
            } else {
                halves.1 = halves.1 << 4 | UInt64(digit)
            }
        }
        self.high = halves.0
        self.low = halves.1
    }

    /// What goes into an `Mcp-Session-Id` header.
    package var text: String { Self.hexadecimal(self.high) + Self.hexadecimal(self.low) }

    /// Eight digits that tell sessions apart in a log without giving the id away.
    package var digest: String {
        // A mix that cannot be turned back: half of the bits never reach the result.
        var mixed = self.high &* 0x9e37_79b9_7f4a_7c15 ^ self.low
        mixed = (mixed ^ mixed >> 29) &* 0xbf58_476d_1ce4_e5b9
        return String(Self.hexadecimal(mixed ^ mixed >> 32).suffix(8))
    }

    private static func hexadecimal(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}

extension SessionID: CustomStringConvertible {
    /// The digest: an id is a capability and stays out of texts.
    package var description: String { self.digest }
}
