// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The challenges of one or more `WWW-Authenticate` or `Proxy-Authenticate` lines (RFC 9110 §11.6.1, §11.7.1), as far
/// as anybody here wants to know.
///
/// Schemes and parameter names in any letter case, quoted strings with escapes, several challenges in a line. What does
/// not fit the grammar is skipped: nothing depends on it but a word in a log.
package struct AuthChallenges: Hashable, Sendable {
    /// A scheme that has a name here; what a peer calls its own is only `other`.
    package enum Scheme: String, Hashable, Sendable {
        case basic = "Basic"
        case bearer = "Bearer"
        case digest = "Digest"
        case negotiate = "Negotiate"
        case ntlm = "NTLM"
        case other

        /// The scheme of a name in lower case.
        init(named name: String) {
            switch name {
            case "basic": self = .basic
            case "bearer": self = .bearer
            case "digest": self = .digest
            case "negotiate": self = .negotiate
            case "ntlm": self = .ntlm
            default: self = .other
            }
        }
    }

    /// The schemes offered, each once, in their order.
    package private(set) var schemes: [Scheme] = []
    /// Whether there is no challenge.
    package var isEmpty: Bool { self.schemes.isEmpty }
    /// `error` of the first Bearer challenge that has one (RFC 6750 §3), lower-case, at most 64 characters.
    package private(set) var bearerError: String?

    package init() {}

    /// Reads one line more.
    package mutating func read(_ line: some Sequence<UInt8>) {
        var isBearer = false
        var tokens = Tokens(line)
        var before: String?
        // A word is a scheme unless `=` follows; `token68` and parameters of other schemes are passed over.
        while let token = tokens.next() {
            switch token {
            case .word(let word):
                if let scheme = before { isBearer = self.began(scheme) }
                before = word
            case .value(let value):
                let name = before
                before = nil
                guard isBearer, name == "error", self.bearerError == nil else { continue }
                self.bearerError = String(value.lowercased().prefix(64))
            case .comma:
                if let scheme = before { isBearer = self.began(scheme) }
                before = nil
            }
        }
        if let scheme = before { _ = self.began(scheme) }
    }

    private mutating func began(_ scheme: String) -> Bool {
        let scheme = Scheme(named: scheme)
        if !self.schemes.contains(scheme) { self.schemes.append(scheme) }
        return scheme == .bearer
    }

    private enum Token {
        /// Lower-case.
        case word(String)
        /// What follows `=`.
        case value(String)
        case comma
    }

    private struct Tokens {
        private let bytes: [UInt8]
        private var index = 0

        init(_ line: some Sequence<UInt8>) {
            self.bytes = Array(line.prefix(8 * 1024))
        }

        private var byte: UInt8? { self.index < self.bytes.count ? self.bytes[self.index] : nil }

        mutating func next() -> Token? {
            while let byte = self.byte {
                switch byte {
                case UInt8(ascii: ","):
                    self.index += 1
                    return .comma
                case UInt8(ascii: "="):
                    self.index += 1
                    if let value = self.value() { return .value(value) }
                case UInt8(ascii: "\""):
                    _ = self.quoted()
                case _ where Self.isWord(byte):
                    return .word(self.word().lowercased())
                default:
                    self.index += 1
                }
            }
            return nil
        }

        private mutating func value() -> String? {
            while self.byte == UInt8(ascii: " ") || self.byte == UInt8(ascii: "\t") { self.index += 1 }
            guard let byte else { return nil }
            if byte == UInt8(ascii: "\"") { return self.quoted() }
            return Self.isWord(byte) ? self.word() : nil
        }

        private mutating func word() -> String {
            let start = self.index
            while let byte, Self.isWord(byte) { self.index += 1 }
            return String(decoding: self.bytes[start..<self.index], as: UTF8.self)
        }

        /// The index is at the opening quote.
        private mutating func quoted() -> String {
            var content: [UInt8] = []
            self.index += 1
            while let byte, byte != UInt8(ascii: "\"") {
                self.index += 1
                guard byte == UInt8(ascii: "\\"), let escaped = self.byte else {
                    content.append(byte)
                    continue
                }
                content.append(escaped)
                self.index += 1
            }
            self.index += 1
            return String(decoding: content, as: UTF8.self)
        }

        /// Characters of a token (RFC 9110 §5.6.2) and of token68, but `=`.
        private static func isWord(_ byte: UInt8) -> Bool {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                true
            default:
                "!#$%&'*+-.^_`|~/:".utf8.contains(byte)
            }
        }
    }
}
