// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Chunked bodies") struct HTTP1ChunkedDecoderTests {
    static func result(_ text: String, step: Int = .max) -> Result<ChunkedBody, HTTP1Error> {
        let bytes = latin1(text)
        return outcome { () throws(HTTP1Error) in try decodeChunks(bytes, step: step) }
    }

    @Test(
        "The data come out without their framing, and what follows the end is left alone",
        arguments: [
            ("0\r\n\r\n", ""), ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"),
            ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"), ("a\r\n0123456789\r\n00\r\n\r\n", "0123456789"),
            ("0000000000000001\r\n\r\r\n0\r\n\r\n", "\r"), ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
            ("5;a=\"b\";c\r\nhello\r\n0;d\r\n\r\n", "hello"), ("5\r\nhello\r\n0\r\nX-Sum: a\r\nY:\r\n\r\n", "hello"),
            ("5;\t \u{e9}\r\nhello\r\n0\r\n\r\n", "hello"),
        ]
    )
    func decodes(text: String, data: String) throws {
        let bytes = latin1(text + "HTTP/1.1 200")
        let expected = ChunkedBody(data: latin1(data), length: text.unicodeScalars.count)
        for step in [Int.max, 1, 2, 3, 7] {
            let body = try decodeChunks(bytes, step: step)
            #expect(body == expected, "\(step) bytes at a time")
        }
        for cut in bytes.indices {
            let body = try decodeChunks(bytes, first: cut)
            #expect(body == expected, "cut at \(cut)")
        }
    }

    @Test("A body that is cut short anywhere is not at its end, and gives the data so far")
    func truncated() throws {
        let bytes = latin1("5;x\r\nhello\r\n3\r\nabc\r\n0\r\nX: a\r\n\r\n")
        for count in bytes.indices {
            let body = try decodeChunks(Array(bytes[..<count]))
            #expect(body.length == nil)
            #expect(latin1("helloabc").starts(with: body.data))
        }
    }

    @Test(
        "A body whose framing is in doubt is refused, however it is cut",
        arguments: [
            ("\r\n", .chunkSize), ("g\r\n", .chunkSize), ("0x5\r\n", .chunkSize), ("-1\r\n", .chunkSize),
            ("+1\r\n", .chunkSize), (" 1\r\n", .chunkSize), ("1 \r\n", .chunkSize), ("1\t;a\r\n", .chunkSize),
            (";a\r\n", .chunkSize), ("1_0\r\n", .chunkSize), ("1\u{0}\r\n", .chunkSize), ("\u{ff}\r\n", .chunkSize),
            ("8000000000000000\r\n", .chunkSize), ("ffffffffffffffff\r\n", .chunkSize),
            ("10000000000000005\r\n", .chunkSize), ("00000000000000000\r\n", .chunkSize), ("\n", .chunkSize),
            ("1\n", .bareLF), ("1\rX", .bareCR), ("1\r\r\n", .bareCR), ("1;a\n", .bareLF), ("1;a\rb\r\n", .bareCR),
            ("1;\u{0}\r\n", .chunkExtension), ("1;\u{7f}\r\n", .chunkExtension), ("1;\u{1b}\r\n", .chunkExtension),
            ("1\r\nab\r\n", .chunkEnd), ("1\r\na\n", .chunkEnd), ("1\r\na\rX", .chunkEnd), ("1\r\na0\r\n", .chunkEnd),
            ("0\r\n\n", .bareLF), ("0\r\n\rX", .bareCR), ("0\r\nX: a\n", .bareLF), ("0\r\nX: a\rY", .bareCR),
            ("0\r\n X: a\r\n", .obsFold), ("0\r\nX: a\r\n\tb\r\n", .obsFold), ("0\r\nX : a\r\n", .spaceBeforeColon),
            ("0\r\n: a\r\n", .fieldName), ("0\r\nX\r\n", .fieldName), ("0\r\nX(: a\r\n", .fieldName),
            ("0\r\nX\n", .bareLF),
            ("0\r\nX: \u{1}\r\n", .fieldValue), ("0\r\nX: \u{7f}\r\n", .fieldValue),
        ] as [(String, HTTP1Error.Reason)]
    )
    func refuses(text: String, reason: HTTP1Error.Reason) {
        for prefix in ["", "3\r\nabc\r\n"] {
            for step in [Int.max, 1, 2, 3] {
                #expect(Self.result(prefix + text, step: step).reason == reason)
            }
        }
    }

    @Test("A body that was refused stays refused for the same reason until the decoder is reset")
    func staysRefused() throws {
        let bad = latin1("x")
        let good = latin1("0\r\n\r\n")
        var decoder = HTTP1ChunkedDecoder()
        for bytes in [bad, good] {
            let result = outcome { () throws(HTTP1Error) in try decoder.next(bytes.span) }
            #expect(result.reason == .chunkSize)
            #expect(decoder.consumed == 0)
        }
        decoder.reset()
        let step = try decoder.next(good.span)
        #expect(step == .end)
    }

    @Test("The largest size an Int holds is accepted as a size")
    func largestSize() throws {
        let bytes = latin1("7fffffffffffffff\r\nabc")
        let body = try decodeChunks(bytes)
        #expect(body == ChunkedBody(data: latin1("abc"), length: nil))
    }

    @Test("Data are handed out in place, and what is consumed is their end")
    func steps() throws {
        let bytes = latin1("3\r\nabc\r\n0\r\n\r\nnext")
        var decoder = HTTP1ChunkedDecoder()
        #expect(decoder.consumed == 0)
        var step = try decoder.next(bytes.span)
        #expect(step == .data(3..<6))
        #expect(decoder.consumed == 6)
        #expect(!decoder.hasEnded)
        step = try decoder.next(bytes.span.extracting(6...))
        #expect(step == .end)
        #expect(decoder.consumed == 7)
        #expect(decoder.hasEnded)
        step = try decoder.next(bytes.span.extracting(13...))
        #expect(step == .end)
        #expect(decoder.consumed == 0)
        decoder.reset()
        step = try decoder.next(bytes.span.extracting(0..<0))
        #expect(step == .needsMore)
        #expect(decoder.consumed == 0)
        step = try decoder.next(bytes.span.extracting(0..<2))
        #expect(step == .needsMore)
        #expect(decoder.consumed == 2)
    }

    @Test(
        "Size line and line end of one chunk may have 4 KiB together, not a byte more",
        arguments: [(-1, true), (0, true), (1, false)]
    )
    func overheadOfOneChunk(more: Int, isAccepted: Bool) {
        // "5;", the extension, CRLF, the data, CRLF.
        let text = "5;" + String(repeating: "a", count: 4096 - 6 + more) + "\r\nhello\r\n0\r\n\r\n"
        for step in [Int.max, 1000, 1] {
            #expect(Self.result(text, step: step).reason == (isAccepted ? nil : .chunkOverhead))
        }
    }

    @Test("The trailers may have 8 KiB together, not a byte more", arguments: [(-1, true), (0, true), (1, false)])
    func trailerBytes(more: Int, isAccepted: Bool) {
        let text = "0\r\nX:" + String(repeating: "a", count: 8192 - 6 + more) + "\r\n\r\n"
        for step in [Int.max, 1000, 1] {
            #expect(Self.result(text, step: step).reason == (isAccepted ? nil : .trailerTooLarge))
        }
    }

    @Test("Extensions that outweigh the data are refused over the whole body, however small each is")
    func overheadOfTheBody() {
        let wasteful = "1;" + String(repeating: "a", count: 1000) + "\r\nx\r\n"
        #expect(Self.result(String(repeating: wasteful, count: 16)).reason == nil)
        #expect(Self.result(String(repeating: wasteful, count: 17)).reason == .chunkOverhead)
        let signed =
            "40;chunk-signature=" + String(repeating: "a", count: 64) + "\r\n"
            + String(repeating: "x", count: 64) + "\r\n"
        #expect(Self.result(String(repeating: signed, count: 5000)).reason == nil)
        #expect(Self.result(String(repeating: "1\r\nx\r\n", count: 20000)).reason == nil)
        let huge = "7fffffffffffffff;" + String(repeating: "a", count: 3000) + "\r\n"
        #expect(Self.result(String(repeating: wasteful, count: 15) + huge).reason == nil)
    }
}
