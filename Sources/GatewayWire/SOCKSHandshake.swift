// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Asking a SOCKS 5 proxy for a tunnel (RFC 1928), with user and password if it wants them (RFC 1929).
///
/// Fed with pieces of any size. It never holds user and password: it says when they are to be sent.
package struct SOCKSHandshake: Sendable {
    /// Where the tunnel leads (RFC 1928 §5).
    package enum Address: Hashable, Sendable {
        case ipv4(UInt32)
        case ipv6(UInt128)
        /// At most 255 bytes; the proxy looks it up.
        case name(String)
    }

    /// What to do next.
    package enum Action: Hashable, Sendable {
        /// Send these bytes.
        case send([UInt8])
        /// Send ``login(username:password:)``.
        case sendLogin
        /// The tunnel stands.
        case established
    }

    private enum State {
        case greeting
        case login
        case reply
        case done
    }

    private static let version: UInt8 = 5
    private static let noLogin: UInt8 = 0
    private static let userPassword: UInt8 = 2
    private static let noneAcceptable: UInt8 = 0xff

    private let target: String
    private let hasCredentials: Bool
    private let request: [UInt8]
    private var state = State.greeting
    private var answer: [UInt8] = []
    private var hasSpoken = false

    /// - Parameters:
    ///   - address: where the tunnel leads.
    ///   - port: 1...65535.
    ///   - target: host and port of the upstream, for messages.
    ///   - hasCredentials: whether there are user and password to send.
    /// - Throws: `OutboundProxyError` if the name is longer than SOCKS can say.
    package init(
        to address: Address,
        port: Int,
        target: String,
        hasCredentials: Bool
    ) throws(OutboundProxyError) {
        self.target = target
        self.hasCredentials = hasCredentials
        var request: [UInt8] = [Self.version, 1, 0]
        switch address {
        case .ipv4(let value):
            request.append(1)
            request += (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * UInt32($0))) }
        case .ipv6(let value):
            request.append(4)
            request += (0..<16).map { UInt8(truncatingIfNeeded: value >> (120 - 8 * UInt128($0))) }
        case .name(let name):
            guard let length = UInt8(exactly: name.utf8.count), length > 0 else {
                throw OutboundProxyError(.socksAddressType, "cannot be told a name of more than 255 bytes")
            }
            request += [3, length]
            request += name.utf8
        }
        let number = UInt16(clamping: port)
        self.request = request + [UInt8(number >> 8), UInt8(truncatingIfNeeded: number)]
    }

    /// The first bytes to send: the login methods that we have (RFC 1928 §3).
    package var greeting: [UInt8] {
        self.hasCredentials ? [Self.version, 2, Self.noLogin, Self.userPassword] : [Self.version, 1, Self.noLogin]
    }

    /// User and password as they are sent (RFC 1929 §2); at most 255 bytes each, what is more is left out.
    package static func login(username: String, password: String) -> [UInt8] {
        let user = username.utf8.prefix(255)
        let word = password.utf8.prefix(255)
        return [1, UInt8(clamping: user.count)] + user + [UInt8(clamping: word.count)] + word
    }

    /// Takes bytes of the proxy, up to the end of one answer of its.
    ///
    /// - Returns: how many bytes it took and what to do then; no action means that more are needed and all were taken.
    package mutating func receive(
        _ bytes: Span<UInt8>
    ) throws(OutboundProxyError) -> (action: Action?, consumed: Int) {
        for index in bytes.indices {
            if case .done = self.state { return (nil, index) }
            self.hasSpoken = true
            self.answer.append(bytes[index])
            guard let action = try self.read() else { continue }
            self.answer.removeAll()
            return (action, index + 1)
        }
        return (nil, bytes.count)
    }

    /// The proxy closed the connection.
    package func closed() -> OutboundProxyError { .closed(hasSpoken: self.hasSpoken) }

    /// Looks at the answer as far as it came; nil while it is not complete.
    private mutating func read() throws(OutboundProxyError) -> Action? {
        switch self.state {
        case .greeting:
            try self.checkVersion()
            guard self.answer.count == 2 else { return nil }
            return try self.chosen(self.answer[1])
        case .login:
            guard self.answer[0] == 1 else {
                throw OutboundProxyError(
                    .protocol,
                    "answered the login in a version that does not exist (RFC 1929)",
                    stage: .auth
                )
            }
            guard self.answer.count == 2 else { return nil }
            guard self.answer[1] == 0 else {
                throw OutboundProxyError(.authRejected, "rejected the configured user")
            }
            self.state = .reply
            return .send(self.request)
        case .reply:
            try self.checkVersion()
            guard self.answer.count >= 2 else { return nil }
            guard self.answer[1] == 0 else { throw self.refusal(self.answer[1]) }
            guard try self.isReplyComplete() else { return nil }
            self.state = .done
            return .established
        case .done:
            return nil
        }
    }

    private func checkVersion() throws(OutboundProxyError) {
        switch self.answer[0] {
        case Self.version: return
        case UInt8(ascii: "H"):
            throw OutboundProxyError(
                .protocol,
                "did not answer as SOCKS5 (it looks like an HTTP server); is the proxy type wrong?"
            )
        default:
            throw OutboundProxyError(.protocol, "did not answer as SOCKS5; is the proxy type wrong?")
        }
    }

    private mutating func chosen(_ method: UInt8) throws(OutboundProxyError) -> Action {
        switch method {
        case Self.noLogin:
            self.state = .reply
            return .send(self.request)
        case Self.userPassword where self.hasCredentials:
            self.state = .login
            return .sendLogin
        case Self.userPassword:
            throw OutboundProxyError(.authRequired, "asked for user and password, and no user is configured")
        case Self.noneAcceptable where self.hasCredentials:
            throw OutboundProxyError(
                .authUnsupported,
                "accepted none of the offered login methods (none, user/password)"
            )
        case Self.noneAcceptable:
            throw OutboundProxyError(.authRequired, "accepts nobody without a login, and no user is configured")
        default:
            throw OutboundProxyError(
                .authUnsupported,
                "chose a login method that was not offered (\(method)\(method == 1 ? ", GSSAPI" : ""))"
            )
        }
    }

    /// The address that a reply ends with has no use, but a length (RFC 1928 §6).
    private func isReplyComplete() throws(OutboundProxyError) -> Bool {
        guard self.answer.count >= 4 else { return false }
        switch self.answer[3] {
        case 1: return self.answer.count == 4 + 4 + 2
        case 4: return self.answer.count == 4 + 16 + 2
        case 3: return self.answer.count >= 5 && self.answer.count == 5 + Int(self.answer[4]) + 2
        default:
            throw OutboundProxyError(.protocol, "answered with an address of a kind that does not exist")
        }
    }

    private func refusal(_ reply: UInt8) -> OutboundProxyError {
        func unreachable(_ reason: String) -> OutboundProxyError {
            OutboundProxyError(
                .tunnelUpstreamUnreachable,
                "could not reach \(self.target) (reply \(reply), \(reason))"
            )
        }
        switch reply {
        case 1: return OutboundProxyError(.socksGeneral, "failed (reply 1, general failure)")
        case 2:
            return OutboundProxyError(
                .tunnelDenied,
                "refused the tunnel to \(self.target) (reply 2, not allowed by its rules)"
            )
        case 3: return unreachable("network unreachable")
        case 4: return unreachable("host unreachable")
        case 5: return unreachable("connection refused")
        case 6: return unreachable("TTL expired")
        case 7: return OutboundProxyError(.socksCommand, "does not open connections (reply 7, command not supported)")
        case 8:
            return OutboundProxyError(
                .socksAddressType,
                "does not take this kind of address for \(self.target) (reply 8)"
            )
        default: return OutboundProxyError(.socksUnassigned, "failed (reply \(reply), which has no meaning)")
        }
    }
}

extension OutboundProxyError {
    /// Whether another address of the same upstream may be reached (SOCKS replies 3, 4, 5 and 8).
    package var concernsAddress: Bool {
        self.status == nil && (self.code == .tunnelUpstreamUnreachable || self.code == .socksAddressType)
    }
}
