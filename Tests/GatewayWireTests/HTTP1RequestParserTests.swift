// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

@Suite("HTTP/1.1 request heads") struct HTTP1RequestParserTests {
    static let plain = """
        POST /x/mcp?a=1 HTTP/1.1\r\nHost: localhost:9090\r\nContent-Type: application/json\r\n\
        Content-Length: 12\r\nX-Empty:\r\n\r\n
        """

    static func reason(_ text: String, limits: HTTP1HeadLimits = .request) -> HTTP1Error.Reason? {
        let bytes = latin1(text)
        return outcome { () throws(HTTP1Error) in try parseRequest(bytes, cuts: [bytes.count], limits: limits) }.reason
    }

    static func summary(_ text: String, limits: HTTP1HeadLimits = .request) throws -> RequestSummary? {
        let bytes = latin1(text)
        return try parseRequest(bytes, cuts: [bytes.count], limits: limits)
    }

    @Test("A head is split into its parts, and its length ends at the empty line")
    func parts() throws {
        let bytes = latin1(Self.plain + "{\"body\": 1}")
        var parser = HTTP1RequestParser()
        let parsed = try parser.parse(bytes.span)
        let length = try #require(parsed)
        func text(_ range: Range<Int>?) -> String? { range.map { String(decoding: bytes[$0], as: UTF8.self) } }

        #expect(length == Self.plain.utf8.count)
        #expect(parser.method == .post)
        #expect(text(parser.target) == "/x/mcp?a=1")
        #expect(text(parser.path) == "/x/mcp")
        #expect(text(parser.query) == "a=1")
        #expect(parser.targetForm == .origin)
        #expect(text(parser.host) == "localhost:9090")
        #expect(parser.minorVersion == 1)
        #expect(parser.framing == .length(12))
        #expect(parser.keepsAlive == true)
        #expect(parser.expectsContinue == false)
        #expect(parser.hasUpgrade == false)
        #expect(parser.fields.map(\.name) == [.host, .contentType, .contentLength, .other])
        #expect(parser.fields.map { text($0.nameRange) } == ["Host", "Content-Type", "Content-Length", "X-Empty"])
        #expect(parser.fields.map { text($0.valueRange) } == ["localhost:9090", "application/json", "12", ""])
        #expect(parser.firstIndex(of: .contentType) == 1)
        #expect(parser.firstIndex(of: .authorization) == nil)
        #expect(parser.count(of: .host) == 1)
        #expect(parser.count(of: .accept) == 0)
        #expect(text(parser.value(of: .contentLength)) == "12")
    }

    @Test("A length that was given is given again until the parser is reset, whatever stands behind the head")
    func lengthStays() throws {
        let bytes = latin1(Self.plain + Self.plain)
        var parser = HTTP1RequestParser()
        for _ in 0..<2 {
            let length = try parser.parse(bytes.span)
            #expect(length == Self.plain.utf8.count)
        }
    }

    @Test("A parser that was reset remembers nothing of the message before, complete, incomplete or refused")
    func reset() throws {
        let before = [
            "POST http://a/b?c HTTP/1.0\r\nHost: a\r\nConnection: close\r\nContent-Length: 7\r\nUpgrade: b\r\n\r\n",
            "\r\nGET /abc HTTP/1.1\r\nHo", "GET /\u{1}", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
        ]
        let bytes = latin1("GET / HTTP/1.1\r\nHost: b\r\n\r\n")
        let expected = try parseRequest(bytes, cuts: [bytes.count])
        for text in before {
            var parser = HTTP1RequestParser()
            let other = latin1(text)
            _ = outcome { () throws(HTTP1Error) in try parser.parse(other.span) }
            parser.reset()
            let length = try parser.parse(bytes.span)
            #expect(length.map { RequestSummary(parser, length: $0) } == expected)
            #expect(parser.count(of: .upgrade) == 0)
        }
    }

    @Test(
        "A request that was refused stays refused for the same reason until the parser is reset, whatever follows",
        arguments: ["GET / HTTP/1.1\r\n\r\n", "FOO / HTTP/1.1\r\n", "GET /#", "GET / HTTP/1.1\r\nX : a"]
    )
    func staysRefused(text: String) {
        var bytes = latin1(text)
        var parser = HTTP1RequestParser()
        let first = outcome { () throws(HTTP1Error) in try parser.parse(bytes.span) }
        bytes += latin1("\r\nHost: a\r\n\r\n")
        let second = outcome { () throws(HTTP1Error) in try parser.parse(bytes.span) }
        #expect(first.reason != nil)
        #expect(first == second)
    }

    @Test("An empty line before the request line is counted in the length and moves the offsets")
    func emptyLine() throws {
        let plain = try #require(try Self.summary(Self.plain))
        let moved = try #require(try Self.summary("\r\n" + Self.plain))
        #expect(moved.length == plain.length + 2)
        #expect(moved.target == (plain.target.lowerBound + 2)..<(plain.target.upperBound + 2))
        #expect(moved.fields.map(\.valueRange.lowerBound) == plain.fields.map { $0.valueRange.lowerBound + 2 })
    }

    @Test("No control byte but the tab is accepted at any place of a head")
    func controlBytes() {
        let plain = latin1(Self.plain)
        for index in plain.indices {
            for byte in Array(UInt8(0)...31) + [127] where byte != 9 && byte != plain[index] {
                var bytes = plain
                bytes[index] = byte
                let replaced = outcome { () throws(HTTP1Error) in try parseRequest(bytes, cuts: [bytes.count]) }
                bytes = plain
                bytes.insert(byte, at: index)
                let inserted = outcome { () throws(HTTP1Error) in try parseRequest(bytes, cuts: [bytes.count]) }
                // A carriage return before the request line can begin an empty line, and one line feed is then missing.
                if index == 0, byte == 13 { continue }
                #expect(replaced.reason != nil, "\(byte) for the byte at \(index)")
                #expect(inserted.reason != nil, "\(byte) before the byte at \(index)")
            }
        }
    }

    @Test("Bytes above 0x7f are accepted in values of ordinary fields only")
    func highBytes() {
        let plain = latin1("GET /a?b HTTP/1.1\r\nHost: a\r\nX-Other:a\r\n\r\n")
        let value = plain.count - 5
        for index in plain.indices {
            for byte in [UInt8(0x80), 0xa0, 0xc3, 0xff] {
                var bytes = plain
                bytes[index] = byte
                let result = outcome { () throws(HTTP1Error) in try parseRequest(bytes, cuts: [bytes.count]) }
                #expect((result.reason == nil) == (index == value), "\(byte) at \(index)")
            }
        }
    }

    @Test("A head of the limit is accepted, one byte more is refused as soon as the limit is reached")
    func headBytes() throws {
        let count = Self.plain.utf8.count
        for (limit, isAccepted) in [(count - 1, false), (count, true), (count + 1, true)] {
            let limits = HTTP1HeadLimits(headBytes: limit, fields: 100, targetBytes: 2048)
            let bytes = latin1(Self.plain + "behind")
            for cuts in [[bytes.count], Array(1...bytes.count)] {
                let result = outcome { () throws(HTTP1Error) in try parseRequest(bytes, cuts: cuts, limits: limits) }
                #expect(result.reason == (isAccepted ? nil : .headTooLarge))
            }
        }
        let limits = HTTP1HeadLimits(headBytes: 64, fields: 100, targetBytes: 2048)
        let unfinished = latin1("GET / HTTP/1.1\r\nX: " + String(repeating: "a", count: 100))
        let before = try parseRequest(unfinished, cuts: [63], limits: limits)
        #expect(before == nil)
        let at = outcome { () throws(HTTP1Error) in try parseRequest(unfinished, cuts: [64], limits: limits) }
        #expect(at.reason == .headTooLarge)
    }

    @Test("The empty line before a request counts towards the limit of the head")
    func headBytesWithEmptyLine() {
        let limits = HTTP1HeadLimits(headBytes: Self.plain.utf8.count, fields: 100, targetBytes: 2048)
        #expect(Self.reason(Self.plain, limits: limits) == nil)
        #expect(Self.reason("\r\n" + Self.plain, limits: limits) == .headTooLarge)
    }

    @Test(
        "As many fields as the limit are accepted, one more is refused",
        arguments: [(99, true), (100, true), (101, false)]
    )
    func fieldCount(count: Int, isAccepted: Bool) {
        let fields = String(repeating: "X: a\r\n", count: count - 1)
        let reason = Self.reason("GET / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n")
        #expect(reason == (isAccepted ? nil : .tooManyFields))
    }

    @Test(
        "A target of the limit is accepted, one byte more is 414",
        arguments: [(2047, true), (2048, true), (2049, false), (5000, false)]
    )
    func targetBytes(count: Int, isAccepted: Bool) throws {
        let target = "/" + String(repeating: "a", count: count - 1)
        let reason = Self.reason("GET \(target) HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(reason == (isAccepted ? nil : .targetTooLong))
        #expect(reason.map { HTTP1Error($0).status } == (isAccepted ? nil : 414))
    }

    @Test("Limits of nothing still let the parser come to a verdict")
    func tinyLimits() {
        let limits = HTTP1HeadLimits(headBytes: 0, fields: -1, targetBytes: Int.min)
        #expect(Self.reason("", limits: limits) == nil)
        #expect(Self.reason("G", limits: limits) == .headTooLarge)
        let roomy = HTTP1HeadLimits(headBytes: Int.max, fields: Int.max, targetBytes: Int.max)
        #expect(Self.reason(Self.plain, limits: roomy) == nil)
    }

    @Test("A head fed one byte at a time costs time in proportion to its length")
    func dripIsLinear() throws {
        /// The nanoseconds of this thread for both parts of a head in which so many bytes are fed one by one.
        func time(_ size: Int) throws -> UInt64 {
            let limits = HTTP1HeadLimits(headBytes: 2 * size, fields: 100, targetBytes: 2 * size)
            let start = Self.threadTime
            for text in ["GET /#A HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX#A: a\r\n\r\n"] {
                let parts = text.split(separator: "#", maxSplits: 1).map { latin1(String($0)) }
                let bytes = parts[0] + Array(repeating: UInt8(ascii: "a"), count: size) + parts[1].dropFirst()
                let parsed = try parseRequest(bytes, cuts: 1...bytes.count, limits: limits)
                #expect(parsed?.length == bytes.count)
            }
            return Self.threadTime - start
        }
        // Four times the bytes take four times as long; where each byte is looked at again, sixteen times.
        let short = try time(8_000)
        let long = try time(32_000)
        #expect(long < short * 8, "\(short) ns for a quarter of what took \(long) ns")
    }

    private static var threadTime: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    @Test("The first fault in the order of the wire decides, and one of the request line before one of the head")
    func order() {
        #expect(Self.reason("FOO /\u{1} HTTP/1.1\r\n") == .target)
        #expect(Self.reason("FOO / HTTP/2.0\r\n\r\n") == .version)
        #expect(Self.reason("FOO / HTTP/1.1\r\n bad") == .method)
        #expect(Self.reason("GET x HTTP/1.1\r\n bad") == .target)
        #expect(Self.reason("GET / HTTP/1.1\r\nExpect: x\r\nContent-Length: x\r\n\r\n") == .contentLength)
        #expect(Self.reason("GET / HTTP/1.1\r\nExpect: x\r\nContent-Length: 1\r\n\r\n") == .missingHost)
        #expect(Self.reason("GET / HTTP/1.1\r\nExpect: x\r\nHost: a\r\n\r\n") == .expectation)
        #expect(Self.reason("GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: x\r\n bad") == .obsFold)
    }

    @Test(
        "Whether the caller stays is told by version and Connection",
        arguments: [
            ("1", "", true), ("1", "Connection: close\r\n", false), ("1", "Connection: Close\r\n", false),
            ("1", "Connection: keep-alive\r\n", true), ("1", "Connection: keep-alive, close\r\n", false),
            ("1", "Connection: close\r\nConnection: keep-alive\r\n", false), ("1", "Connection: closed\r\n", true),
            ("1", "Connection: a,,\tclose ,b\r\n", false), ("1", "Connection:\r\n", true), ("0", "", false),
            ("0", "Connection: keep-alive\r\n", true), ("0", "Connection: Keep-Alive, close\r\n", false),
            ("1", "Proxy-Connection: close\r\n", true),
        ]
    )
    func keepsAlive(minor: String, fields: String, expected: Bool) throws {
        let summary = try Self.summary("GET / HTTP/1.\(minor)\r\nHost: a\r\n\(fields)\r\n")
        #expect(summary?.keepsAlive == expected)
    }

    @Test(
        "A 100 is expected only for a body and by HTTP/1.1",
        arguments: [
            ("1", "Content-Length: 1\r\n", true), ("1", "Transfer-Encoding: chunked\r\n", true),
            ("1", "Content-Length: 0\r\n", false), ("1", "", false), ("0", "Content-Length: 1\r\n", false),
        ]
    )
    func expectsContinue(minor: String, framing: String, expected: Bool) throws {
        let summary = try Self.summary("POST / HTTP/1.\(minor)\r\nHost: a\r\n\(framing)Expect: 100-continue\r\n\r\n")
        #expect(summary?.expectsContinue == expected)
    }

    @Test(
        "The framing is what Content-Length or Transfer-Encoding says, and none without them",
        arguments: [
            ("", HTTP1BodyFraming.none), ("Content-Length: 0\r\n", .length(0)), ("Content-Length: 007\r\n", .length(7)),
            ("Content-Length: 9223372036854775807\r\n", .length(.max)), ("Transfer-Encoding: Chunked\r\n", .chunked),
        ]
    )
    func framing(fields: String, expected: HTTP1BodyFraming) throws {
        let summary = try Self.summary("POST / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n")
        #expect(summary?.framing == expected)
    }

    @Test(
        "The path is the target without authority and query",
        arguments: [
            ("GET", "/", HTTP1TargetForm.origin, "/", nil), ("GET", "/a?", .origin, "/a", ""),
            ("GET", "/a?b?c", .origin, "/a", "b?c"), ("GET", "//a/b", .origin, "//a/b", nil),
            ("GET", "http://h/a?b", .absolute, "/a", "b"), ("GET", "http://h", .absolute, "", nil),
            ("GET", "HTTPS://h:443?b", .absolute, "", "b"), ("OPTIONS", "*", .asterisk, "", nil),
            ("OPTIONS", "/*", .origin, "/*", nil),
        ] as [(String, String, HTTP1TargetForm, String, String?)]
    )
    func target(method: String, target: String, form: HTTP1TargetForm, path: String, query: String?) throws {
        let bytes = latin1("\(method) \(target) HTTP/1.1\r\nHost: h\r\n\r\n")
        let summary = try #require(try parseRequest(bytes, cuts: [bytes.count]))
        #expect(summary.form == form)
        #expect(String(decoding: bytes[summary.path], as: UTF8.self) == path)
        #expect(summary.query.map { String(decoding: bytes[$0], as: UTF8.self) } == query)
    }

    @Test("Every registered method is told apart, and left to the router but CONNECT", arguments: HTTP1Method.allCases)
    func methods(method: HTTP1Method) throws {
        let name = method == .other ? "BREW" : method.rawValue
        if method == .other || method == .connect {
            #expect(Self.reason("\(name) / HTTP/1.1\r\nHost: a\r\n\r\n") == .method)
        } else {
            let summary = try Self.summary("\(name) / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(summary?.method == method)
        }
    }

    @Test("The host of HTTP/1.0 is Host, else the authority of the target, else unknown")
    func hostOfOldRequests() throws {
        for (head, expected) in [
            ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "a"), ("GET http://b/ HTTP/1.0\r\n\r\n", "b"),
            ("GET / HTTP/1.0\r\n\r\n", nil),
        ] as [(String, String?)] {
            let bytes = latin1(head)
            let summary = try parseRequest(bytes, cuts: [bytes.count])
            #expect(summary?.host.map { String(decoding: bytes[$0], as: UTF8.self) } == expected)
        }
    }

    @Test(
        "Each reason has its status, a text of its own, and closes the connection",
        arguments: HTTP1Error.Reason.allCases
    )
    func errors(reason: HTTP1Error.Reason) {
        let error = HTTP1Error(reason)
        let others: [HTTP1Error.Reason: Int] = [
            .targetTooLong: 414, .expectation: 417, .headTooLarge: 431, .tooManyFields: 431, .trailerTooLarge: 431,
            .method: 501, .version: 505,
        ]
        #expect(error.status == others[reason] ?? 400)
        #expect(!error.text.isEmpty)
        #expect(error.closesConnection)
    }
}
