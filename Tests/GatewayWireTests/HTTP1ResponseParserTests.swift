// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("HTTP/1.1 response heads") struct HTTP1ResponseParserTests {
    static let plain = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n"

    static func result(
        _ text: String,
        limits: HTTP1HeadLimits = .response,
        requestMethod: HTTP1Method = .post
    ) -> Result<ResponseSummary?, HTTP1Error> {
        let bytes = latin1(text)
        return outcome { () throws(HTTP1Error) in
            try parseResponse(bytes, cuts: [bytes.count], limits: limits, requestMethod: requestMethod)
        }
    }

    @Test("A head is split into its parts, and its length ends at the empty line")
    func parts() throws {
        let bytes = latin1(Self.plain + "{\"body\": 1}HTTP/1.1 500")
        var parser = HTTP1ResponseParser()
        for _ in 0..<2 {
            let length = try parser.parse(bytes.span)
            #expect(length == Self.plain.utf8.count)
        }
        #expect(parser.status == 200)
        #expect(parser.isInformational == false)
        #expect(parser.minorVersion == 1)
        #expect(parser.framing == .length(12))
        #expect(parser.keepsAlive == true)
        #expect(parser.hasUpgrade == false)
        #expect(parser.fields.map(\.name) == [.contentType, .contentLength])
        #expect(parser.firstIndex(of: .contentLength) == 1)
        #expect(parser.count(of: .setCookie) == 0)
        #expect(parser.value(of: .contentLength).map { String(decoding: bytes[$0], as: UTF8.self) } == "12")
        #expect(parser.value(of: .location) == nil)
    }

    @Test(
        "Odd heads that recipients have to take are taken",
        arguments: [
            "HTTP/1.1 200\r\n\r\n", "HTTP/1.1 200 \r\n\r\n", "HTTP/1.1 200 Any  text \u{e9}\t!\r\n\r\n",
            "HTTP/1.7 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nX-Empty:\r\nset-cookie: a\r\nset-cookie: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX:\ta\t\u{ff}\t\r\n\r\n", "HTTP/1.1 999 Odd\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding:Chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 00\r\n\r\n",
        ]
    )
    func accepted(text: String) throws {
        let bytes = latin1(text)
        let whole = try #require(try parseResponse(bytes, cuts: [bytes.count]))
        let dripped = try parseResponse(bytes, cuts: 1...bytes.count)
        #expect(whole.length == bytes.count)
        #expect(whole == dripped)
    }

    @Test(
        "A head that two recipients could read in two ways is refused, however it is cut",
        arguments: [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                .contentLengthAndTransferEncoding
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", .duplicateContentLength),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", .duplicateContentLength),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", .contentLength),
            ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", .contentLength),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", .contentLength),
            ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", .contentLength),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n", .contentLength),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", .transferEncoding),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", .transferEncoding),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", .transferEncoding),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", .transferEncodingInHTTP10),
            ("HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", .obsFold), ("HTTP/1.1 200 OK\r\n X: a\r\n\r\n", .obsFold),
            ("HTTP/1.1 200 OK\r\nX : a\r\n\r\n", .spaceBeforeColon), ("HTTP/1.1 200 OK\r\n: a\r\n\r\n", .fieldName),
            ("HTTP/1.1 200 OK\r\nX\r\n\r\n", .fieldName), ("HTTP/1.1 200 OK\r\nX: a\u{0}b\r\n\r\n", .fieldValue),
            ("HTTP/1.1 200 OK\r\nX: a\u{7f}\r\n\r\n", .fieldValue),
            ("HTTP/1.1 200 OK\r\nX: a\u{1b}[0m\r\n\r\n", .fieldValue),
            ("HTTP/1.1 200 OK\r\nX: a\nY: b\r\n\r\n", .bareLF), ("HTTP/1.1 200 OK\nX: a\n\n", .bareLF),
            ("HTTP/1.1 200\nX: a\n\n", .bareLF), ("HTTP/1.1 200 OK\r\nX: a\r\n\n", .bareLF),
            ("HTTP/1.1 200 OK\r\nX: a\rY: b\r\n\r\n", .bareCR), ("HTTP/1.1 200 OK\rX: a\r\n\r\n", .bareCR),
            ("HTTP/1.1 200 O\u{0}K\r\n\r\n", .statusLine), ("HTTP/1.1 200OK\r\n\r\n", .statusLine),
            ("HTTP/1.1  200 OK\r\n\r\n", .statusLine), ("HTTP/1.1\t200 OK\r\n\r\n", .statusLine),
            ("HTTP/1.1 20 OK\r\n\r\n", .statusLine), ("HTTP/1.1 2000 OK\r\n\r\n", .statusLine),
            ("HTTP/1.1 099 OK\r\n\r\n", .statusLine), ("HTTP/1.1 +20 OK\r\n\r\n", .statusLine),
            ("HTTP/1.1 2x0 OK\r\n\r\n", .statusLine), ("HTTP/1.10 200 OK\r\n\r\n", .statusLine),
            ("HTTP/1. 200 OK\r\n\r\n", .statusLine), ("http/1.1 200 OK\r\n\r\n", .statusLine),
            ("HTTP/2.0 200 OK\r\n\r\n", .version), ("HTTP/2 200\r\n\r\n", .version),
            ("HTTP/0.9 200 OK\r\n\r\n", .version),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", .statusLine), (" HTTP/1.1 200 OK\r\n\r\n", .statusLine),
            ("ICY 200 OK\r\n\r\n", .statusLine), ("{\"jsonrpc\":\"2.0\"}", .statusLine), ("<html>", .statusLine),
            ("SSH-2.0-OpenSSH_9.2\r\n", .statusLine), ("\u{15}\u{3}\u{1}", .statusLine),
            ("event: message\n", .statusLine),
        ] as [(String, HTTP1Error.Reason)]
    )
    func refused(text: String, reason: HTTP1Error.Reason) {
        let bytes = latin1(text)
        for cuts in [[bytes.count], Array(1...bytes.count)] {
            let result = outcome { () throws(HTTP1Error) in try parseResponse(bytes, cuts: cuts) }
            #expect(result.reason == reason)
        }
    }

    @Test("A response that was refused stays refused for the same reason until the parser is reset")
    func staysRefused() throws {
        let bad = latin1("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")
        let good = latin1(Self.plain)
        var parser = HTTP1ResponseParser()
        for bytes in [bad, bad + good, good] {
            let result = outcome { () throws(HTTP1Error) in try parser.parse(bytes.span) }
            #expect(result.reason == .contentLength)
        }
        parser.reset()
        let length = try parser.parse(good.span)
        #expect(length == good.count)
    }

    @Test("Every split of a head in two gives the same result")
    func splits() throws {
        let text = "HTTP/1.0 404 Not Found\r\nConnection: keep-alive\r\nContent-Length: 3\r\nX: a b\t\r\n\r\nabc"
        let bytes = latin1(text)
        let whole = try #require(try parseResponse(bytes, cuts: [bytes.count]))
        for cut in bytes.indices {
            let parsed = try parseResponse(bytes, cuts: [cut, bytes.count])
            #expect(parsed == whole, "cut at \(cut)")
        }
    }

    /// Around the eight bytes that are looked at together.
    static let lengths = [1, 2, 7, 8, 9, 15, 16, 17]

    @Test("Each byte at each place of a name is accepted only if it is a token byte", arguments: Self.lengths)
    func everyByteOfAName(length: Int) {
        for position in 0..<length {
            for byte in UInt8.min...UInt8.max {
                var name = Array(repeating: UInt8(ascii: "a"), count: length)
                name[position] = byte
                let bytes = latin1("HTTP/1.1 200 OK\r\n") + name + latin1(": b\r\n\r\n")
                let result = outcome { () throws(HTTP1Error) in try parseResponse(bytes, cuts: [bytes.count]) }
                // A colon ends the name earlier.
                let isAccepted = HTTP1TextTests.tokenBytes.contains(byte) || (byte == 0x3a && position > 0)
                #expect((result.reason == nil) == isAccepted, "\(byte) at \(position)")
            }
        }
    }

    @Test(
        "Each byte at each place of a value is accepted only if it is no control byte but tab",
        arguments: Self.lengths
    )
    func everyByteOfAValue(length: Int) {
        for position in 0..<length {
            for byte in UInt8.min...UInt8.max {
                var value = Array(repeating: UInt8(ascii: "a"), count: length)
                value[position] = byte
                let bytes = latin1("HTTP/1.1 200 OK\r\nX:") + value + latin1("\r\n\r\n")
                let result = outcome { () throws(HTTP1Error) in try parseResponse(bytes, cuts: [bytes.count]) }
                let isAccepted = byte == 9 || (byte >= 32 && byte != 127)
                #expect((result.reason == nil) == isAccepted, "\(byte) at \(position)")
            }
        }
    }

    @Test("What does not begin like a status line is refused at its first wrong byte", arguments: 0..<9)
    func refusedEarly(index: Int) {
        var bytes = latin1("HTTP/1.1 ")
        bytes[index] = UInt8(ascii: "!")
        let before = outcome { () throws(HTTP1Error) in try parseResponse(bytes, cuts: [index]) }
        let at = outcome { () throws(HTTP1Error) in try parseResponse(bytes, cuts: [index + 1]) }
        #expect(before == .success(nil))
        #expect(at.reason == .statusLine)
    }

    @Test(
        "The framing follows from status, method and fields in the order of RFC 9112 §6.3",
        arguments: [
            ("200", HTTP1Method.post, "Content-Length: 5\r\n", HTTP1BodyFraming.length(5), true),
            ("200", .post, "Content-Length: 0\r\n", .length(0), true),
            ("200", .post, "Transfer-Encoding: chunked\r\n", .chunked, true),
            ("200", .post, "", .untilClose, false),
            ("200", .post, "Connection: keep-alive\r\n", .untilClose, false),
            ("200", .post, "Connection: close\r\nContent-Length: 5\r\n", .length(5), false),
            ("200", .head, "Content-Length: 5\r\n", .none, true), ("200", .head, "", .none, true),
            ("200", .head, "Transfer-Encoding: chunked\r\n", .none, true),
            ("304", .get, "Content-Length: 5\r\n", .none, true), ("304", .get, "", .none, true),
            ("204", .delete, "", .none, true), ("204", .delete, "Content-Length: 0\r\n", .none, true),
            ("204", .delete, "Content-Length: 5\r\n", .none, false),
            ("204", .delete, "Transfer-Encoding: chunked\r\n", .none, false),
            ("100", .post, "", .none, true), ("103", .post, "Link: a\r\n", .none, true),
            ("101", .post, "", .none, true),
            ("202", .post, "Content-Length: 0\r\n", .length(0), true), ("205", .post, "", .untilClose, false),
            ("200", .connect, "", .none, true), ("200", .connect, "Content-Length: 5\r\n", .none, true),
            ("200", .connect, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", .none, true),
            ("407", .connect, "Content-Length: 5\r\n", .length(5), true), ("407", .connect, "", .untilClose, false),
        ]
    )
    func framing(status: String, method: HTTP1Method, fields: String, framing: HTTP1BodyFraming, stays: Bool) throws {
        let summary = try Self.result("HTTP/1.1 \(status) X\r\n\(fields)\r\n", requestMethod: method).get()
        #expect(summary?.framing == framing)
        #expect(summary?.keepsAlive == stays)
    }

    @Test(
        "HTTP/1.0 stays only if it says so and its body has a length",
        arguments: [
            ("", HTTP1BodyFraming.untilClose, false), ("Content-Length: 5\r\n", .length(5), false),
            ("Connection: Keep-Alive\r\nContent-Length: 5\r\n", .length(5), true),
            ("Connection: keep-alive\r\n", .untilClose, false),
        ]
    )
    func oldVersion(fields: String, framing: HTTP1BodyFraming, stays: Bool) throws {
        let summary = try Self.result("HTTP/1.0 200 OK\r\n\(fields)\r\n").get()
        #expect(summary?.minorVersion == 0)
        #expect(summary?.framing == framing)
        #expect(summary?.keepsAlive == stays)
    }

    @Test("A contradiction of framing is refused also where the status has no body", arguments: ["204", "304", "100"])
    func contradictionWithoutBody(status: String) {
        let fields = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
        #expect(Self.result("HTTP/1.1 \(status) X\r\n\(fields)\r\n").reason == .contentLengthAndTransferEncoding)
    }

    @Test("An interim head is followed by the next one after a reset, which keeps the method")
    func interim() throws {
        let bytes = latin1("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        var parser = HTTP1ResponseParser(requestMethod: .head)
        let first = try parser.parse(bytes.span)
        #expect(parser.isInformational == true)
        parser.reset()
        let second = try parser.parse(bytes.span.extracting((first ?? 0)...))
        #expect(first == 25)
        #expect(second == bytes.count - 25)
        #expect(parser.status == 200)
        #expect(parser.framing == .none)
        #expect(parser.isInformational == false)
        parser.reset(requestMethod: .get)
        _ = try parser.parse(bytes.span.extracting((first ?? 0)...))
        #expect(parser.framing == .length(5))
    }

    @Test("A head of the limit is accepted, one byte more is refused")
    func headBytes() {
        let count = Self.plain.utf8.count
        for (limit, isAccepted) in [(count - 1, false), (count, true), (count + 1, true)] {
            let limits = HTTP1HeadLimits(headBytes: limit, fields: 256, targetBytes: 1)
            #expect(Self.result(Self.plain + "x", limits: limits).reason == (isAccepted ? nil : .headTooLarge))
        }
        #expect(HTTP1HeadLimits.response.headBytes == 65536)
    }

    @Test(
        "As many fields as the limit are accepted, one more is refused",
        arguments: [(255, true), (256, true), (257, false)]
    )
    func fieldCount(count: Int, isAccepted: Bool) {
        let fields = String(repeating: "X: a\r\n", count: count)
        #expect(Self.result("HTTP/1.1 200 OK\r\n\(fields)\r\n").reason == (isAccepted ? nil : .tooManyFields))
    }
}
