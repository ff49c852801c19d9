// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire

/// The URL of an outbound proxy, taken apart (credentials §3.1).
struct OutboundProxyURL {
    typealias Kind = OutboundProxy.Kind

    /// Why a text is no proxy; it never repeats the text.
    struct Refusal: Error {
        var reason: String

        static let accepted = "accepted are http://, https://, socks5:// and socks5h:// URLs, and host:port"
    }

    /// From the scheme; nil where none was written.
    var kind: Kind?
    var hostPort: HostPort
    /// User and password as written before the `@`, decoded once.
    var username: String?
    var password: String?
    /// Whether a path or query followed, which means nothing here.
    var hasPath: Bool

    init(_ text: String) throws(Refusal) {
        var rest = Substring(text)
        if let scheme = Self.scheme(of: rest) {
            guard let kind = Kind(rawValue: scheme.lowercased()) else {
                throw Self.refusal(ofScheme: scheme.lowercased())
            }
            self.kind = kind
            rest = rest.dropFirst(scheme.count + 3)
        }
        let end = rest.firstIndex { $0 == "/" || $0 == "?" || $0 == "#" } ?? rest.endIndex
        let tail = rest[end...]
        // An @ behind the authority is the rest of a password that was not percent-encoded: what stands before it is
        // no host, and sending anything there would show it the password.
        guard !tail.contains("@") else {
            throw Refusal(reason: "a / ? or # in user or password is written percent-encoded")
        }
        self.hasPath = !tail.isEmpty && tail != "/"
        var authority = rest[..<end]
        if let at = authority.lastIndex(of: "@") {
            (self.username, self.password) = try Self.login(authority[..<at])
            authority = authority[authority.index(after: at)...]
        }
        guard let hostPort = Self.hostPort(authority) else {
            throw Refusal(reason: "there is no host, or a port outside 1 to 65535; \(Refusal.accepted)")
        }
        self.hostPort = hostPort
    }

    /// Host and port of an authority without user and password; nil for no host, or a port outside 1...65535.
    private static func hostPort(_ authority: Substring) -> HostPort? {
        guard let parsed = HostPort(authority), parsed.port != 0 else { return nil }
        return parsed
    }

    /// What stands before `://`, if it is shaped like a scheme (RFC 3986 §3.1).
    private static func scheme(of text: Substring) -> Substring? {
        let scheme = text.prefix { $0 != ":" }
        guard text.dropFirst(scheme.count).hasPrefix("://"), scheme.first?.isLetter == true,
            scheme.utf8.allSatisfy({ JSONCReader.isWordByte($0) || "+-.".utf8.contains($0) })
        else { return nil }
        return scheme
    }

    private static func refusal(ofScheme scheme: String) -> Refusal {
        if scheme.hasPrefix("socks") { return Refusal(reason: "SOCKS 4 is not supported; \(Refusal.accepted)") }
        if scheme.hasPrefix("pac") { return Refusal(reason: "PAC files are not supported; \(Refusal.accepted)") }
        return Refusal(reason: "the scheme is not supported; \(Refusal.accepted)")
    }

    private static func login(_ text: Substring) throws(Refusal) -> (String, String?) {
        let user = text.prefix { $0 != ":" }
        let password = user.endIndex == text.endIndex ? nil : text[text.index(after: user.endIndex)...]
        let decoded = password.map { PercentEncoding.decode($0) }
        guard let username = PercentEncoding.decode(user), decoded == nil || decoded != .some(nil) else {
            throw Refusal(
                reason: "user or password has a percent sign without two hexadecimal digits; % is written %25"
            )
        }
        return (username, decoded ?? nil)
    }
}

/// Whatever prints it shows the proxy without user and password.
extension OutboundProxyURL: CustomStringConvertible, CustomReflectable {
    var description: String {
        let user = self.username == nil ? "" : "\(Secret.mask)@"
        return "\((self.kind ?? .http).rawValue)://\(user)\(self.hostPort.authority)"
    }

    var customMirror: Mirror { Mirror(reflecting: self.description) }

    /// Any text for a proxy, right or wrong, in a form that can be shown (credentials §3.5).
    ///
    /// Everything up to the last `@` of the whole text counts as user and password, so that a password with any
    /// character in it is left out whole; what remains is shown only if it is a host with or without a port, and the
    /// scheme only if it is one of ours.
    static func redacted(_ text: String) -> String {
        let invalid = "<invalid proxy URL>"
        var rest = TokenText.trimmed(text[...])[...]
        var kind = Kind.http
        if let scheme = Self.scheme(of: rest) {
            guard let known = Kind(rawValue: scheme.lowercased()) else { return invalid }
            kind = known
            rest = rest.dropFirst(scheme.count + 3)
        }
        let at = rest.lastIndex(of: "@")
        if let at { rest = rest[rest.index(after: at)...] }
        let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        guard Self.hostPort(authority) != nil else { return invalid }
        return "\(kind.rawValue)://\(at == nil ? "" : "\(Secret.mask)@")\(authority)"
    }
}

extension OutboundProxy.Kind {
    /// Why user and password cannot be sent to a proxy of this kind (RFC 7617 §2, RFC 1929 §2); nil if they can.
    func refusal(ofUsername username: String, password: String) -> String? {
        guard HeaderName.isValidValue(username), HeaderName.isValidValue(password) else {
            return "user name or password has control characters"
        }
        if !self.isSOCKS, username.contains(":") {
            return "the user name has a colon, which Basic authentication cannot carry"
        }
        if self.isSOCKS, username.utf8.count > 255 || password.utf8.count > 255 {
            return "user name and password for SOCKS5 are 255 bytes each at most"
        }
        return nil
    }
}
