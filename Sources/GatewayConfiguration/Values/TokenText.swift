// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// One entry of `authTokens` or `auth.tokens` (credentials §2.1, N4 to N7).
enum TokenText {
    case empty
    /// Characters that cannot stand in a header field, or that no other side would send the same way.
    case unusable
    /// Without the white space around it.
    case usable(String, isTrimmed: Bool, hasScheme: Bool)

    /// What a finding says about an unusable one.
    static let rule = "this token has control characters or characters outside ASCII, which cannot be sent in a header"

    init(_ text: String) {
        let token = Self.trimmed(text[...])
        if token.isEmpty {
            self = .empty
        } else if !token.utf8.allSatisfy({ (0x20..<0x7f).contains($0) }) {
            self = .unusable
        } else {
            self = .usable(
                token,
                isTrimmed: token.utf8.count != text.utf8.count,
                hasScheme: token.lowercased().hasPrefix("bearer ")
            )
        }
    }

    /// Text without blanks, tabs and line ends around it.
    static func trimmed(_ text: Substring) -> String {
        let isBlank: (Unicode.Scalar) -> Bool = { $0 == " " || $0 == "\t" || $0 == "\n" || $0 == "\r" }
        var scalars = text.unicodeScalars.drop(while: isBlank)
        while let last = scalars.last, isBlank(last) { scalars.removeLast() }
        return String(scalars)
    }
}
