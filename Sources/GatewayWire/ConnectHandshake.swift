// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Asking an HTTP proxy for a tunnel (RFC 9110 §9.3.6): what is sent, and what the answer means.
///
/// Fed with pieces of any size; it takes the head of the answer to its last byte and nothing behind it, since that is the
/// upstream's already. Lenient where real proxies are: lines may end in LF alone, the reason may be missing, the version
/// is any HTTP/1, and what a 2xx says about its length means nothing.
package struct ConnectHandshake: Sendable {
    /// All heads of the answer together, interim ones included.
    package static let headLimit = 64 * 1024
    private static let interimLimit = 10

    private enum State {
        case statusLine
        case fields
    }

    private let target: String
    private let hasCredentials: Bool
    private var state = State.statusLine
    private var line: [UInt8] = []
    private var count = 0
    private var interimCount = 0
    private var status = 0
    private var challenges = AuthChallenges()
    private var retryAfterSeconds: Int?
    private var isMarked = false

    /// - Parameters:
    ///   - target: host and port of the upstream, as sent.
    ///   - hasCredentials: whether user and password were sent along.
    package init(target: String, hasCredentials: Bool) {
        self.target = target
        self.hasCredentials = hasCredentials
    }

    /// The request for a tunnel to `target`, host and port; nothing of the request that will go through it.
    ///
    /// `authorization` is the value of `Proxy-Authorization`.
    package static func request(target: String, authorization: String?, agent: String) -> String {
        var head = "CONNECT \(target) HTTP/1.1\r\nHost: \(target)\r\nUser-Agent: \(agent)\r\n"
        if let authorization { head += "Proxy-Authorization: \(authorization)\r\n" }
        return head + "\r\n"
    }

    /// Takes the next bytes of the answer.
    ///
    /// - Returns: how many of them belong to the answer when it is complete and the tunnel stands; nil while it is not.
    package mutating func receive(_ bytes: Span<UInt8>) throws(OutboundProxyError) -> Int? {
        for index in bytes.indices {
            self.count += 1
            guard self.count <= Self.headLimit else {
                throw OutboundProxyError(.protocol, "answered CONNECT with more than 64 KiB of header")
            }
            let byte = bytes[index]
            guard byte == UInt8(ascii: "\n") else {
                self.line.append(byte)
                if case .statusLine = self.state { try self.checkBeginning() }
                continue
            }
            if self.line.last == UInt8(ascii: "\r") { self.line.removeLast() }
            let isComplete = try self.readLine()
            self.line.removeAll(keepingCapacity: true)
            if isComplete { return index + 1 }
        }
        return nil
    }

    /// The proxy closed the connection.
    package func closed() -> OutboundProxyError { .closed(hasSpoken: self.count > 0) }

    private static let version = Array("HTTP/1.".utf8)

    /// Something else than HTTP is told by its first bytes: it may never send a line.
    private func checkBeginning() throws(OutboundProxyError) {
        guard self.line.count <= Self.version.count, !Self.version.starts(with: self.line) else { return }
        throw Self.noHTTP
    }

    private static let noHTTP = OutboundProxyError(
        .protocol,
        "did not answer CONNECT as an HTTP proxy; is the proxy type wrong?"
    )

    /// Whether the tunnel stands with this line.
    private mutating func readLine() throws(OutboundProxyError) -> Bool {
        switch self.state {
        case .statusLine:
            self.status = try Self.status(of: self.line)
            self.state = .fields
        case .fields where self.line.isEmpty:
            guard (100..<200).contains(self.status) else {
                guard (200..<300).contains(self.status) else {
                    var refusal = self.refusal
                    refusal.isMarked = self.isMarked
                    throw refusal
                }
                return true
            }
            self.interimCount += 1
            guard self.status != 101, self.interimCount <= Self.interimLimit else { throw Self.noHTTP }
            self.state = .statusLine
        case .fields:
            self.readField()
        }
        return false
    }

    /// `HTTP/1.1 200`, and whatever follows behind a space (RFC 9112 §4).
    private static func status(of line: [UInt8]) throws(OutboundProxyError) -> Int {
        let start = Self.version.count + 2
        guard line.count >= start + 3, line.starts(with: Self.version),
            (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(line[start - 2]), line[start - 1] == UInt8(ascii: " "),
            let status = HTTP1Text.decimal(line.span.extracting(start..<(start + 3))), (100..<600).contains(status),
            line.count == start + 3 || line[start + 3] == UInt8(ascii: " ")
        else { throw Self.noHTTP }
        return status
    }

    private mutating func readField() {
        guard let colon = self.line.firstIndex(of: UInt8(ascii: ":")) else { return }
        let value = self.line[(colon + 1)...]
        switch String(decoding: self.line[..<colon], as: UTF8.self).lowercased() {
        case "x-squid-error", "proxy-status": self.isMarked = true
        case "proxy-authenticate" where self.status == 407: self.challenges.read(value)
        case "www-authenticate" where self.status == 401: self.challenges.read(value)
        case "retry-after":
            let digits = value.drop { $0 == UInt8(ascii: " ") }
            // A date would need a clock; proxies send seconds.
            self.retryAfterSeconds = HTTP1Text.decimal(Array(digits).span).map { min(max($0, 1), 300) }
        default: break
        }
    }

    private var refusal: OutboundProxyError {
        switch self.status {
        case 407:
            return .login("407", challenges: self.challenges, hasCredentials: self.hasCredentials, status: 407)
        case 401:
            // What tinyproxy says of a wrong password (credentials §1).
            return .login("401", challenges: self.challenges, hasCredentials: self.hasCredentials, status: 401)
        case 300..<400:
            return OutboundProxyError(
                .protocol,
                "answered CONNECT with a redirect (\(self.status)), which is never followed",
                status: self.status
            )
        case 500, 502, 503, 504:
            return OutboundProxyError(
                .tunnelUpstreamUnreachable,
                "could not reach \(self.target) (CONNECT \(self.status))",
                status: self.status,
                retryAfterSeconds: self.retryAfterSeconds
            )
        default:
            return OutboundProxyError(
                .tunnelDenied,
                "refused the tunnel to \(self.target) (CONNECT \(self.status))",
                status: self.status,
                retryAfterSeconds: self.retryAfterSeconds
            )
        }
    }
}

extension OutboundProxyError {
    /// Whether an http:// upstream may still be reached by handing the proxy its requests (contract §2, `proxy.tunnel`).
    package var allowsForwarding: Bool {
        guard self.code == .tunnelDenied, let status else { return false }
        return [400, 403, 404, 405, 501].contains(status)
    }
}
