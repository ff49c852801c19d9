// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Finds in a text the parts of URLs that are never printed: user information and query values (contract §5).
///
/// In an absolute URL all query values are found, and those of the fragment whose names look secret. In a relative
/// reference, `/path?name=value`, those whose names look secret, since what follows a `?` there may as well be prose.
enum URLSecrets {
    /// Words, in lower case, that make the value of a parameter secret if they occur in its name (faults S1.7).
    private static let secretWords: [[UInt8]] = [
        "token", "key", "secret", "passw", "pwd", "code", "sig", "auth", "credential", "session", "cookie",
    ]
    .map { Array($0.utf8) }

    /// The parts, in any order.
    static func ranges(in text: Span<UInt8>) -> [Range<Int>] {
        var found: [Range<Int>] = []
        var index = 0
        while index < text.count {
            switch text[index] {
            case UInt8(ascii: ":") where Self.isAuthority(in: text, after: index):
                index = Self.scanURL(in: text, from: index + 3, &found)
            case UInt8(ascii: "?"), UInt8(ascii: "&"):
                index = Self.scanPairs(in: text, from: index + 1, all: false, &found)
            default:
                index += 1
            }
        }
        return found
    }

    /// Whether a header, a variable or a parameter of this name holds a secret, by the look of it.
    static func looksSecret(_ name: Span<UInt8>) -> Bool {
        let lower = name.indices.map { (0x41...0x5a).contains(name[$0]) ? name[$0] | 0x20 : name[$0] }
        return Self.secretWords.contains { word in
            lower.indices.contains { lower[$0...].starts(with: word) }
        }
    }

    /// `://` behind a letter or a digit.
    private static func isAuthority(in text: Span<UInt8>, after colon: Int) -> Bool {
        colon > 0 && Self.isNameByte(text[colon - 1]) && colon + 2 < text.count
            && text[colon + 1] == UInt8(ascii: "/") && text[colon + 2] == UInt8(ascii: "/")
    }

    /// Scans from the first byte of the authority and gives the offset behind what was scanned.
    private static func scanURL(in text: Span<UInt8>, from start: Int, _ found: inout [Range<Int>]) -> Int {
        var index = start
        var at: Int?
        while index < text.count && !Self.endsURL(text[index]) {
            if [UInt8(ascii: "/"), UInt8(ascii: "?"), UInt8(ascii: "#")].contains(text[index]) { break }
            if text[index] == UInt8(ascii: "@") { at = index }
            index += 1
        }
        if let at, at > start { found.append(start..<at) }
        while index < text.count && !Self.endsURL(text[index]) && text[index] != UInt8(ascii: "#") {
            if text[index] == UInt8(ascii: "?") {
                index = Self.scanPairs(in: text, from: index + 1, all: true, &found)
                break
            }
            index += 1
        }
        guard index < text.count, text[index] == UInt8(ascii: "#") else { return index }
        return Self.scanPairs(in: text, from: index + 1, all: false, &found)
    }

    /// Scans `name=value&…` up to the end of the URL or of the query and gives the offset behind it.
    ///
    /// - Parameters:
    ///   - text: the whole text.
    ///   - start: behind the `?`, `&` or `#`.
    ///   - all: whether every value counts, and a part without a name too.
    ///   - found: gets the values.
    /// - Returns: the offset of the first byte that is not of these pairs.
    private static func scanPairs(
        in text: Span<UInt8>,
        from start: Int,
        all: Bool,
        _ found: inout [Range<Int>]
    ) -> Int {
        var index = start
        while index < text.count {
            let begin = index
            var equals: Int?
            while index < text.count && !Self.endsURL(text[index]) && !Self.endsPair(text[index]) {
                if equals == nil && text[index] == UInt8(ascii: "=") { equals = index }
                index += 1
            }
            if let equals {
                let isFound = all || Self.looksSecret(text.extracting(begin..<equals))
                if isFound && equals + 1 < index { found.append((equals + 1)..<index) }
            } else if all && begin < index {
                found.append(begin..<index)
            }
            guard index < text.count, text[index] == UInt8(ascii: "&") || text[index] == UInt8(ascii: ";") else {
                break
            }
            index += 1
        }
        return index
    }

    private static func endsPair(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: "&") || byte == UInt8(ascii: ";") || byte == UInt8(ascii: "#")
    }

    /// White space, controls and what quotes a URL in prose (RFC 3986 appendix C).
    private static func endsURL(_ byte: UInt8) -> Bool {
        switch byte {
        case 0...0x20, 0x7f, UInt8(ascii: "\""), UInt8(ascii: "'"), UInt8(ascii: "<"), UInt8(ascii: ">"),
            UInt8(ascii: "`"), UInt8(ascii: "\\"):
            true
        default:
            false
        }
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte)
    }
}
