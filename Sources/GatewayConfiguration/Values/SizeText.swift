// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Sizes as the configuration writes them: whole bytes, or a whole number of `B`, `KiB`, `MiB` or `GiB`.
enum SizeText {
    /// The bytes that a text means; nil if it is no size.
    static func bytes(_ text: String) -> Int? {
        let digits = text.prefix { ("0"..."9").contains($0) && $0.isASCII }
        guard let number = Int(digits) else { return nil }
        let rest = text.dropFirst(digits.count)
        let unit = rest.hasPrefix(" ") ? rest.dropFirst() : rest
        let factor: Int
        switch unit {
        case "" where rest.isEmpty, "B": factor = 1
        case "KiB": factor = 1024
        case "MiB": factor = 1024 * 1024
        case "GiB": factor = 1024 * 1024 * 1024
        default: return nil
        }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: factor)
        return overflow ? nil : bytes
    }

    /// What was meant by a size with another unit, as JSON text.
    static func suggestion(for text: String) -> String? {
        let digits = text.prefix { ("0"..."9").contains($0) && $0.isASCII }
        guard (1...12).contains(digits.count) else { return nil }
        switch text.dropFirst(digits.count).drop(while: { $0 == " " }).lowercased() {
        case "k", "kb", "ki", "kib": return "\"\(digits)KiB\""
        case "m", "mb", "mi", "mib": return "\"\(digits)MiB\""
        case "g", "gb", "gi", "gib": return "\"\(digits)GiB\""
        default: return nil
        }
    }

    /// Writes a size the way the configuration reads it, such as `4MiB`.
    static func describe(_ bytes: Int) -> String {
        for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        where bytes >= factor && bytes % factor == 0 {
            return "\(bytes / factor)\(unit)"
        }
        return "\(bytes)B"
    }
}
