// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire

/// The targets that are reached without the outbound proxy (credentials §3.3).
///
/// Names are never looked up: an entry with an address matches a target that is written as an address.
struct NoProxyList: Hashable, Sendable {
    /// One entry, as written.
    struct Entry: Hashable, Sendable {
        /// Its place in the list, from 1; blank entries are not counted.
        let number: Int
        let text: String
        /// What it matches; nil for an entry that cannot be used and matches nothing.
        let pattern: Pattern?
    }

    /// What an entry matches.
    enum Pattern: Hashable, Sendable {
        case everything
        /// A name with its subdomains, or the subdomains alone.
        case name(String, onlySubdomains: Bool, port: Int?)
        /// The addresses of the same family whose first `length` bits are these.
        case network(ComparableHost, length: Int, port: Int?)
    }

    let entries: [Entry]

    /// Reads texts of entries with commas or white space between them.
    init(_ texts: [String]) {
        self.entries = texts.flatMap(Self.split)
            .enumerated()
            .map { Entry(number: $0.offset + 1, text: $0.element, pattern: Pattern($0.element)) }
    }

    init(_ text: String) {
        self.init([text])
    }

    /// The entries that cannot be used.
    var unusable: [Entry] { self.entries.filter { $0.pattern == nil } }

    /// The first entry that matches a target; `port` is the effective one.
    func entry(matching host: ComparableHost, port: Int) -> Entry? {
        self.entries.first { $0.pattern?.matches(host, port: port) == true }
    }

    /// An entry for people: without what would disturb a terminal, or a user and password that got into it.
    static func shown(_ text: String) -> String {
        let hidden = text.lastIndex(of: "@")
        let rest = hidden.map { text[text.index(after: $0)...] } ?? text[...]
        let cut = String(rest.prefix(Self.shownCharacters))
        return (hidden == nil ? "" : "\(Secret.mask)@") + ConfigurationSummary.escaped(cut)
            + (cut.count == rest.count ? "" : "…")
    }

    /// How much of an entry is shown.
    private static let shownCharacters = 64

    /// The texts of the entries, without blank ones.
    static func split(_ text: String) -> [String] {
        text.unicodeScalars.split { $0 == "," || $0.properties.isWhitespace }.map { String(Substring($0)) }
    }
}

extension NoProxyList.Pattern {
    /// Reads one entry; nil if it cannot be used.
    init?(_ text: String) {
        if text == "*" {
            self = .everything
        } else if let slash = text.firstIndex(of: "/") {
            self.init(address: text[..<slash], length: text[text.index(after: slash)...])
        } else if text.hasPrefix("[") {
            guard let parsed = HostPort(text), parsed.port != 0 else { return nil }
            self.init(literal: parsed.host, port: parsed.port)
        } else if text.utf8.count(where: { $0 == UInt8(ascii: ":") }) > 1 {
            self.init(literal: text, port: nil)
        } else {
            self.init(nameWithPort: text)
        }
    }

    /// Whether a target is meant; `port` is its effective one.
    func matches(_ host: ComparableHost, port: Int) -> Bool {
        switch (self, host) {
        case (.everything, _):
            true
        case (.name(let name, let onlySubdomains, let own), .name(let target)):
            own ?? port == port && (target == name && !onlySubdomains || target.hasSuffix(".\(name)"))
        case (.network(.ipv4(let network), let length, let own), .ipv4(let address)):
            // A shift by the whole width gives zero: length 0 is the whole family.
            own ?? port == port && (network ^ address) >> (32 - length) == 0
        case (.network(.ipv6(let network), let length, let own), .ipv6(let address)):
            own ?? port == port && (network ^ address) >> (128 - length) == 0
        case (.name, _), (.network, _):
            false
        }
    }

    private init?(literal text: String, port: Int?) {
        guard let address = ComparableHost.literal(text) else { return nil }
        if case .ipv4 = address {
            self = .network(address, length: 32, port: port)
        } else {
            self = .network(address, length: 128, port: port)
        }
    }

    /// Reads a CIDR block; bits behind its length may be set.
    private init?(address text: Substring, length: Substring) {
        guard length.utf8.count <= 3, let bits = HTTP1Text.decimal(Array(length.utf8).span),
            let address = ComparableHost.literal(text)
        else { return nil }
        let isMapped = text.contains(":")
        switch address {
        case .ipv4 where isMapped && bits < 96:
            // Wider than the mapped addresses: a block of IPv6 addresses.
            let bytes = Array(text.utf8)
            guard let value = IPv6Address(bytes.span)?.value else { return nil }
            self = .network(.ipv6(value), length: bits, port: nil)
        case .ipv4:
            guard bits <= (isMapped ? 128 : 32) else { return nil }
            self = .network(address, length: isMapped ? bits - 96 : bits, port: nil)
        case .ipv6:
            guard bits <= 128 else { return nil }
            self = .network(address, length: bits, port: nil)
        case .name:
            return nil
        }
    }

    private init?(nameWithPort text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        var port: Int?
        if parts.count == 2 {
            guard parts[1].utf8.count <= 5, let number = HTTP1Text.decimal(Array(parts[1].utf8).span),
                (1...65_535).contains(number)
            else { return nil }
            port = number
        }
        let onlySubdomains = text.hasPrefix("*.")
        let isSuffix = onlySubdomains || text.hasPrefix(".")
        let written = (parts.first ?? "").dropFirst(onlySubdomains ? 2 : isSuffix ? 1 : 0)
        guard let name = ComparableHost.canonicalName(written) else { return nil }
        if ComparableHost.endsInNumber(name) {
            // Part of an address, such as `192.168.`, is not guessed at.
            guard !isSuffix else { return nil }
            self.init(literal: name, port: port)
        } else {
            self = .name(name, onlySubdomains: onlySubdomains, port: port)
        }
    }
}
