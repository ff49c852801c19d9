// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Tells values that have to be masked from words that have to stay readable (contract §5).
///
/// A redactor that masked `production` or `/usr/bin` wherever they occur would make logs useless; one that took
/// everything for a word would be useless itself. So a header, variable or query value is plain only if it is made of
/// words, small numbers, a path or a URL, and no part of it is shaped like a token; in doubt it is a secret.
package enum SecretText {
    /// Characters from which on a value is masked.
    package static let shortest = 8

    /// Whether the name of a header or variable says that its value is a secret, whatever it looks like.
    package static func isSecretName(_ name: String) -> Bool {
        let name = name.lowercased()
        return ["token", "key", "secret", "pass", "pwd", "auth", "credential", "cookie", "session", "signature"]
            .contains { name.contains($0) }
    }

    /// Whether a value is a word, a number, a path or a URL without secrets.
    package static func isPlain(_ text: String) -> Bool {
        guard text.utf8.allSatisfy({ (0x20..<0x7f).contains($0) }) else { return false }
        if text.contains("://") { return Self.partsOfURL(text).isEmpty && !Self.hasTokenLikePart(text[...]) }
        if ["/", "./", "../", "~/"].contains(where: text.hasPrefix) { return !Self.hasTokenLikePart(text[...]) }
        let digits = text.utf8.count { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        let marks = text.utf8.count { "+-.,_".utf8.contains($0) }
        if digits + marks == text.utf8.count { return digits <= 20 }
        let parts = text.split { " /_-.,;:=+()@".contains($0) }
        return digits <= 8 && parts.allSatisfy(Self.isWord)
    }

    /// Whether some segment between slashes, dots and equals signs is shaped like a token: long, letters mixed with
    /// digits.
    package static func hasTokenLikePart(_ text: Substring) -> Bool {
        text.split { "/.=:?&#@,; ".contains($0) }.contains(where: Self.isTokenLike)
    }

    /// Whether a segment is shaped like a token rather than like a name.
    package static func isTokenLike(_ segment: Substring) -> Bool {
        guard segment.count >= 16 else { return false }
        let hasDigit = segment.contains(where: \.isNumber)
        let words = segment.split { "-_".contains($0) }
        return hasDigit
            ? words.contains { !Self.isWord($0) && !$0.allSatisfy(\.isNumber) } : !words.allSatisfy(Self.isWord)
    }

    /// User information and query values of a text that is a URL, as written and decoded.
    package static func partsOfURL(_ text: String) -> [String] {
        guard let separator = text.firstRange(of: "://") else { return [] }
        let rest = text[separator.upperBound...]
        let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        var parts: [String] = []
        if let at = authority.lastIndex(of: "@") {
            let user = authority[..<at]
            parts += [String(user)] + user.split(separator: ":", maxSplits: 1).map(String.init)
        }
        parts += Self.queryValues(of: rest)
        return parts.flatMap { part in [part] + (PercentEncoding.decode(part).map { $0 == part ? [] : [$0] } ?? []) }
    }

    /// The values behind a question mark that are not plain, as written and decoded.
    package static func queryValues(of text: Substring) -> [String] {
        guard let mark = text.firstIndex(of: "?") else { return [] }
        let query = text[text.index(after: mark)...].prefix { $0 != "#" }
        return query.split(separator: "&")
            .flatMap { pair -> [String] in
                let halves = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                guard let value = halves.last.map(String.init) else { return [] }
                let decoded = PercentEncoding.decode(value) ?? value
                if halves.count == 2, !Self.isSecretName(String(halves[0])), Self.isPlain(decoded) { return [] }
                return decoded == value ? [value] : [value, decoded]
            }
    }

    /// Letters in one case, or with a capital at the beginning, and not too many of them; or up to four digits.
    private static func isWord(_ word: Substring) -> Bool {
        if word.allSatisfy(\.isNumber) { return word.count <= 4 }
        guard word.count <= 20, word.allSatisfy(\.isLetter) else { return false }
        let tail = word.dropFirst()
        return tail.allSatisfy(\.isLowercase) || word.allSatisfy(\.isUppercase)
    }
}
