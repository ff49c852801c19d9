// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The scheme of an HTTP URL.
package enum HTTPScheme: String, Hashable, Sendable {
    case http
    case https

    /// The port that a URL of this scheme means when it names none (RFC 9110 §4.2).
    package var defaultPort: Int { self == .http ? 80 : 443 }
}

/// Scheme, host and port: what decides whether two URLs are the same party (RFC 6454 §4).
package struct WebOrigin: Hashable, Sendable, CustomStringConvertible {
    package let scheme: HTTPScheme
    /// The host in lower case; an IPv6 literal without its brackets.
    package let host: String
    package let isIPv6Literal: Bool
    /// The effective port: the default of the scheme if none was written.
    package let port: Int

    package init(scheme: HTTPScheme, host: String, isIPv6Literal: Bool, port: Int) {
        self.scheme = scheme
        self.host = host
        self.isIPv6Literal = isIPv6Literal
        self.port = port
    }

    /// Parses an origin as a browser sends it: scheme, host, optional port, nothing after.
    ///
    /// `null`, and user information, give nil.
    package init?(_ text: some StringProtocol) {
        guard let url = HTTPURL(text), url.isOriginOnly, !url.hasUserInfo else { return nil }
        self = url.origin
    }

    /// Whether the host names the machine itself.
    package var isLoopback: Bool { self.hostPort.isLoopbackName }

    /// The host with the effective port.
    package var hostPort: HostPort { HostPort(host: self.host, port: self.port, isIPv6Literal: self.isIPv6Literal) }

    /// What goes into a `Host` header: the port only where it is not the scheme's own (RFC 9110 §7.2).
    package var authority: String {
        HostPort(
            host: self.host,
            port: self.port == self.scheme.defaultPort ? nil : self.port,
            isIPv6Literal: self.isIPv6Literal
        )
        .authority
    }

    package var description: String { "\(self.scheme.rawValue)://\(self.authority)" }
}

/// An absolute http or https URL, split where a client needs it split (RFC 9110 §4.2).
///
/// The target is kept as written: it is never decoded or normalised.
package struct HTTPURL: Hashable, Sendable {
    package let origin: WebOrigin
    /// Path and query as they go into a request line, at least `/`, without a fragment.
    package let target: String
    /// Whether the URL had user information (`user:password@`), which is kept nowhere.
    package let hasUserInfo: Bool
    /// Whether the URL had neither path nor query nor fragment.
    package let isOriginOnly: Bool

    /// Parses an absolute URL; anything but http and https, a bad authority, port 0, white space, control or non-ASCII
    /// bytes give nil.
    ///
    /// So does a second `@` and a backslash in the user information: others end the authority there, and would see
    /// another host than we do.
    package init?(_ text: some StringProtocol) {
        guard
            text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }),
            let colon = text.firstIndex(of: ":"),
            let scheme = HTTPScheme(rawValue: text[..<colon].lowercased())
        else { return nil }
        let afterScheme = text[text.index(after: colon)...]
        guard afterScheme.hasPrefix("//") else { return nil }
        let rest = afterScheme.dropFirst(2)
        let end = rest.firstIndex(where: { $0 == "/" || $0 == "?" || $0 == "#" }) ?? rest.endIndex
        var authority = rest[..<end]
        if let at = authority.lastIndex(of: "@") {
            guard authority[..<at].utf8.allSatisfy(Self.isUserInfo) else { return nil }
            authority = authority[authority.index(after: at)...]
            self.hasUserInfo = true
        } else {
            self.hasUserInfo = false
        }
        guard let hostPort = HostPort(authority), hostPort.port != 0 else { return nil }
        self.origin = WebOrigin(
            scheme: scheme,
            host: hostPort.host,
            isIPv6Literal: hostPort.isIPv6Literal,
            port: hostPort.port ?? scheme.defaultPort
        )
        self.isOriginOnly = end == rest.endIndex
        let target = rest[end...].prefix { $0 != "#" }
        self.target = target.hasPrefix("/") ? String(target) : "/" + target
    }

    /// The path without the query; at least `/`.
    package var path: Substring { self.target.prefix { $0 != "?" } }

    /// Reads a `Location` against this URL (RFC 9110 §10.2.2): an absolute URL or an absolute path; anything else nil.
    package func resolving(location: some StringProtocol) -> HTTPURL? {
        if location.hasPrefix("/"), !location.hasPrefix("//") { return HTTPURL("\(self.origin)\(location)") }
        return HTTPURL(location)
    }

    /// Reads a reference against this URL (RFC 3986 §5.2), as far as servers write them: an absolute URL, an absolute path,
    /// a path beside this one, or a query alone; anything else nil.
    package func resolving(reference: some StringProtocol) -> HTTPURL? {
        if reference.contains("://") || reference.hasPrefix("/") { return self.resolving(location: reference) }
        if reference.hasPrefix("?") { return HTTPURL("\(self.origin)\(self.path)\(reference)") }
        guard !reference.isEmpty, !reference.hasPrefix("#"), !reference.hasPrefix(".") else { return nil }
        let folder = self.path.lastIndex(of: "/").map { self.path[...$0] } ?? "/"
        return HTTPURL("\(self.origin)\(folder)\(reference)")
    }

    /// Unreserved, sub-delims, `%` and `:` (RFC 3986 §3.2.1).
    private static func isUserInfo(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "("), UInt8(ascii: ")"), UInt8(ascii: ","), UInt8(ascii: ":"), UInt8(ascii: ";"),
            UInt8(ascii: "="):
            true
        case UInt8(ascii: "^"), UInt8(ascii: "`"), UInt8(ascii: "|"), UInt8(ascii: "#"):
            false
        default:
            HTTP1Bytes.isToken(byte)
        }
    }
}
