// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Names and values") struct HTTP1TextTests {
    static let tokenBytes = Set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".utf8)

    @Test("A token has token bytes only, at each position, and at least one")
    func tokens() {
        for position in 0..<3 {
            for byte in UInt8.min...UInt8.max {
                var bytes = Array("abc".utf8)
                bytes[position] = byte
                let found = HTTP1Text.isToken(bytes.span)
                #expect(found == Self.tokenBytes.contains(byte))
            }
        }
        #expect(HTTP1Text.isToken("X-Api-Key".utf8))
        for text in ["", "a b", "a:", "a\r\n", "é", "a\u{0}"] { #expect(!HTTP1Text.isToken(text.utf8)) }
        let empty: [UInt8] = []
        let found = HTTP1Text.isToken(empty.span)
        #expect(!found)
    }

    @Test("A value has no control byte at any position but a tab inside")
    func values() {
        for position in 0..<3 {
            for byte in UInt8.min...UInt8.max {
                var bytes = Array("abc".utf8)
                bytes[position] = byte
                let isInside = position == 1
                let expected =
                    switch byte {
                    case 9, 32: isInside
                    case 0..<32, 127: false
                    default: true
                    }
                let found = HTTP1Text.isFieldValue(bytes.span)
                #expect(found == expected, "\(byte) at \(position)")
            }
        }
        for text in ["", "a", "Bearer abc", "a\tb", "é"] { #expect(HTTP1Text.isFieldValue(text.utf8)) }
        for text in [" ", " a", "a ", "\ta", "a\t", "a\nb", "a\rb", "a\u{0}", "\u{7f}"] {
            #expect(!HTTP1Text.isFieldValue(text.utf8))
            let bytes = latin1(text)
            let found = HTTP1Text.isFieldValue(bytes.span)
            #expect(!found)
        }
    }

    @Test("Visible ASCII is every byte from ! to ~ and nothing else")
    func visible() {
        for byte in UInt8.min...UInt8.max {
            let bytes = [UInt8(ascii: "a"), byte]
            let found = HTTP1Text.isVisibleASCII(bytes.span)
            #expect(found == (0x21...0x7e).contains(byte))
        }
        let empty: [UInt8] = []
        let found = HTTP1Text.isVisibleASCII(empty.span)
        #expect(!found)
    }

    @Test(
        "A decimal number is one or more digits that fit",
        arguments: [
            ("0", 0), ("7", 7), ("007", 7), ("9223372036854775807", Int.max), ("9223372036854775808", nil),
            ("18446744073709551616", nil), ("", nil), ("+1", nil), ("-1", nil), ("1 ", nil), (" 1", nil), ("0x1", nil),
            ("1a", nil), ("1\u{0}", nil), ("/", nil), (":", nil),
        ] as [(String, Int?)]
    )
    func decimal(text: String, expected: Int?) {
        let bytes = latin1(text)
        let found = HTTP1Text.decimal(bytes.span)
        #expect(found == expected)
    }

    @Test(
        "A list contains a token only as a whole element",
        arguments: [
            ("close", true), ("CLOSE", true), (" close ", true), ("a, close", true), ("close,a", true),
            (",,close", true),
            ("a\t,\tclose\t", true), ("closed", false), ("a close", false), ("", false), (",", false), ("clos", false),
            ("close;q=1", false), ("\"close\"", false),
        ]
    )
    func list(text: String, expected: Bool) {
        let bytes = latin1(text)
        let found = HTTP1Text.list(bytes.span, contains: "close")
        #expect(found == expected)
    }

    @Test(
        "The media type is told in any letter case and without its parameters",
        arguments: [
            ("application/json", HTTP1MediaType.json), ("Application/JSON", .json),
            ("application/json; charset=utf-8", .json),
            ("application/json;charset=\"utf-8\"", .json), (" application/json ;a=b", .json),
            ("application/json;", .json),
            ("text/event-stream", .eventStream), ("TEXT/Event-Stream;charset=utf-8", .eventStream), ("", .other),
            (";", .other), ("application/json, text/plain", .other), ("application/jsonx", .other),
            ("text/plain", .other),
            ("application/json text/plain", .other), ("application /json", .other),
            ("application/problem+json", .other),
            ("xapplication/json", .other), ("text/plain;application/json", .other),
        ]
    )
    func mediaType(text: String, expected: HTTP1MediaType) {
        let bytes = latin1(text)
        let found = HTTP1Text.mediaType(bytes.span)
        #expect(found == expected)
    }
}

@Suite("Accept") struct HTTP1AcceptTests {
    @Test(
        "The most specific range decides, and a weight of zero excludes",
        arguments: [
            ("application/json, text/event-stream", true, true), ("application/json", true, false),
            ("text/event-stream", false, true), ("*/*", true, true), ("application/*", true, false),
            ("text/*", false, true), ("text/html", false, false), ("text/html, */*;q=0.8", true, true),
            ("APPLICATION/Json;q=0.5 , Text/Event-Stream ; q=1.0", true, true), ("application/json;q=0", false, false),
            ("*/*, application/json;q=0", false, true), ("application/json;q=0, */*", false, true),
            ("application/json, */*;q=0", true, false), ("*/*;q=0.000", false, false), ("*/*;q=0.001", true, true),
            ("text/*;q=0, text/event-stream", false, true), ("application/*, application/json;Q=0.0", false, false),
            ("application/json;q=0, application/json", true, false),
            ("application/json, application/json;q=0", true, false),
            ("application/json; charset=utf-8; q=0", false, false),
            ("application/json;x=\"a,b;q=0\"", true, false), ("application/json;x=\"a\\\",\";q=0, text/*", false, true),
            ("application/json;x=q=0", true, false), ("application/json;qq=0", true, false),
            ("application/json;q=00", true, false),
            ("application/json;q=", true, false), ("application/json;q=0.", false, false),
            ("application/json;q=x", true, false),
            ("application/jsonx, text/event-streams", false, false), ("*", false, false), ("*/json", false, false),
            (",,application/json,,", true, false), ("application/json;", true, false),
            ("application/json;\"", true, false),
            ("application/json;x=\"\\", true, false), (";q=0", false, false), ("\\", false, false),
        ]
    )
    func ranges(value: String, json: Bool, eventStream: Bool) {
        let bytes = latin1(value)
        let accept = HTTP1Accept(bytes.span)
        #expect(accept.admitsJSON == json)
        #expect(accept.admitsEventStream == eventStream)
    }

    @Test("A field without any range admits both, as no field would", arguments: ["", " ", ",", " , ,"])
    func empty(value: String) {
        let bytes = latin1(value)
        let accept = HTTP1Accept(bytes.span)
        #expect(accept.admitsJSON && accept.admitsEventStream)
    }

    @Test("Several lines are one list, in any order")
    func severalLines() {
        let lines = [latin1("application/json;q=0"), latin1("*/*")]
        for order in [lines, lines.reversed()] {
            var accept = HTTP1Accept()
            for line in order { accept.read(line.span) }
            #expect(!accept.admitsJSON)
            #expect(accept.admitsEventStream)
        }
    }
}
