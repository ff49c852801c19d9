// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A host with an optional port, as in a `Host` header or an authority (RFC 9110 §7.2, RFC 3986 §3.2.2).
package struct HostPort: Hashable, Sendable {
    /// The host in lower case; an IPv6 literal without its brackets.
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

    /// Parses `host`, `host:port`, `[v6]` or `[v6]:port`.
    ///
    /// User information, an empty host, a scoped IPv6 literal, percent signs, anything outside the letters of a
    /// registered name, and a port that is empty or above 65535 give nil.
    package init?(_ text: some StringProtocol) {
        let bytes = Array(text.utf8)
        var hostBytes: ArraySlice<UInt8>
        var rest: ArraySlice<UInt8>
        if bytes.first == UInt8(ascii: "[") {
            guard let close = bytes.firstIndex(of: UInt8(ascii: "]")) else { return nil }
            hostBytes = bytes[1..<close]
            rest = bytes[(close + 1)...]
            guard Self.isIPv6(hostBytes) else { return nil }
            self.isIPv6Literal = true
        } else {
            let colon = bytes.firstIndex(of: UInt8(ascii: ":")) ?? bytes.endIndex
            hostBytes = bytes[..<colon]
            rest = bytes[colon...]
            guard !hostBytes.isEmpty, hostBytes.allSatisfy(Self.isRegisteredNameByte) else { return nil }
            self.isIPv6Literal = false
        }
        self.host = String(decoding: hostBytes, as: UTF8.self).lowercased()
        if rest.isEmpty {
            self.port = nil
            return
        }
        guard rest.removeFirst() == UInt8(ascii: ":"), (1...5).contains(rest.count) else { return nil }
        var port = 0
        for byte in rest {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            port = port * 10 + Int(byte - UInt8(ascii: "0"))
        }
        guard port <= 65535 else { return nil }
        self.port = port
    }

    /// Whether this names the machine itself: `localhost`, `*.localhost`, 127.0.0.0/8 or `::1` (RFC 6761 §6.3).
    package var isLoopbackName: Bool {
        if self.isIPv6Literal { return self.host == "::1" || self.host == "0:0:0:0:0:0:0:1" }
        if self.host == "localhost" || self.host.hasSuffix(".localhost") { return true }
        let parts = self.host.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts[0] == "127"
            && parts.allSatisfy { part in (1...3).contains(part.count) && (UInt8(part) != nil) }
    }

    /// The text of an authority: brackets around IPv6, the port if there is one.
    package var authority: String {
        let name = self.isIPv6Literal ? "[\(self.host)]" : self.host
        return self.port.map { "\(name):\($0)" } ?? name
    }

    /// Unreserved and sub-delims of RFC 3986 §3.2.2 that occur in real names; no percent-encoding.
    private static func isRegisteredNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
            true
        default:
            false
        }
    }

    private static func isIPv6(_ bytes: ArraySlice<UInt8>) -> Bool {
        guard (2...45).contains(bytes.count), bytes.contains(UInt8(ascii: ":")) else { return false }
        return bytes.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "f"), UInt8(ascii: "A")...UInt8(ascii: "F"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: ":"), UInt8(ascii: "."):
                true
            default:
                false
            }
        }
    }
}
