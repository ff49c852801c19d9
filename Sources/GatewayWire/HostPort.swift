// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A host with an optional port, as in a `Host` header or an authority (RFC 9110 §7.2, RFC 3986 §3.2.2).
package struct HostPort: Hashable, Sendable {
    /// The host in lower case; an IPv6 literal without its brackets and in the form of RFC 5952, so that two spellings
    /// of one address are equal.
    package let host: String
    /// The port if one was written, 0...65535.
    package let port: Int?
    /// Whether the host was written as an IPv6 literal in brackets.
    package let isIPv6Literal: Bool

    package init(host: String, port: Int?, isIPv6Literal: Bool) {
        self.host = host
        self.port = port
        self.isIPv6Literal = isIPv6Literal
    }

    /// Parses `host`, `host:port`, `[v6]` or `[v6]:port`; what ``Layout`` refuses gives nil.
    package init?(_ text: some StringProtocol) {
        let bytes = Array(text.utf8)
        guard let layout = Layout(bytes.span) else { return nil }
        if layout.isIPv6Literal {
            guard let address = IPv6Address(bytes.span.extracting(layout.host)) else { return nil }
            self.host = address.text
        } else {
            self.host = String(decoding: bytes[layout.host], as: UTF8.self).lowercased()
        }
        self.port = layout.port
        self.isIPv6Literal = layout.isIPv6Literal
    }

    /// Whether this names the machine itself: `localhost`, `*.localhost`, 127.0.0.0/8 or `::1` (RFC 6761 §6.3).
    package var isLoopbackName: Bool {
        let bytes = Array(self.host.utf8)
        return Self.isLoopback(bytes.span, isIPv6Literal: self.isIPv6Literal)
    }

    /// The text of an authority: brackets around IPv6, the port if there is one.
    package var authority: String {
        let name = self.isIPv6Literal ? "[\(self.host)]" : self.host
        return self.port.map { "\(name):\($0)" } ?? name
    }

    /// Whether a host, in any letter case and without brackets, names the machine itself.
    static func isLoopback(_ host: Span<UInt8>, isIPv6Literal: Bool) -> Bool {
        if isIPv6Literal { return IPv6Address(host) == .loopback }
        let suffix: StaticString = ".localhost"
        if HTTP1Bytes.equalsIgnoringCase(host, "localhost") { return true }
        let start = host.count - suffix.utf8CodeUnitCount
        if start > 0, HTTP1Bytes.equalsIgnoringCase(host.extracting(start..<host.count), suffix) { return true }
        guard let address = IPv6Address.dottedQuad(host) else { return false }
        return address >> 24 == 127
    }
}

extension HostPort {
    /// Where host and port stand in the bytes of an authority; made without allocating.
    ///
    /// User information, an empty host, a scoped or malformed IPv6 literal, percent signs, anything but letters, digits,
    /// `-`, `.` and `_` in a name, an empty label before the last, more than 255 bytes of name, and a port that is
    /// empty, longer than five digits or above 65535 are refused: stricter than RFC 3986 §3.2.2 where real names are.
    package struct Layout: Hashable, Sendable {
        /// The host, without brackets.
        package let host: Range<Int>
        /// The port if one was written, 0...65535.
        package let port: Int?
        package let isIPv6Literal: Bool

        package init?(_ bytes: Span<UInt8>) {
            var end = 0
            if !bytes.isEmpty, bytes[0] == UInt8(ascii: "[") {
                while end < bytes.count, bytes[end] != UInt8(ascii: "]") { end &+= 1 }
                guard end < bytes.count, IPv6Address(bytes.extracting(1..<end)) != nil else { return nil }
                self.host = 1..<end
                self.isIPv6Literal = true
                end &+= 1
            } else {
                while end < bytes.count, bytes[end] != UInt8(ascii: ":") { end &+= 1 }
                guard Self.isName(bytes.extracting(0..<end)) else { return nil }
                self.host = 0..<end
                self.isIPv6Literal = false
            }
            if end == bytes.count {
                self.port = nil
                return
            }
            guard bytes[end] == UInt8(ascii: ":"), bytes.count &- end <= 6,
                let port = HTTP1Text.decimal(bytes.extracting((end &+ 1)..<bytes.count)), port <= 65535
            else { return nil }
            self.port = port
        }

        private static func isName(_ bytes: Span<UInt8>) -> Bool {
            guard (1...255).contains(bytes.count) else { return false }
            var isAfterDot = true
            for index in bytes.indices {
                switch bytes[index] {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
                    isAfterDot = false
                case UInt8(ascii: "."):
                    if isAfterDot { return false }
                    isAfterDot = true
                default:
                    return false
                }
            }
            return true
        }
    }
}
