// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// An origin whose pages may use the gateway, as `mcpProxy.allowedOrigins` lists it (contract U11).
///
/// Not only web sites have one: pages of browser extensions, of editors and of apps with a web view send an `Origin` of a
/// scheme of their own (`chrome-extension://…`, `vscode-webview://…`, `app://…`).
package enum AllowedOrigin: Hashable, Sendable, CustomStringConvertible {
    /// http or https: scheme, host and port are compared, so that letter case and a default port make no difference.
    case web(WebOrigin)
    /// Any other scheme: the text is compared byte for byte, since only its owner knows what else would be the same.
    ///
    /// The scheme is in lower case, as browsers write it.
    case other(String)

    /// Reads an origin as its pages send it: a scheme, `://`, a host with an optional port, nothing after.
    ///
    /// `null` gives nil, since a page of anybody can have that origin (a sandboxed frame, a `data:` URL), and so do `*`, a
    /// path, a query, user information, white space and what is not ASCII.
    package init?(_ text: some StringProtocol) {
        guard let range = text.firstRange(of: "://") else { return nil }
        let scheme = text[..<range.lowerBound].lowercased()
        if HTTPScheme(rawValue: scheme) != nil {
            guard let origin = WebOrigin(text) else { return nil }
            self = .web(origin)
            return
        }
        let authority = text[range.upperBound...]
        guard let first = scheme.utf8.first, Self.isLetter(first), scheme.utf8.allSatisfy(Self.isScheme),
            authority.utf8.allSatisfy(Self.isAuthority), scheme.utf8.count + authority.utf8.count <= Self.limit
        else { return nil }
        self = .other("\(scheme)://\(authority)")
    }

    /// Bytes of an origin that is not http or https; what callers send is not looked at above it.
    private static let limit = 500

    /// The origin as browsers write it.
    package var description: String {
        switch self {
        case .web(let origin): origin.description
        case .other(let text): text
        }
    }

    private static func isLetter(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
    }

    private static func isScheme(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."): true
        default: Self.isLetter(byte)
        }
    }

    /// Unreserved characters (RFC 3986 §2.3), a port, and the brackets of an address.
    private static func isAuthority(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "~"), UInt8(ascii: ":"), UInt8(ascii: "["), UInt8(ascii: "]"):
            true
        default: Self.isLetter(byte)
        }
    }
}
