// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Asking a SOCKS proxy for a tunnel") struct SOCKSHandshakeTests {
    static let target = "api.example.com:443"
    static let name = SOCKSHandshake.Address.name("api.example.com")
    static let request: [UInt8] = [5, 1, 0, 3, 15] + Array("api.example.com".utf8) + [1, 0xbb]
    static let bound: [UInt8] = [5, 0, 0, 1, 127, 0, 0, 1, 0, 80]

    static func handshake(
        _ address: SOCKSHandshake.Address = name,
        port: Int = 443,
        hasCredentials: Bool = false
    ) throws -> SOCKSHandshake {
        try SOCKSHandshake(to: address, port: port, target: Self.target, hasCredentials: hasCredentials)
    }

    /// What happened while a proxy said this.
    struct Course: Equatable {
        var actions: [SOCKSHandshake.Action] = []
        var error: OutboundProxyError?
        /// Bytes taken.
        var consumed = 0
    }

    static func course(_ bytes: [UInt8], pieces size: Int = .max, hasCredentials: Bool = false) throws -> Course {
        var handshake = try Self.handshake(hasCredentials: hasCredentials)
        var course = Course()
        var end = 0
        while end < bytes.count, course.actions.last != .established {
            end = min(bytes.count, end + min(size, bytes.count))
            while course.consumed < end, course.actions.last != .established {
                do throws(OutboundProxyError) {
                    let (action, consumed) = try handshake.receive(Array(bytes[course.consumed..<end]).span)
                    course.consumed += consumed
                    if let action { course.actions.append(action) }
                } catch {
                    course.error = error
                    return course
                }
            }
        }
        return course
    }

    // MARK: What is sent

    @Test("The greeting offers user and password only where there are some")
    func greeting() throws {
        #expect(try Self.handshake().greeting == [5, 1, 0])
        #expect(try Self.handshake(hasCredentials: true).greeting == [5, 2, 0, 2])
    }

    static let addresses: [(SOCKSHandshake.Address, Int, [UInt8])] = [
        (.ipv4(0x7f00_0001), 80, [5, 1, 0, 1, 127, 0, 0, 1, 0, 80]),
        (.ipv4(0xfffe_fdfc), 65_535, [5, 1, 0, 1, 255, 254, 253, 252, 255, 255]),
        (.ipv6(1), 443, [5, 1, 0, 4] + Array(repeating: 0, count: 15) + [1, 1, 0xbb]),
        (
            .ipv6(0x2001_0db8_0000_0000_0000_0000_0000_0005), 8080,
            [5, 1, 0, 4, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0x1f, 0x90]
        ),
        (.name("h"), 1, [5, 1, 0, 3, 1, 0x68, 0, 1]),
    ]

    @Test("X14: addresses go as addresses, names as names, ports in network order", arguments: addresses)
    func request(address: SOCKSHandshake.Address, port: Int, bytes: [UInt8]) throws {
        var handshake = try Self.handshake(address, port: port)
        #expect(try handshake.receive([5, 0].span).action == .send(bytes))
    }

    @Test("X13: a name of 255 bytes can be said, one of 256 cannot")
    func longName() throws {
        let longest = String(repeating: "a", count: 255)
        var handshake = try Self.handshake(.name(longest))
        #expect(
            try handshake.receive([5, 0].span).action == .send([5, 1, 0, 3, 255] + Array(longest.utf8) + [1, 0xbb])
        )
        for name in [longest + "a", ""] {
            #expect { try Self.handshake(.name(name)) } throws: { error in
                (error as? OutboundProxyError)?.code == .socksAddressType
            }
        }
    }

    @Test("User and password are sent with their lengths, an empty password as one of no bytes")
    func login() {
        #expect(SOCKSHandshake.login(username: "u", password: "p") == [1, 1, 0x75, 1, 0x70])
        #expect(SOCKSHandshake.login(username: "u", password: "") == [1, 1, 0x75, 0])
        #expect(SOCKSHandshake.login(username: "ü", password: "☃:@%") == [1, 2, 0xc3, 0xbc, 6] + Array("☃:@%".utf8))
        let longest = String(repeating: "x", count: 255)
        let bytes = SOCKSHandshake.login(username: longest, password: longest)
        #expect(bytes == [1, 255] + Array(longest.utf8) + [255] + Array(longest.utf8))
        #expect(SOCKSHandshake.login(username: longest + "y", password: longest + "y") == bytes)
    }

    // MARK: Tunnels

    static let replies: [(reply: [UInt8], meaning: String)] = [
        (bound, "IPv4"),
        ([5, 0, 0, 4] + Array(repeating: 0, count: 15) + [1, 0, 80], "IPv6"),
        ([5, 0, 0, 3, 255] + Array(repeating: 0x64, count: 255) + [0, 80], "a name of 255 bytes"),
        ([5, 0, 0, 3, 0, 0, 80], "a name of no bytes"),
        ([5, 0, 0xff, 1, 0, 0, 0, 0, 0, 0], "a reserved byte that is not zero"),
    ]

    @Test("X08: answers may be split at every byte, whatever address they end with", arguments: replies)
    func tunnel(reply: [UInt8], meaning: String) throws {
        let open = [5, 0] + reply
        let guarded = [5, 2, 1, 0] + reply
        for rest in [[], [0x16, 3, 1], reply] as [[UInt8]] {
            for size in 1...(guarded.count + rest.count) {
                let plain = try Self.course(open + rest, pieces: size)
                #expect(plain == Course(actions: [.send(Self.request), .established], consumed: open.count))
                let login = try Self.course(guarded + rest, pieces: size, hasCredentials: true)
                let actions: [SOCKSHandshake.Action] = [.sendLogin, .send(Self.request), .established]
                #expect(login == Course(actions: actions, consumed: guarded.count))
            }
        }
    }

    @Test("A proxy that wants no login gets none, though there is one")
    func openProxy() throws {
        let course = try Self.course([5, 0] + Self.bound, hasCredentials: true)
        #expect(course.actions == [.send(Self.request), .established])
    }

    // MARK: Refusals

    struct Refusal: CustomTestStringConvertible {
        var bytes: [UInt8]
        var hasCredentials = false
        var code: OutboundProxyError.Code
        var stage: OutboundProxyError.Stage?
        var says: String
        var isSentAgain = false
        var concernsAddress = false
        var testDescription: String { "\(self.bytes) \(self.hasCredentials)" }
    }

    static func reply(_ code: UInt8) -> [UInt8] { [5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0] }

    static let refusals: [Refusal] = [
        // X09, X10.
        Refusal(bytes: [5, 0xff], code: .authRequired, says: "no user is configured"),
        Refusal(
            bytes: [5, 0xff],
            hasCredentials: true,
            code: .authUnsupported,
            says: "accepted none of the offered login methods (none, user/password)"
        ),
        Refusal(bytes: [5, 2], code: .authRequired, says: "asked for user and password"),
        Refusal(bytes: [5, 1], hasCredentials: true, code: .authUnsupported, says: "not offered (1, GSSAPI)"),
        Refusal(bytes: [5, 0x80], code: .authUnsupported, says: "not offered (128)"),
        // X11.
        Refusal(bytes: [5, 2, 1, 1], hasCredentials: true, code: .authRejected, says: "rejected the configured user"),
        Refusal(bytes: [5, 2, 1, 255], hasCredentials: true, code: .authRejected, says: "rejected"),
        Refusal(bytes: [5, 2, 5, 0], hasCredentials: true, code: .protocol, stage: .auth, says: "RFC 1929"),
        // X12.
        Refusal(bytes: reply(1), code: .socksGeneral, says: "reply 1", isSentAgain: true),
        Refusal(bytes: reply(2), code: .tunnelDenied, says: "refused the tunnel to api.example.com:443 (reply 2"),
        Refusal(
            bytes: reply(3),
            code: .tunnelUpstreamUnreachable,
            says: "network unreachable",
            isSentAgain: true,
            concernsAddress: true
        ),
        Refusal(
            bytes: reply(4),
            code: .tunnelUpstreamUnreachable,
            says: "host unreachable",
            isSentAgain: true,
            concernsAddress: true
        ),
        Refusal(
            bytes: reply(5),
            code: .tunnelUpstreamUnreachable,
            says: "could not reach api.example.com:443 (reply 5, connection refused)",
            isSentAgain: true,
            concernsAddress: true
        ),
        Refusal(
            bytes: reply(6),
            code: .tunnelUpstreamUnreachable,
            says: "TTL",
            isSentAgain: true,
            concernsAddress: true
        ),
        Refusal(bytes: reply(7), code: .socksCommand, says: "reply 7"),
        Refusal(bytes: reply(8), code: .socksAddressType, says: "reply 8", concernsAddress: true),
        Refusal(bytes: reply(9), code: .socksUnassigned, says: "reply 9"),
        Refusal(bytes: reply(255), code: .socksUnassigned, says: "reply 255"),
        // Not SOCKS 5 at all; X16.
        Refusal(bytes: Array("HTTP/1.1 400 x".utf8), code: .protocol, says: "it looks like an HTTP server"),
        Refusal(bytes: [4, 0x5a, 0, 0], code: .protocol, says: "did not answer as SOCKS5"),
        Refusal(bytes: [5, 0, 4, 0], code: .protocol, says: "did not answer as SOCKS5"),
        Refusal(bytes: [5, 0, 5, 0, 0, 9, 127, 0, 0, 1], code: .protocol, says: "a kind that does not exist"),
    ]

    @Test("What a proxy says instead of a tunnel has a code, a stage and words of ours", arguments: refusals)
    func refusal(_ row: Refusal) throws {
        for size in [1, 2, .max] {
            let course = try Self.course(row.bytes, pieces: size, hasCredentials: row.hasCredentials)
            let error = try #require(course.error)
            #expect(error.code == row.code)
            #expect(error.stage == row.stage ?? row.code.stage)
            #expect(error.event.contains(row.says), "\(error.event)")
            #expect(error.isSentAgain == row.isSentAgain)
            #expect(error.concernsAddress == row.concernsAddress)
            #expect(error.status == nil && error.retryAfterSeconds == nil)
        }
    }

    @Test(
        "A proxy that closes said nothing, or stopped in the middle",
        arguments: [[], [5], [5, 0], [5, 0, 5, 0, 0, 3, 9]]
    )
    func closed(bytes: [UInt8]) throws {
        var handshake = try Self.handshake()
        var taken = 0
        while taken < bytes.count { taken += try handshake.receive(Array(bytes[taken...]).span).consumed }
        #expect(handshake.closed().code == .protocol)
        #expect(handshake.closed().stage == (bytes.isEmpty ? .tunnel : .protocol))
    }

    @Test("Random answers break no invariant")
    func random() {
        var generator = MessageGenerator(seed: 7)
        for _ in 0..<5_000 {
            let count = Int.random(in: 0...40, using: &generator)
            let bytes: [UInt8] = (0..<count)
                .map { _ in .random(in: 0...(Bool.random(using: &generator) ? 5 : 255), using: &generator) }
            #expect(ProxyInvariants.violation(of: bytes) == nil, "\(bytes)")
        }
    }
}
