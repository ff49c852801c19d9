// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Asking an HTTP proxy for a tunnel") struct ConnectHandshakeTests {
    static let target = "api.example.com:443"

    /// What an answer means: where it ends, or the error.
    static func outcome(
        of answer: [UInt8],
        pieces size: Int = .max,
        hasCredentials: Bool = false,
        closes: Bool = false
    ) -> Result<Int?, OutboundProxyError> {
        var handshake = ConnectHandshake(target: Self.target, hasCredentials: hasCredentials)
        var taken = 0
        while taken < answer.count {
            let piece = Array(answer[taken..<min(answer.count, taken + min(size, answer.count))])
            do throws(OutboundProxyError) {
                if let length = try handshake.receive(piece.span) { return .success(taken + length) }
            } catch {
                return .failure(error)
            }
            taken += piece.count
        }
        return closes ? .failure(handshake.closed()) : .success(nil)
    }

    static func outcome(of answer: String, hasCredentials: Bool = false) -> Result<Int?, OutboundProxyError> {
        Self.outcome(of: Array(answer.utf8), hasCredentials: hasCredentials)
    }

    // MARK: Request

    @Test("The request names the target twice and carries nothing but the login and our name")
    func request() {
        #expect(
            ConnectHandshake.request(target: "[2001:db8::1]:443", authorization: "Basic eDp5", agent: "mcp-proxy/1")
                == "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\nUser-Agent: mcp-proxy/1\r\n"
                + "Proxy-Authorization: Basic eDp5\r\n\r\n"
        )
        #expect(
            ConnectHandshake.request(target: "h:80", authorization: nil, agent: "a")
                == "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\nUser-Agent: a\r\n\r\n"
        )
    }

    // MARK: Tunnels

    static let tunnels: [(answer: String, meaning: String)] = [
        ("HTTP/1.1 200 Connection established\r\n\r\n", "plain"),
        ("HTTP/1.0 200 OK\r\nProxy-agent: tinyproxy/1.11.1\r\n\r\n", "HTTP/1.0"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "X03"),
        ("HTTP/1.1 299 Whatever\r\n\r\n", "any 2xx"),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "X04"),
        ("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "early hints"),
        ("HTTP/1.1 200\r\n\r\n", "no reason and no space"),
        ("HTTP/1.1 200 \r\n\r\n", "an empty reason"),
        ("HTTP/1.1 200 OK\nX: y\n\n", "LF alone"),
        ("HTTP/1.1 200 OK\r\nX: y\n\r\n", "both line ends"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "a length that means nothing"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "a coding that means nothing"),
        ("HTTP/1.1 200 OK\r\nno colon at all\r\n : x\r\n\r\n", "fields that are none"),
    ]

    @Test("A 2xx is a tunnel, and every byte behind its head belongs to the upstream", arguments: tunnels)
    func tunnel(answer: String, meaning: String) throws {
        let head = Array(answer.utf8)
        for rest in [[], [0x16], Array("\r\n\r\nHTTP/1.1 403 x\r\n\r\n".utf8)] as [[UInt8]] {
            #expect(try Self.outcome(of: head + rest).get() == head.count)
        }
    }

    @Test("X01, X02: the head may be split at every byte, and what comes with its end is kept", arguments: tunnels)
    func split(answer: String, meaning: String) throws {
        let bytes = Array(answer.utf8) + Array("tunnel".utf8)
        let length = answer.utf8.count
        for size in 1...bytes.count { #expect(try Self.outcome(of: bytes, pieces: size).get() == length) }
        for cut in 1..<length {
            var handshake = ConnectHandshake(target: Self.target, hasCredentials: false)
            #expect(try handshake.receive(Array(bytes[..<cut]).span) == nil)
            #expect(try handshake.receive(Array(bytes[cut...]).span) == length - cut)
        }
    }

    @Test(
        "A head that is not complete is no tunnel yet",
        arguments: ["", "H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 x\r\n\r\n"]
    )
    func incomplete(answer: String) throws {
        #expect(try Self.outcome(of: answer).get() == nil)
    }

    // MARK: Refusals

    struct Refusal: CustomTestStringConvertible {
        var answer: String
        var hasCredentials = false
        var code: OutboundProxyError.Code
        var status: Int?
        var stage: OutboundProxyError.Stage?
        /// A part of the message.
        var says: String
        var retryAfter: Int?
        var isForwardedInstead = false
        var testDescription: String { "\(self.answer.prefix(60)) \(self.hasCredentials)" }
    }

    static let refusals: [Refusal] = [
        // X05.
        Refusal(
            answer: "HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"t\"\r\n\r\n",
            code: .authRequired,
            status: 407,
            says: "no user is configured"
        ),
        Refusal(
            answer: "HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"t\"\r\n\r\n",
            hasCredentials: true,
            code: .authRejected,
            status: 407,
            says: "rejected the configured user (407)"
        ),
        Refusal(
            answer: "HTTP/1.1 407 x\r\nProxy-Authenticate: Negotiate, NTLM\r\n\r\n",
            hasCredentials: true,
            code: .authUnsupported,
            status: 407,
            says: "asked for authentication (407, offers: Negotiate, NTLM); only Basic is supported"
        ),
        Refusal(
            answer: "HTTP/1.1 407 x\r\nProxy-Authenticate: Digest realm=\"t\", nonce=\"n\"\r\n\r\n",
            code: .authUnsupported,
            status: 407,
            says: "offers: Digest"
        ),
        Refusal(
            answer: "HTTP/1.1 407 x\r\nproxy-authenticate: SECRETSCHEME x\r\n\r\n",
            hasCredentials: true,
            code: .authUnsupported,
            status: 407,
            says: "offers: other"
        ),
        Refusal(
            answer: "HTTP/1.1 407 x\r\nProxy-Authenticate: Digest a=b\r\nProxy-Authenticate: Basic realm=x\r\n\r\n",
            hasCredentials: true,
            code: .authRejected,
            status: 407,
            says: "rejected"
        ),
        Refusal(
            answer: "HTTP/1.1 407 x\r\n\r\n",
            hasCredentials: true,
            code: .authRejected,
            status: 407,
            says: "rejected the configured user (407)"
        ),
        Refusal(answer: "HTTP/1.1 407 x\r\n\r\n", code: .authRequired, status: 407, says: "(407)"),
        // tinyproxy with a wrong password.
        Refusal(
            answer: "HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"Tinyproxy\"\r\n\r\n",
            hasCredentials: true,
            code: .authRejected,
            status: 401,
            says: "rejected the configured user (401)"
        ),
        Refusal(answer: "HTTP/1.1 401 x\r\n\r\n", code: .authRequired, status: 401, says: "(401)"),
        Refusal(
            answer: "HTTP/1.1 403 x\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\n\r\n",
            code: .tunnelDenied,
            status: 403,
            says: "refused the tunnel to api.example.com:443 (CONNECT 403)",
            isForwardedInstead: true
        ),
        Refusal(
            answer: "HTTP/1.1 400 x\r\n\r\n",
            code: .tunnelDenied,
            status: 400,
            says: "400",
            isForwardedInstead: true
        ),
        Refusal(
            answer: "HTTP/1.1 404 x\r\n\r\n",
            code: .tunnelDenied,
            status: 404,
            says: "404",
            isForwardedInstead: true
        ),
        Refusal(
            answer: "HTTP/1.1 405 x\r\n\r\n",
            code: .tunnelDenied,
            status: 405,
            says: "405",
            isForwardedInstead: true
        ),
        Refusal(
            answer: "HTTP/1.1 501 x\r\n\r\n",
            code: .tunnelDenied,
            status: 501,
            says: "501",
            isForwardedInstead: true
        ),
        Refusal(
            answer: "HTTP/1.1 429 x\r\nRetry-After: 2\r\n\r\n",
            code: .tunnelDenied,
            status: 429,
            says: "429",
            retryAfter: 2
        ),
        Refusal(
            answer: "HTTP/1.1 500 Unable to connect\r\n\r\n",
            code: .tunnelUpstreamUnreachable,
            status: 500,
            says: "500"
        ),
        Refusal(
            answer: "HTTP/1.1 502 x\r\n\r\n",
            code: .tunnelUpstreamUnreachable,
            status: 502,
            says: "could not reach"
        ),
        Refusal(
            answer: "HTTP/1.1 503 x\r\nretry-after:  1 \r\n\r\n",
            code: .tunnelUpstreamUnreachable,
            status: 503,
            says: "CONNECT 503"
        ),
        Refusal(
            answer: "HTTP/1.1 503 x\r\nretry-after: 99999999999999999999999\r\n\r\n",
            code: .tunnelUpstreamUnreachable,
            status: 503,
            says: "CONNECT 503"
        ),
        Refusal(
            answer: "HTTP/1.1 503 x\r\nretry-after: 100000\r\n\r\n",
            code: .tunnelUpstreamUnreachable,
            status: 503,
            says: "CONNECT 503",
            retryAfter: 300
        ),
        Refusal(answer: "HTTP/1.1 504 x\r\n\r\n", code: .tunnelUpstreamUnreachable, status: 504, says: "CONNECT 504"),
        Refusal(
            answer: "HTTP/1.1 302 x\r\nLocation: http://elsewhere/\r\n\r\n",
            code: .protocol,
            status: 302,
            says: "redirect (302)"
        ),
        Refusal(answer: "HTTP/1.1 101 x\r\n\r\n", code: .protocol, says: "did not answer CONNECT as an HTTP proxy"),
        Refusal(answer: "OK\n", code: .protocol, says: "is the proxy type wrong"),
        Refusal(answer: "\u{5}\u{0}", code: .protocol, says: "is the proxy type wrong"),
        Refusal(answer: "HTTP/2 200\r\n", code: .protocol, says: "did not answer"),
        Refusal(answer: "HTTP/1.1 99 x\r\n", code: .protocol, says: "did not answer"),
        Refusal(answer: "HTTP/1.1 600 x\r\n", code: .protocol, says: "did not answer"),
        Refusal(answer: "HTTP/1.1 2000 x\r\n", code: .protocol, says: "did not answer"),
        Refusal(answer: "HTTP/1.1  200\r\n", code: .protocol, says: "did not answer"),
        Refusal(answer: "HTTP/1.x 200\r\n", code: .protocol, says: "did not answer"),
        Refusal(answer: "\r\nHTTP/1.1 200\r\n\r\n", code: .protocol, says: "did not answer"),
    ]

    @Test("What a proxy answers instead of a tunnel has a code, a stage and words of ours", arguments: refusals)
    func refusal(_ row: Refusal) throws {
        let bytes = Array(row.answer.utf8)
        for size in [1, 3, .max] {
            guard case .failure(let error) = Self.outcome(of: bytes, pieces: size, hasCredentials: row.hasCredentials)
            else {
                Issue.record("no refusal")
                continue
            }
            #expect(error.code == row.code)
            #expect(error.stage == row.stage ?? row.code.stage)
            #expect(error.status == row.status)
            #expect(error.retryAfterSeconds == row.retryAfter)
            #expect(error.event.contains(row.says), "\(error.event)")
            #expect(error.allowsForwarding == row.isForwardedInstead)
            #expect(!error.event.contains("SECRETSCHEME"))
            #expect(error.isMarked == row.answer.contains("X-Squid-Error"))
        }
    }

    @Test("X06: a proxy that closes said nothing, or stopped in the middle")
    func closed() {
        for (answer, stage) in [
            ("", OutboundProxyError.Stage.tunnel), ("H", .protocol), ("HTTP/1.1 200 Conn", .protocol),
        ] {
            guard case .failure(let error) = Self.outcome(of: Array(answer.utf8), closes: true) else {
                Issue.record("\(answer): no failure")
                continue
            }
            #expect(error.code == .protocol && error.stage == stage)
        }
    }

    @Test("X07: a head of 64 KiB is taken, one byte more is not, in one line or in many", arguments: [true, false])
    func size(inOneLine: Bool) throws {
        func head(of size: Int) -> [UInt8] {
            let start = Array("HTTP/1.1 200 OK\r\n".utf8)
            let end = Array("\r\n\r\n".utf8)
            var filling = Array("X: ".utf8)
            while start.count + filling.count + end.count < size {
                filling += !inOneLine && filling.count % 100 == 50 ? [0x0a, 0x78] : [0x78]
            }
            return start + filling.prefix(size - start.count - end.count) + end
        }
        let full = head(of: ConnectHandshake.headLimit)
        #expect(try Self.outcome(of: full).get() == full.count)
        guard case .failure(let error) = Self.outcome(of: head(of: ConnectHandshake.headLimit + 1)) else {
            Issue.record("taken")
            return
        }
        #expect(error.code == .protocol && error.event.contains("64 KiB"))
    }

    @Test("Ten interim answers are skipped, and no more")
    func interim() throws {
        let one = "HTTP/1.1 100 Continue\r\n\r\n"
        let ten = String(repeating: one, count: 10) + "HTTP/1.1 200 OK\r\n\r\n"
        #expect(try Self.outcome(of: ten).get() == ten.utf8.count)
        #expect(throws: OutboundProxyError.self) { try Self.outcome(of: one + ten).get() }
    }

    @Test("Random answers break no invariant")
    func random() {
        var generator = MessageGenerator(seed: 5)
        let words = [
            "HTTP/1.1 ", "200", "407", " OK", "\r\n", "\n", "\r\n\r\n", "Proxy-Authenticate: ", "Basic", "x: y",
            "\u{0}", "é",
        ]
        for _ in 0..<3_000 {
            var text = Bool.random(using: &generator) ? "HTTP/1.1 " : ""
            for _ in 0..<Int.random(in: 0...12, using: &generator) {
                text += words.randomElement(using: &generator) ?? ""
            }
            #expect(ProxyInvariants.violation(of: Array(text.utf8)) == nil, "\(text)")
        }
    }
}
