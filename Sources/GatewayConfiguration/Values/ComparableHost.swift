// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire

/// A host in the one form in which NO_PROXY compares hosts (credentials §3.3, rules 2, 3 and 6).
enum ComparableHost: Hashable, Sendable {
    case ipv4(UInt32)
    case ipv6(UInt128)
    /// In lower case and ASCII, without a dot at its end.
    case name(String)

    /// The host of a target, whose numbers mean what they mean to `inet_aton`: `127.1` and `0x7f000001` are addresses.
    init(target host: String, isIPv6Literal: Bool) {
        if isIPv6Literal {
            self = Self.literal(host) ?? .name(host.lowercased())
        } else if let name = Self.canonicalName(host) {
            self = Self.number(name).map { .ipv4($0) } ?? .name(name)
        } else {
            self = .name(host.lowercased())
        }
    }

    /// An address as its standard text, without brackets; nil for anything else, also for a number with leading zeros,
    /// which is octal to some.
    static func literal(_ text: some StringProtocol) -> ComparableHost? {
        let bytes = Array(text.utf8)
        if let address = IPv6Address(bytes.span) {
            // An IPv4-mapped address equals its IPv4 address (RFC 4291 §2.5.5.2).
            if address.value >> 32 == 0xffff { return .ipv4(UInt32(truncatingIfNeeded: address.value)) }
            return .ipv6(address.value)
        }
        guard text.split(separator: ".").allSatisfy({ $0 == "0" || !$0.hasPrefix("0") }) else { return nil }
        return IPv6Address.dottedQuad(bytes.span).map { .ipv4($0) }
    }

    /// A name in lower case, with Punycode for labels that are not ASCII, without one dot at its end; nil for what is
    /// no name.
    static func canonicalName(_ text: some StringProtocol) -> String? {
        // A host alone: a colon would make it a host with a port.
        guard let ascii = HostName.ascii(text), let parsed = HostPort(ascii), parsed.port == nil,
            !parsed.isIPv6Literal
        else { return nil }
        return parsed.host.hasSuffix(".") ? String(parsed.host.dropLast()) : parsed.host
    }

    /// Whether the last label of a name is a number, so that it can be nothing but an address.
    static func endsInNumber(_ name: String) -> Bool {
        guard let last = name.split(separator: ".").last else { return false }
        return last.utf8.allSatisfy { (0x30...0x39).contains($0) } || Self.part(last) != nil
    }

    /// Whether this is the machine itself: `localhost`, `*.localhost`, 127.0.0.0/8 or `::1` (RFC 6761 §6.3).
    var isLoopback: Bool {
        switch self {
        case .ipv4(let value): value >> 24 == 127
        case .ipv6(let value): value == 1
        case .name(let name): name == "localhost" || name.hasSuffix(".localhost")
        }
    }

    /// The address of one to four numbers, decimal, octal (`0…`) or hexadecimal (`0x…`); the last fills what is left.
    private static func number(_ name: String) -> UInt32? {
        let texts = name.split(separator: ".", omittingEmptySubsequences: false)
        let parts = texts.compactMap(Self.part)
        guard (1...4).contains(texts.count), parts.count == texts.count, let last = parts.last else { return nil }
        var value: UInt64 = 0
        for part in parts.dropLast() {
            guard part <= 255 else { return nil }
            value = value << 8 | part
        }
        let bits = UInt64(8 * (5 - parts.count))
        guard last < 1 << bits else { return nil }
        return UInt32(exactly: value << bits | last)
    }

    private static func part(_ text: Substring) -> UInt64? {
        // The initialiser takes a sign, which is none here.
        guard text.first?.isNumber == true else { return nil }
        if text.hasPrefix("0x") { return text.dropFirst(2).hasPrefix("+") ? nil : UInt64(text.dropFirst(2), radix: 16) }
        return UInt64(text, radix: text.hasPrefix("0") ? 8 : 10)
    }
}
